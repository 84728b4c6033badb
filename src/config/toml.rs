//! TOML to the same tree as YAML.

use toml_edit::{Document, Item, TableLike, Value};

use super::tree::{Data, Entry, Node, Position};
use super::yaml::{MAX_BYTES, MAX_DEPTH, too_large};
use crate::diagnostic::{Diagnostic, Place};

/// Reads a TOML document. `file` is the name that diagnostics show.
///
/// # Errors
///
/// The first fault. Messages show no value.
pub fn parse(text: &str, file: &str) -> Result<Node, Vec<Diagnostic>> {
    if text.len() > MAX_BYTES {
        return Err(vec![too_large(file)]);
    }
    let lines = Lines { text };
    let fault = |at: Position, code: &str, message: &str| {
        vec![Diagnostic::error(code, message).at(Place {
            file: file.to_owned(),
            line: at.line,
            column: at.column,
            ..Place::default()
        })]
    };
    // The reader's own message may quote a key or a value, so only known ones are shown.
    let document = Document::parse(text).map_err(|error| {
        let at = lines.position(error.span().map_or(0, |span| span.start));
        let duplicate = error.message().starts_with("duplicate key");
        if duplicate {
            fault(at, "duplicate_key", "the key is there twice")
        } else {
            let cause = CAUSES.iter().find(|cause| error.message().starts_with(**cause));
            let message = cause.map(|cause| format!("not valid TOML: {cause}"));
            fault(at, "syntax", message.as_deref().unwrap_or("not valid TOML"))
        }
    })?;
    let at = Position { line: 1, column: 1 };
    match lines.table(document.as_table(), at, 1) {
        Some(node) => Ok(node),
        None => Err(fault(at, "too_deep", "lists and tables are nested too deeply")),
    }
}

/// What the reader's messages may begin with. The longer one stands before its beginning.
const CAUSES: &[&str] = &[
    "string values must be quoted",
    "key with no value",
    "missing value for key",
    "missing value",
    "missing comma between array elements",
    "missing comma between key-value pairs",
    "missing opening quote",
    "missing escaped value",
    "unclosed array table",
    "unclosed array",
    "unclosed inline table",
    "unclosed table",
    "extra comma in array",
    "extra comma in inline table",
    "extra assignment between key-value pairs",
    "extra `=`",
    "unexpected `=` in array",
    "unexpected leading zero",
    "unexpected sign",
    "unexpected key or value",
    "unexpected content",
    "unquoted keys cannot be empty",
    "invalid unquoted key",
    "invalid string",
    "invalid basic string",
    "invalid literal string",
    "invalid multi-line basic string",
    "invalid multi-line literal string",
    "invalid boolean",
    "invalid date-time",
    "invalid date",
    "invalid time",
    "invalid float",
    "invalid fraction",
    "invalid exponent",
    "integer number overflowed",
    "invalid integer number",
    "invalid hexadecimal number",
    "invalid octal number",
    "invalid binary number",
    "invalid value",
    "invalid comment character",
    "invalid escape sequence",
    "carriage return must be followed by newline",
    "cannot extend value",
];

/// The text, for turning byte offsets into places.
struct Lines<'a> {
    text: &'a str,
}

impl Lines<'_> {
    fn position(&self, offset: usize) -> Position {
        let before = self.text.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1);
        Position { line: narrow(line), column: narrow(column) }
    }

    /// `None`: nested too deeply.
    fn table(&self, table: &dyn TableLike, at: Position, depth: usize) -> Option<Node> {
        let mut entries = Vec::new();
        for (key, item) in table.iter() {
            let written = table.key(key).and_then(toml_edit::Key::span);
            let key_at = written.map_or(at, |span| self.position(span.start));
            let value = self.item(item, key_at, depth)?;
            entries.push(Entry { key: key.to_owned(), key_at, value });
        }
        Some(Node { data: Data::Map(entries), at })
    }

    fn item(&self, item: &Item, near: Position, depth: usize) -> Option<Node> {
        if depth > MAX_DEPTH {
            return None;
        }
        let at = item.span().map_or(near, |span| self.position(span.start));
        match item {
            Item::None => Some(Node { data: Data::Null, at }),
            Item::Value(value) => self.value(value, at, depth),
            Item::Table(table) => self.table(table, at, depth + 1),
            Item::ArrayOfTables(tables) => {
                let elements = tables
                    .iter()
                    .map(|table| {
                        let at = table.span().map_or(at, |span| self.position(span.start));
                        self.table(table, at, depth + 1)
                    })
                    .collect::<Option<_>>()?;
                Some(Node { data: Data::List(elements), at })
            }
        }
    }

    fn value(&self, value: &Value, at: Position, depth: usize) -> Option<Node> {
        if depth > MAX_DEPTH {
            return None;
        }
        let data = match value {
            Value::String(text) => Data::Text(text.value().clone()),
            Value::Integer(number) => Data::Integer(*number.value()),
            Value::Float(number) => Data::Float(*number.value()),
            Value::Boolean(value) => Data::Bool(*value.value()),
            Value::Datetime(time) => Data::Text(time.value().to_string()),
            Value::Array(array) => Data::List(
                array
                    .iter()
                    .map(|element| {
                        let at = element.span().map_or(at, |span| self.position(span.start));
                        self.value(element, at, depth + 1)
                    })
                    .collect::<Option<_>>()?,
            ),
            Value::InlineTable(table) => return self.table(table, at, depth + 1),
        };
        Some(Node { data, at })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[-a-c0-2:,{}\\[\\]='\"#. \\n\\t\\\\é]{0,60}") {
            drop(parse(&text, "x.toml"));
        }
    }

    #[test]
    fn toml_gives_the_same_tree_as_yaml() {
        let text =
            "data_dir = \"x\"\n\n[buffer]\nread_ahead = 5\n\n[[sources]]\ntype = \"stdin\"\n";
        let node = parse(text, "x.toml").unwrap();
        assert_eq!(
            node.to_json().to_string(),
            r#"{"buffer":{"read_ahead":5},"data_dir":"x","sources":[{"type":"stdin"}]}"#
        );
        let at = node.position_of("buffer.read_ahead");
        assert_eq!((at.line, at.column), (4, 14));
        assert_eq!(node.position_of("sources[0].type").line, 7);
    }

    #[test]
    fn faults_have_their_place_and_show_no_text() {
        let fault = parse("a = 1\nb = s3cret\n", "x.toml").unwrap_err().remove(0);
        assert_eq!(
            fault.to_string(),
            "error[syntax]: not valid TOML: string values must be quoted\n  --> x.toml:2:5"
        );
        for (text, cause) in [
            ("a\n", ": key with no value"),
            ("a = 1 b = 2\n", ": unexpected key or value"),
            ("a = [ 1\n", ": unclosed array"),
            ("a = \"s3cret\n", ": invalid basic string"),
        ] {
            let fault = parse(text, "x.toml").unwrap_err().remove(0);
            assert_eq!(fault.message, format!("not valid TOML{cause}"), "{text}");
        }
        let fault = parse("a = 1\na = 2\n", "x.toml").unwrap_err().remove(0);
        assert_eq!(fault.code, "duplicate_key");
    }
}
