//! What decoding knows besides the value: where it is, how references resolve, what was found wrong.

use super::load_mode::LoadMode;
use super::reference::{self, Written};
use super::suggest::nearest;
use super::tree::{Data, Node, Position};
use crate::diagnostic::{Diagnostic, Place, Severity};

/// Sections whose references matter to commands that send nothing.
const ALWAYS_NEEDED: [&str; 3] = ["filter", "consent", "mapping"];

/// State of decoding one document. All mistakes are collected here, not only the first.
pub(super) struct Context<'a> {
    file: &'a str,
    mode: LoadMode,
    env: &'a dyn Fn(&str) -> Option<String>,
    path: String,
    /// Everything found so far.
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// A scalar after its reference, if it was one, is resolved.
pub(super) struct Scalar {
    /// The value.
    pub(super) data: Data,
    /// Whether it came from a variable or file, and so is untyped text.
    pub(super) referenced: bool,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        file: &'a str,
        mode: LoadMode,
        env: &'a dyn Fn(&str) -> Option<String>,
    ) -> Self {
        Self { file, mode, env, path: String::new(), diagnostics: Vec::new() }
    }

    /// Number of errors so far.
    pub(super) fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Error).count()
    }

    /// Whether this load fills in secrets.
    pub(super) fn with_secrets(&self) -> bool {
        self.mode == LoadMode::Full
    }

    /// Runs `decode` below a key.
    pub(super) fn below_key<R>(&mut self, key: &str, decode: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        let result = decode(self);
        self.path.truncate(length);
        result
    }

    /// Runs `decode` below an element of a list.
    pub(super) fn below_index<R>(&mut self, at: usize, decode: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.path.len();
        self.path.push_str(&format!("[{at}]"));
        let result = decode(self);
        self.path.truncate(length);
        result
    }

    /// The place of a value under the current key path.
    pub(super) fn place(&self, at: Position) -> Place {
        self.place_of(at, &self.path)
    }

    /// The place of a value under the given key path.
    pub(super) fn place_of(&self, at: Position, path: &str) -> Place {
        Place {
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            key: if path.is_empty() { None } else { Some(path.to_owned()) },
            source: None,
        }
    }

    /// Notes an error at a value; `None` so that a decoder can end with it.
    pub(super) fn error<T>(
        &mut self,
        at: Position,
        code: &str,
        message: impl Into<String>,
        help: &str,
    ) -> Option<T> {
        let mut diagnostic = Diagnostic::error(code, message).at(self.place(at));
        if !help.is_empty() {
            diagnostic = diagnostic.help(help);
        }
        self.diagnostics.push(diagnostic);
        None
    }

    /// Notes a warning at a value.
    pub(super) fn warning(&mut self, at: Position, code: &str, message: &str, help: &str) {
        let place = self.place(at);
        self.diagnostics.push(Diagnostic::warning(code, message).at(place).help(help));
    }

    /// Notes a value of the wrong kind.
    pub(super) fn wrong_type<T>(&mut self, node: &Node, expected: &str, help: &str) -> Option<T> {
        let message = format!("expected {expected}, found {}", node.kind());
        self.error(node.at, "wrong_type", message, help)
    }

    /// Notes a fault that the keys of a section have together, at the key that is best changed.
    pub(super) fn fault(&mut self, section: &Node, key: &str, fault: Diagnostic) {
        let at = section.position_of(key);
        let place = self.below_key(key, |cx| cx.place(at));
        self.diagnostics.push(fault.at(place));
    }

    /// Notes something that is planned but not built.
    pub(super) fn not_yet<T>(&mut self, at: Position, what: &str, help: &str) -> Option<T> {
        self.error(at, "not_yet_supported", format!("{what} is not yet supported"), help)
    }

    /// Notes a key that does not exist.
    ///
    /// The name is shown only if it looks like a key: a misplaced secret must not be.
    pub(super) fn unknown_key(&mut self, key: &str, at: Position, known: &[&'static str]) {
        let harmless = key.len() <= 40
            && key.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '-' | '.'));
        let (message, path) = if harmless {
            let dot = if self.path.is_empty() { "" } else { "." };
            (format!("there is no key `{key}` here"), format!("{}{dot}{key}", self.path))
        } else {
            ("there is no such key here".to_owned(), self.path.clone())
        };
        let help = match nearest(key, known.iter().copied()) {
            Some(meant) => {
                // That the meant key is missing says the same once more.
                let meant_path = self.below_key(meant, |cx| cx.path.clone());
                self.diagnostics.retain(|other| {
                    let key = other.place.as_ref().and_then(|place| place.key.as_ref());
                    other.code != "missing_key" || key != Some(&meant_path)
                });
                format!("did you mean `{meant}`?")
            }
            None => format!("known keys here: {}", known.join(", ")),
        };
        let place = self.place_of(at, &path);
        self.diagnostics.push(Diagnostic::error("unknown_key", message).at(place).help(help));
    }

    /// Resolves a scalar. `None` without an error means that this load leaves the reference alone.
    pub(super) fn scalar(&mut self, node: &Node, secret: bool) -> Option<Scalar> {
        let Data::Text(text) = &node.data else {
            return Some(Scalar { data: node.data.clone(), referenced: false });
        };
        let resolved = match reference::read(text) {
            Written::Plain => {
                return Some(Scalar { data: Data::Text(text.clone()), referenced: false });
            }
            Written::Bad(code, help) => {
                return self.error(node.at, code, "`${…}` stands for references only", help);
            }
            Written::Env(_) | Written::File(_) if secret && !self.with_secrets() => return None,
            Written::Env(name) => (self.env)(name).ok_or_else(|| {
                ("missing_env", format!("the environment variable {name} is not set"))
            }),
            Written::File(path) => match reference::read_file(path) {
                Ok((content, trimmed)) => {
                    if trimmed {
                        self.warning(
                            node.at,
                            "blanks_trimmed",
                            &format!("blanks at the ends of the file {path} were left out"),
                            "write the file without them",
                        );
                    }
                    Ok(content)
                }
                Err(why) => Err(("missing_file", format!("cannot read the file {path}: {why}"))),
            },
        };
        match resolved {
            Ok(text) => Some(Scalar { data: Data::Text(text), referenced: true }),
            Err(_) if !self.needed() => None,
            Err((code, message)) => {
                let help = if code == "missing_env" {
                    "set it, or write the value here; a variable may be empty, but must be there"
                } else {
                    "paths in references are relative to the working directory"
                };
                self.error(node.at, code, message, help)
            }
        }
    }

    /// Whether this load needs the reference at the current key path.
    fn needed(&self) -> bool {
        let section = self.path.split(['.', '[']).next().unwrap_or_default();
        self.with_secrets() || ALWAYS_NEEDED.contains(&section)
    }
}
