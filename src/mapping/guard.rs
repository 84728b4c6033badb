//! What is refused before VRL's compiler sees a source: nesting that it cannot bear.
//!
//! Its parser and compiler have no limit of their own: a thousand nested brackets overflow the
//! stack and end the process, and the time for a chain of operators grows with its third power
//! (100 in 20 ms, 400 in a second, 2000 in minutes). So the source is read once as a sequence of
//! marks and words, which counts both along every path from a statement inwards.

use std::iter::Peekable;
use std::str::CharIndices;

use super::source::Source;
use crate::diagnostic::Diagnostic;

/// Deepest nesting of brackets.
const MAX_BRACKETS: usize = 100;
/// Most operators along one path of a statement.
const MAX_OPERATORS: usize = 100;

/// Checks a source.
///
/// # Errors
///
/// `script_too_deep` for brackets or operators beyond the limits, `not_portable` for the statement
/// `break`.
pub(super) fn check(source: &Source) -> Result<(), Box<Diagnostic>> {
    let mut guard = Guard::new(source);
    while let Some((at, ch)) = guard.chars.next() {
        guard.mark(at, ch)?;
    }
    Ok(())
}

/// A bracket that is open, or the whole program.
#[derive(Default)]
struct Frame {
    /// Operators of the current statement in this bracket.
    operators: usize,
    /// Most operators along a path through a closed bracket of the current statement.
    within: usize,
    /// The same for a whole statement, over the statements that have ended.
    deepest: usize,
}

impl Frame {
    fn end_statement(&mut self) {
        self.deepest = self.deepest.max(self.operators + self.within);
        self.operators = 0;
        self.within = 0;
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Last {
    Operator,
    Other,
}

struct Guard<'a> {
    source: &'a Source,
    chars: Peekable<CharIndices<'a>>,
    outer: Vec<Frame>,
    frame: Frame,
    /// Operators of the statements around the current bracket.
    around: usize,
    last: Last,
    line_ended: bool,
    previous: char,
}

impl<'a> Guard<'a> {
    fn new(source: &'a Source) -> Self {
        Self {
            source,
            chars: source.text().char_indices().peekable(),
            outer: Vec::new(),
            frame: Frame::default(),
            around: 0,
            last: Last::Other,
            line_ended: false,
            previous: '\n',
        }
    }

    fn mark(&mut self, at: usize, ch: char) -> Result<(), Box<Diagnostic>> {
        let previous = std::mem::replace(&mut self.previous, ch);
        match ch {
            '\n' => self.line_ended = true,
            '#' => while self.chars.next_if(|(_, c)| *c != '\n').is_some() {},
            c if c.is_whitespace() => {}
            c if is_word(c) => return self.word(at, ch, previous),
            _ => {
                self.begin(false);
                let operator = is_operator(ch);
                match ch {
                    '"' => self.text(at)?,
                    '(' | '[' | '{' => self.open(at)?,
                    ')' | ']' | '}' => self.close(),
                    ',' | ';' => self.frame.end_statement(),
                    // In `call!(…)` it is a part of the name.
                    '!' if is_word(previous) && self.next_is('(') => {}
                    '!' => self.operator(at)?,
                    _ if operator => {
                        while self.chars.next_if(|(_, c)| is_operator(*c) && *c != '!').is_some() {}
                        self.operator(at)?;
                    }
                    _ => {}
                }
                self.last = if operator { Last::Operator } else { Last::Other };
            }
        }
        Ok(())
    }

    /// Begins a token: the line end before it ends a statement, unless an operator or `else`
    /// carries it on.
    fn begin(&mut self, is_else: bool) {
        if std::mem::take(&mut self.line_ended) && self.last != Last::Operator && !is_else {
            self.frame.end_statement();
        }
    }

    fn word(&mut self, at: usize, first: char, previous: char) -> Result<(), Box<Diagnostic>> {
        if matches!(first, 's' | 'r' | 't') && self.next_is('\'') {
            self.begin(false);
            self.last = Last::Other;
            self.quoted();
            return Ok(());
        }
        let mut end = at + first.len_utf8();
        while let Some((next, c)) = self.chars.next_if(|(_, c)| is_word(*c)) {
            end = next + c.len_utf8();
            self.previous = c;
        }
        let word = self.source.slice(at, end);
        let is_field = previous == '.';
        self.begin(word == "else" && !is_field);
        self.last = Last::Other;
        match word {
            "else" | "abort" | "return" if !is_field => self.operator(at),
            "break" if !is_field && !self.next_is(':') => Err(self.not_portable(at, end)),
            _ => Ok(()),
        }
    }

    fn open(&mut self, at: usize) -> Result<(), Box<Diagnostic>> {
        self.around += self.frame.operators;
        self.outer.push(std::mem::take(&mut self.frame));
        if self.outer.len() > MAX_BRACKETS {
            return Err(self.too_deep(at, "brackets", MAX_BRACKETS));
        }
        Ok(())
    }

    fn close(&mut self) {
        // A bracket too many is the compiler's to tell.
        let Some(outer) = self.outer.pop() else { return };
        let mut inner = std::mem::replace(&mut self.frame, outer);
        inner.end_statement();
        self.around = self.around.saturating_sub(self.frame.operators);
        self.frame.within = self.frame.within.max(inner.deepest);
    }

    fn operator(&mut self, at: usize) -> Result<(), Box<Diagnostic>> {
        self.frame.operators += 1;
        self.limit(at)
    }

    fn limit(&self, at: usize) -> Result<(), Box<Diagnostic>> {
        if self.around + self.frame.operators + self.frame.within > MAX_OPERATORS {
            return Err(self.too_deep(at, "operators", MAX_OPERATORS));
        }
        Ok(())
    }

    /// Reads the rest of a `"…"` text; VRL makes a chain of `+` of its templates.
    fn text(&mut self, at: usize) -> Result<(), Box<Diagnostic>> {
        let mut templates = 0;
        while let Some((_, ch)) = self.chars.next() {
            match ch {
                '\\' => {
                    self.chars.next();
                }
                '"' => break,
                '{' if self.chars.next_if(|(_, c)| *c == '{').is_some() => templates += 1,
                _ => {}
            }
        }
        self.frame.within = self.frame.within.max(2 * templates);
        if templates == 0 { Ok(()) } else { self.limit(at) }
    }

    /// Reads the rest of an `s'…'`, `r'…'`, or `t'…'`.
    fn quoted(&mut self) {
        self.chars.next();
        while let Some((_, ch)) = self.chars.next() {
            match ch {
                '\\' => {
                    self.chars.next();
                }
                '\'' => break,
                _ => {}
            }
        }
    }

    fn next_is(&mut self, wanted: char) -> bool {
        self.chars.peek().is_some_and(|(_, c)| *c == wanted)
    }

    fn too_deep(&self, at: usize, what: &str, limit: usize) -> Box<Diagnostic> {
        Box::new(
            Diagnostic::error("script_too_deep", format!("more than {limit} nested {what}"))
                .at(self.source.place(at, at + 1))
                .help("give parts of the statement a name of their own with a variable"),
        )
    }

    fn not_portable(&self, at: usize, end: usize) -> Box<Diagnostic> {
        let message = "`break` is not available: stock Vector does not have it yet, so the script \
                       would not run there";
        Box::new(
            Diagnostic::error("not_portable", message)
                .at(self.source.place(at, end))
                .help("guard what follows with a condition"),
        )
    }
}

fn is_word(ch: char) -> bool {
    ch.is_ascii_alphanumeric() || matches!(ch, '_' | '@')
}

fn is_operator(ch: char) -> bool {
    matches!(ch, '!' | '&' | '*' | '+' | '-' | '/' | '<' | '=' | '>' | '?' | '|')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &str) -> Result<(), Box<Diagnostic>> {
        check(&Source::join([("a.vrl", text)]).unwrap())
    }

    fn refused(text: &str) -> String {
        check_text(text).unwrap_err().message
    }

    #[test]
    fn brackets_are_counted_outside_texts_and_comments() {
        let n = 100;
        assert_eq!(check_text(&format!("x = {}1{}", "(".repeat(n), ")".repeat(n))), Ok(()));
        assert_eq!(refused(&"(".repeat(n + 1)), "more than 100 nested brackets");
        assert_eq!(check_text(&format!("x = \"{}\"", "(".repeat(n + 1))), Ok(()));
        assert_eq!(check_text(&format!("x = \"\\\"{}\"", "(".repeat(n + 1))), Ok(()));
        assert_eq!(check_text(&format!("x = s'\\'{}'", "(".repeat(n + 1))), Ok(()));
        assert_eq!(check_text(&format!("x = 1 # {}\ny = 2", "(".repeat(n + 1))), Ok(()));
        assert!(check_text(&format!("x = items'{}'", "(".repeat(n + 1))).is_err());
    }

    #[test]
    fn operators_are_counted_per_statement() {
        let hundred = format!("x = 1{}", " + 1".repeat(99));
        assert_eq!(check_text(&hundred), Ok(()));
        assert_eq!(check_text(&format!("{hundred}\n{hundred}; {hundred}")), Ok(()));
        assert_eq!(refused(&format!("{hundred} + 1")), "more than 100 nested operators");
        assert_eq!(refused(&format!("{hundred} +\n1")), "more than 100 nested operators");
        assert_eq!(
            refused(&format!("x = {}true", "!".repeat(100))),
            "more than 100 nested operators"
        );
        assert_eq!(check_text(&"x = f!(.a)\n".repeat(200)), Ok(()));
        assert_eq!(check_text(&format!("x = [{}]", "1 + 1, ".repeat(300))), Ok(()));
    }

    #[test]
    fn operators_add_up_through_brackets() {
        let chain = " + 1".repeat(60);
        assert!(check_text(&format!("x = (1{chain}){chain}")).is_err());
        assert!(check_text(&format!("x = 1{chain} + (1{chain})")).is_err());
        assert_eq!(check_text(&format!("x = [(1{chain}), (1{chain})]")), Ok(()));
    }

    #[test]
    fn templates_and_else_count_as_operators() {
        assert!(check_text(&format!("x = \"{}\"", "{{ a }} ".repeat(51))).is_err());
        assert_eq!(check_text(&format!("x = \"{}\"", "{{ a }} ".repeat(49))), Ok(()));
        let chain = "\nelse if .a == 1 { .b = 1 }".repeat(101);
        assert!(check_text(&format!("if .a == 0 {{ .b = 0 }}{chain}")).is_err());
        assert!(check_text(&"return ".repeat(101)).is_err());
    }

    #[test]
    fn break_is_refused_as_a_statement_only() {
        assert_eq!(check_text("x = .break\ny = x.break"), Ok(()));
        let diagnostic = check_text("for_each([1]) -> |_i, _v| {\n  break\n}").unwrap_err();
        assert_eq!(diagnostic.code, "not_portable");
        assert_eq!(diagnostic.place.unwrap().line, 2);
    }

    #[test]
    fn an_unfinished_text_is_left_to_the_compiler() {
        for text in ["x = \"abc", "x = s'abc", "x = \"\\", "# only", ")))", ""] {
            assert_eq!(check_text(text), Ok(()), "{text}");
        }
    }
}
