//! `${env:NAME}` and `${file:PATH}`: values that stand elsewhere.
//!
//! A reference is a whole value, never a part of one, and is resolved after parsing, so that what
//! it holds cannot change the structure. Files are read relative to the working directory.

use std::io::Read;
use std::path::Path;

/// Largest file that a reference reads, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// What a text value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written<'a> {
    /// Text that stands for itself.
    Plain,
    /// `${env:NAME}`.
    Env(&'a str),
    /// `${file:PATH}`.
    File(&'a str),
    /// Something with `${…}` that is no reference: the code and the help.
    Bad(&'static str, &'static str),
}

/// Tells what a text value is.
pub(super) fn read(text: &str) -> Written<'_> {
    const FORM: &str = "write ${env:NAME} or ${file:PATH}";
    const WHOLE: &str =
        "a reference must be the whole value; put the whole value into the variable or file";
    let Some(start) = text.find("${") else { return Written::Plain };
    let Some(inner) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else {
        let closed = text.get(start..).is_some_and(|rest| rest.contains('}'));
        return if closed { Written::Bad("reference_in_text", WHOLE) } else { Written::Plain };
    };
    if inner.contains(['{', '}']) {
        return Written::Bad("reference_in_text", WHOLE);
    }
    if let Some(name) = inner.strip_prefix("env:") {
        let head = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let all = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        return if head && all {
            Written::Env(name)
        } else {
            Written::Bad("bad_reference", "a variable's name has letters, digits, and _ only")
        };
    }
    match inner.strip_prefix("file:") {
        Some("") | None => Written::Bad("bad_reference", FORM),
        Some(path) => Written::File(path),
    }
}

/// Reads the file of a reference and takes blanks off its ends.
///
/// The second value tells whether more than one line end was taken off.
pub(super) fn read_file(path: impl AsRef<Path>) -> Result<(String, bool), String> {
    let file = std::fs::File::open(path).map_err(|error| reason(&error))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| reason(&error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("it has more than {MAX_FILE} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let trimmed = line.trim();
    Ok((trimmed.to_owned(), trimmed.len() != line.len()))
}

/// The system's reason in lower case, without the number of the error.
pub(super) fn reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_values_are_references() {
        assert_eq!(read("plain"), Written::Plain);
        assert_eq!(read("a $ b {x}"), Written::Plain);
        assert_eq!(read("5 ${"), Written::Plain);
        assert_eq!(read("${env:A_1}"), Written::Env("A_1"));
        assert_eq!(read("${file:/run/secrets/x y}"), Written::File("/run/secrets/x y"));
        for text in ["x${env:A}", "${env:A}x", "${env:A}${env:B}", "${env:${env:A}}"] {
            assert!(matches!(read(text), Written::Bad("reference_in_text", _)), "{text}");
        }
        for text in ["${A}", "${env:}", "${env:A-B}", "${file:}", "${ENV:A}", "${}"] {
            assert!(matches!(read(text), Written::Bad("bad_reference", _)), "{text}");
        }
    }

    #[test]
    fn a_file_loses_its_line_end_quietly_and_other_blanks_with_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for (content, text, told) in [
            ("abc", "abc", false),
            ("abc\n", "abc", false),
            ("abc\r\n", "abc", false),
            ("abc\n\n", "abc", true),
            (" abc\n", "abc", true),
            ("abc \n", "abc", true),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(
                read_file(path.to_str().unwrap()),
                Ok((text.to_owned(), told)),
                "{content:?}"
            );
        }
        assert!(read_file(dir.path().join("none").to_str().unwrap()).is_err());
        std::fs::write(&path, vec![b'a'; 70_000]).unwrap();
        assert!(read_file(path.to_str().unwrap()).is_err());
    }
}
