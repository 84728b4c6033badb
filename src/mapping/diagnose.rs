//! VRL's diagnostics and errors as ours: with file, line, and the remedy, without links.

use vrl::compiler::ExpressionError;
use vrl::compiler::runtime::Terminate;
use vrl::diagnostic::{DiagnosticList, DiagnosticMessage, Note, Severity as VrlSeverity};

use super::functions;
use super::source::Source;
use crate::diagnostic::{Diagnostic, Severity};
use crate::outcome::{Reason, ReasonCode};

/// Codes of syntax errors.
const SYNTAX: std::ops::RangeInclusive<usize> = 200..=211;
/// Call to an undefined function.
const UNDEFINED_FUNCTION: usize = 105;
/// A `!` behind the name of a function that cannot fail.
const NEEDLESS_ABORT: usize = 620;
/// A `??` behind an expression that cannot fail.
const NEEDLESS_COALESCING: usize = 651;

/// Converts what the compiler says about a source.
pub(super) fn convert(source: &Source, list: DiagnosticList) -> Vec<Diagnostic> {
    // What follows a syntax error, of whatever kind, is usually its consequence.
    match list.iter().filter(|d| SYNTAX.contains(&d.code)).min_by_key(|d| start(d)) {
        Some(first) => vec![one(source, first)],
        None => list.iter().map(|d| one(source, d)).collect(),
    }
}

fn start(diagnostic: &vrl::diagnostic::Diagnostic) -> usize {
    diagnostic.labels.first().map_or(usize::MAX, |label| label.span.start())
}

fn one(source: &Source, diagnostic: &vrl::diagnostic::Diagnostic) -> Diagnostic {
    let primary = diagnostic.labels.iter().find(|l| l.primary).or(diagnostic.labels.first());
    let mut helps: Vec<String> = Vec::new();
    let mut message = diagnostic.message.clone();
    if let Some(label) = primary {
        let name = source.slice(label.span.start(), label.span.end());
        match (diagnostic.code, functions::refusal(name)) {
            (UNDEFINED_FUNCTION, Some(why)) => {
                message = format!("`{name}` is not available: {why}");
            }
            (NEEDLESS_ABORT, _) => {
                let name = name.trim_end_matches('!');
                message = format!("`{name}` cannot fail here");
                helps.push(format!("write `{name}` without `!`"));
            }
            (NEEDLESS_COALESCING, _) => {
                message =
                    "this expression cannot fail, so what follows `??` is never used".to_owned();
                helps.push("leave out `??` and what follows it".to_owned());
            }
            _ => helps.extend(label_texts(diagnostic, &message)),
        }
    }
    helps.extend(diagnostic.notes.iter().filter_map(note));
    let mut converted = Diagnostic {
        severity: match diagnostic.severity {
            VrlSeverity::Warning | VrlSeverity::Note => Severity::Warning,
            VrlSeverity::Bug | VrlSeverity::Error => Severity::Error,
        },
        code: format!("E{:03}", diagnostic.code),
        message,
        place: primary.map(|label| source.place(label.span.start(), label.span.end())),
        help: None,
    };
    if !helps.is_empty() {
        converted.help = Some(sentence(&helps));
    }
    converted
}

fn label_texts(diagnostic: &vrl::diagnostic::Diagnostic, message: &str) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for label in &diagnostic.labels {
        let text = label.message.trim();
        if !text.is_empty() && text != message && !texts.iter().any(|t| t == text) {
            texts.push(text.to_owned());
        }
    }
    texts
}

/// Joins helps to one line; code, which VRL indents or puts behind a colon, goes between backticks.
fn sentence(helps: &[String]) -> String {
    let mut line = String::new();
    let mut code_follows = false;
    for help in helps {
        // The line itself begins with the word.
        let text = help.trim();
        let text = text.strip_prefix("help: ").or(text.strip_prefix("hint: ")).unwrap_or(text);
        let code = help.starts_with(' ') || line.ends_with(':');
        let join = match (line.is_empty(), code, line.ends_with(':')) {
            (true, ..) => "",
            (_, true, true) => " ",
            (_, true, false) if code_follows => ", ",
            (_, true, false) => ": ",
            (_, false, _) => "; ",
        };
        line.push_str(join);
        if code {
            line.push_str(&format!("`{text}`"));
        } else {
            line.push_str(text);
        }
        code_follows = code;
    }
    line
}

/// Keeps the notes that help without a link.
fn note(note: &Note) -> Option<String> {
    let text = match note {
        Note::Hint(_) | Note::Example(_) | Note::CoerceValue | Note::Basic(_) => note.to_string(),
        Note::UserErrorMessage(text) => text.clone(),
        _ => return None,
    };
    (!text.trim().is_empty()).then_some(text)
}

/// Tells why a run was terminated.
pub(super) fn reason(source: &Source, terminate: Terminate) -> Reason {
    match terminate {
        Terminate::Interrupted => Reason::new(
            ReasonCode::ScriptBudget,
            format!("{}: the script did not end within its budget", source.locate(usize::MAX).file),
        ),
        Terminate::Abort(error @ ExpressionError::Abort { .. }) => Reason::new(
            ReasonCode::ScriptAbort,
            user_text(&error).unwrap_or_else(|| error.message()),
        ),
        Terminate::Abort(error) | Terminate::Error(error) => {
            let detail = user_text(&error).unwrap_or_else(|| placed(source, &error));
            Reason::new(ReasonCode::ScriptError, detail)
        }
    }
}

/// The script author's own words: those of `assert!(…, message: …)`.
fn user_text(error: &ExpressionError) -> Option<String> {
    match error {
        ExpressionError::Abort { message, .. } => message.clone(),
        _ => error.notes().into_iter().rev().find_map(|note| match note {
            Note::UserErrorMessage(text) => Some(text),
            _ => None,
        }),
    }
}

/// Longest error text that is shown, in characters.
const MAX_TEXT: usize = 200;

/// Takes out what stands between quotes: VRL quotes the event's values there, and a reason is read
/// in more places than the event may be.
fn masked(text: &str) -> String {
    let mut out = String::new();
    let mut open: Option<char> = None;
    let mut previous = ' ';
    for ch in text.chars().take(MAX_TEXT) {
        match open {
            Some(quote) if ch == quote && previous != '\\' => {
                open = None;
                out.push('…');
                out.push(ch);
            }
            Some(_) => {}
            None => {
                // An apostrophe inside of a word opens nothing.
                if matches!(ch, '"' | '`') || ch == '\'' && !previous.is_alphanumeric() {
                    open = Some(ch);
                }
                out.push(ch);
            }
        }
        previous = ch;
    }
    if open.is_some() || text.chars().count() > MAX_TEXT {
        out.push('…');
    }
    out
}

fn placed(source: &Source, error: &ExpressionError) -> String {
    let message = error.message();
    // VRL gives the place as byte offsets into the joined text, which say nothing to a reader.
    let text = match message.split_once("): ") {
        Some((head, text)) if head.starts_with("function call error for ") => {
            let name = head.split('"').nth(1).unwrap_or("function");
            format!("{name}: {text}")
        }
        _ => message.clone(),
    };
    let text = masked(&text);
    match error.labels().first() {
        Some(label) => {
            let at = source.locate(label.span.start());
            format!("{}:{}:{}: {text}", at.file, at.line, at.column)
        }
        None => format!("{}: {text}", source.locate(usize::MAX).file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helps_do_not_repeat_the_word() {
        let helps = ["this can't fail".to_owned(), "help: use the result".to_owned()];
        assert_eq!(sentence(&helps), "this can't fail; use the result");
    }

    #[test]
    fn quoted_values_are_taken_out_of_error_texts() {
        assert_eq!(masked(r#"invalid timestamp "2024-\"x" here"#), r#"invalid timestamp "…" here"#);
        assert_eq!(masked("can't read 'ada@example.org'"), "can't read '…'");
        assert_eq!(masked("unfinished `secret"), "unfinished `…");
        assert!(masked(&"x".repeat(1000)).chars().count() <= MAX_TEXT + 1);
    }
}
