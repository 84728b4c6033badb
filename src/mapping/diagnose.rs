//! VRL's diagnostics and errors as ours: with file, line, and the remedy, without links.

use vrl::compiler::ExpressionError;
use vrl::compiler::runtime::Terminate;
use vrl::diagnostic::{DiagnosticList, DiagnosticMessage, Note, Severity as VrlSeverity};

use super::functions;
use super::source::Source;
use crate::diagnostic::{Diagnostic, Severity};
use crate::outcome::{Reason, ReasonCode};

/// Codes of syntax errors. What follows the first is usually its consequence.
const SYNTAX: std::ops::RangeInclusive<usize> = 200..=211;
/// Call to an undefined function.
const UNDEFINED_FUNCTION: usize = 105;

/// Converts what the compiler says about a source.
pub(super) fn convert(source: &Source, list: DiagnosticList) -> Vec<Diagnostic> {
    let mut syntax_seen = false;
    list.iter()
        .filter(|d| {
            let is_syntax = SYNTAX.contains(&d.code);
            let kept = !(is_syntax && syntax_seen);
            syntax_seen |= is_syntax;
            kept
        })
        .map(|d| one(source, d))
        .collect()
}

fn one(source: &Source, diagnostic: &vrl::diagnostic::Diagnostic) -> Diagnostic {
    let primary = diagnostic.labels.iter().find(|l| l.primary).or(diagnostic.labels.first());
    let mut helps: Vec<String> = Vec::new();
    let mut message = diagnostic.message.clone();
    if let Some(label) = primary {
        let refused = functions::refusal(source.slice(label.span.start(), label.span.end()));
        match refused.filter(|_| diagnostic.code == UNDEFINED_FUNCTION) {
            Some(why) => {
                let name = source.slice(label.span.start(), label.span.end());
                message = format!("`{name}` is not available: {why}");
            }
            None => helps.extend(label_texts(diagnostic, &message)),
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
        converted.help = Some(helps.join("; "));
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

/// Keeps the notes that help without a link.
fn note(note: &Note) -> Option<String> {
    let text = match note {
        Note::Hint(_) | Note::Example(_) | Note::CoerceValue | Note::Basic(_) => note.to_string(),
        Note::UserErrorMessage(text) => text.clone(),
        _ => return None,
    };
    let text = text.trim().to_owned();
    (!text.is_empty()).then_some(text)
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
    match error.labels().first() {
        Some(label) => {
            let at = source.locate(label.span.start());
            format!("{}:{}:{}: {text}", at.file, at.line, at.column)
        }
        None => format!("{}: {text}", source.locate(usize::MAX).file),
    }
}
