//! The operator's mistake: a coded message with its place and a remedy.
//!
//! Configuration diagnostics show file, line, column, and key path, never a line or a value, since
//! a misspelt key may hold a secret. Script diagnostics may carry the source line.

use std::fmt;

/// How grave a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// Worth telling; nothing is refused.
    Warning,
    /// What it speaks about is refused.
    Error,
}

/// Where a diagnostic points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// File as the operator named it.
    pub file: String,
    /// Line, from 1; 0 when the whole file is meant.
    pub line: u32,
    /// Column in characters, from 1; 0 when the whole line is meant.
    pub column: u32,
    /// Key path in a configuration, such as `customerio.region`.
    pub key: Option<String>,
    /// The source line and the length in characters to underline (scripts only).
    pub source: Option<(String, u32)>,
}

/// One message to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnostic {
    /// How grave it is.
    pub severity: Severity,
    /// Stable code, such as `E103` (VRL's own) or `unknown_key`.
    pub code: String,
    /// What is wrong: lower-case, without a final full stop.
    pub message: String,
    /// Where it is wrong.
    pub place: Option<Place>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Makes an error without place and help.
    pub fn error(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: code.into(),
            message: message.into(),
            place: None,
            help: None,
        }
    }

    /// Makes a warning without place and help.
    pub fn warning(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Sets where it is wrong.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Sets the remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{name}[{}]: {}", self.code, self.message)?;
        if let Some(place) = &self.place {
            write!(f, "\n  --> {}", place.file)?;
            if place.line > 0 {
                write!(f, ":{}", place.line)?;
                if place.column > 0 {
                    write!(f, ":{}", place.column)?;
                }
            }
            if let Some(key) = &place.key {
                write!(f, " ({key})")?;
            }
            if let Some((text, len)) = &place.source {
                let number = place.line.to_string();
                let pad = " ".repeat(number.len());
                let indent = " ".repeat(place.column.saturating_sub(1) as usize);
                let marks = "^".repeat((*len).max(1) as usize);
                write!(f, "\n {pad} |\n {number} | {text}\n {pad} | {indent}{marks}")?;
            }
        }
        if let Some(help) = &self.help {
            write!(f, "\n  = help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// Everything that is wrong at once, as one error.
///
/// `Display` and `Debug` both show every diagnostic in full, one after the other, so that a `main`
/// that returns it tells the operator what to do.
///
/// ```
/// use rudder_customerio::config::{Config, LoadMode};
///
/// let load = || -> Result<(), Box<dyn std::error::Error>> {
///     Config::parse("data_dirs: x", "app.yaml", LoadMode::WithoutSecrets, &|_| None)?;
///     Ok(())
/// };
/// assert!(load().unwrap_err().to_string().contains("--> app.yaml:1:1 (data_dirs)"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, diagnostic) in self.0.iter().enumerate() {
            write!(f, "{}{diagnostic}", if n == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Diagnostics {}

impl std::ops::Deref for Diagnostics {
    type Target = [Diagnostic];

    fn deref(&self) -> &[Diagnostic] {
        &self.0
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl From<Vec<Diagnostic>> for Diagnostics {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self(diagnostics)
    }
}

impl From<Diagnostics> for Vec<Diagnostic> {
    fn from(Diagnostics(diagnostics): Diagnostics) -> Self {
        diagnostics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_one_error_every_diagnostic_is_shown_in_both_forms() {
        let all =
            vec![Diagnostic::error("a", "first").help("x"), Diagnostic::warning("b", "second")];
        let error: Box<dyn std::error::Error + Send + Sync> = Diagnostics::from(all).into();
        let text = "error[a]: first\n  = help: x\nwarning[b]: second";
        assert_eq!((error.to_string(), format!("{error:?}")), (text.to_owned(), text.to_owned()));
    }

    #[test]
    fn a_script_diagnostic_shows_place_line_and_help() {
        let text = Diagnostic::error("E103", "unhandled fallible call")
            .at(Place {
                file: "track.vrl".into(),
                line: 12,
                column: 5,
                key: None,
                source: Some(("x = downcase(.a)".into(), 12)),
            })
            .help("handle it with `??` or `!`")
            .to_string();
        assert_eq!(
            text,
            "error[E103]: unhandled fallible call\n  --> track.vrl:12:5\n    |\n 12 | x = downcase(.a)\n    |     ^^^^^^^^^^^^\n  = help: handle it with `??` or `!`"
        );
    }
}
