//! YAML (and so JSON) to a tree with places, within bounds.
//!
//! What makes a configuration hard to read, or a reader hard to bound, is refused with a diagnostic:
//! anchors and aliases, tags, duplicate keys, several documents, more than [`MAX_DEPTH`] levels, and
//! more than [`MAX_BYTES`] bytes. Plain scalars are typed by the core schema of YAML 1.2, so `off`,
//! `no` and `5xx` are text.

mod surrogate;

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::tree::{Data, Entry, Node, Position};
use crate::diagnostic::{Diagnostic, Place};

/// Largest file that is read, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Deepest nesting of lists and mappings.
pub const MAX_DEPTH: usize = 64;

/// Reads one YAML document; an empty one is null. `file` is the name that diagnostics show.
///
/// # Errors
///
/// All duplicate keys, or the first fault of any other kind. Messages show no value.
pub fn parse(text: &str, file: &str) -> Result<Node, Vec<Diagnostic>> {
    if text.len() > MAX_BYTES {
        return Err(vec![too_large(file)]);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = surrogate::resolve(text);
    let mut builder = Builder { file, open: Vec::new(), root: None, faults: Vec::new() };
    let mut parser = Parser::new(StrInput::new(&text));
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => {
                let at = position(error.marker().line(), error.marker().col());
                let fault =
                    builder.fault(at, "syntax", format!("not valid YAML: {}", words(error.info())));
                Err(if in_reference(&text, at) { fault.helped(QUOTE) } else { fault })
            }
        };
        if let Err(fault) = step {
            builder.faults.push(*fault);
            break;
        }
    }
    if builder.faults.is_empty() {
        let empty = Node { data: Data::Null, at: Position { line: 1, column: 1 } };
        Ok(builder.root.unwrap_or(empty))
    } else {
        Err(builder.faults)
    }
}

/// The refusal of a file that is larger than [`MAX_BYTES`].
pub(super) fn too_large(file: &str) -> Diagnostic {
    Diagnostic::error("file_too_large", format!("the file has more than {MAX_BYTES} bytes"))
        .at(Place { file: file.to_owned(), ..Place::default() })
}

/// The refusal of a second key of the same name.
pub(super) fn duplicate(first: Position) -> (&'static str, String, String) {
    (
        "duplicate_key",
        "the key is there twice".to_owned(),
        format!("its first place is line {}; keep one of them", first.line),
    )
}

/// The remedy where `${env:NAME}` stands in a flow list or mapping, whose syntax its braces break.
const QUOTE: &str = "between { } and [ ] a reference needs quotes: \"${env:NAME}\"";

/// Whether the place is the brace of a `${`.
fn in_reference(text: &str, at: Position) -> bool {
    let place = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    let line = text.lines().nth(place(at.line).saturating_sub(1)).unwrap_or_default();
    let mut from_dollar = line.chars().skip(place(at.column).saturating_sub(2));
    (from_dollar.next(), from_dollar.next()) == (Some('$'), Some('{'))
}

/// Takes the character out of the one scanner message that quotes the text.
fn words(info: &str) -> &str {
    info.split_once(": `").map_or(info, |(words, _)| words)
}

fn position(line: usize, column_from_0: usize) -> Position {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position { line: narrow(line), column: narrow(column_from_0).saturating_add(1) }
}

/// A list or mapping whose end has not come yet.
enum Open {
    List {
        at: Position,
        elements: Vec<Node>,
    },
    Map {
        at: Position,
        entries: Vec<Entry>,
        seen: HashMap<String, Position>,
        key: Option<(String, Position)>,
    },
}

/// Makes the tree from parser events; its own stack stands in for recursion.
struct Builder<'a> {
    file: &'a str,
    open: Vec<Open>,
    root: Option<Node>,
    faults: Vec<Diagnostic>,
}

type Step = Result<(), Box<Diagnostic>>;

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Step {
        let at = position(span.start.line(), span.start.col());
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {
                if matches!(event, Event::DocumentStart(_)) && self.root.is_some() {
                    return Err(self
                        .fault(at, "several_documents", "a second document begins here")
                        .helped("keep one document per file; take the line `---` out"));
                }
                Ok(())
            }
            Event::Alias(_) => Err(self.refuse_anchor(at)),
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse(at, anchor, tag.is_some())?;
                let plain = style == ScalarStyle::Plain;
                self.scalar(&text, plain, at)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse(at, anchor, tag.is_some())?;
                self.begin(Open::List { at, elements: Vec::new() }, at)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse(at, anchor, tag.is_some())?;
                self.begin(
                    Open::Map { at, entries: Vec::new(), seen: HashMap::new(), key: None },
                    at,
                )
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.open.pop() {
                    Some(Open::List { at, elements }) => Node { data: Data::List(elements), at },
                    Some(Open::Map { at, entries, .. }) => Node { data: Data::Map(entries), at },
                    None => return Ok(()),
                };
                self.add(node);
                Ok(())
            }
        }
    }

    fn begin(&mut self, open: Open, at: Position) -> Step {
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            return Err(self.fault(at, "syntax", "a key must be text, not a list or mapping"));
        }
        if self.open.len() >= MAX_DEPTH {
            let message =
                format!("lists and mappings are nested more than {MAX_DEPTH} levels deep");
            return Err(self.fault(at, "too_deep", message));
        }
        self.open.push(open);
        Ok(())
    }

    fn scalar(&mut self, text: &str, plain: bool, at: Position) -> Step {
        if let Some(Open::Map { seen, key: key @ None, .. }) = self.open.last_mut() {
            if plain && text.is_empty() {
                return Err(self.fault(at, "syntax", "a key is missing before the colon"));
            }
            let first = seen.get(text).copied();
            seen.entry(text.to_owned()).or_insert(at);
            *key = Some((text.to_owned(), at));
            if let Some(first) = first {
                let (code, message, help) = duplicate(first);
                let fault = self.fault(at, code, message).helped(help);
                self.faults.push(*fault);
            }
            return Ok(());
        }
        let data = if plain { typed(text) } else { Data::Text(text.to_owned()) };
        self.add(Node { data, at });
        Ok(())
    }

    fn add(&mut self, node: Node) {
        match self.open.last_mut() {
            Some(Open::List { elements, .. }) => elements.push(node),
            Some(Open::Map { entries, key, .. }) => {
                if let Some((key, key_at)) = key.take() {
                    entries.push(Entry { key, key_at, value: node });
                }
            }
            None => self.root = Some(node),
        }
    }

    fn refuse(&self, at: Position, anchor: usize, tagged: bool) -> Step {
        if anchor != 0 {
            return Err(self.refuse_anchor(at));
        }
        if tagged {
            return Err(self
                .fault(at, "tag", "YAML tags are not supported")
                .helped("write text in quotes, and leave the tag out"));
        }
        Ok(())
    }

    fn refuse_anchor(&self, at: Position) -> Box<Diagnostic> {
        self.fault(at, "anchor", "YAML anchors and aliases are not supported")
            .helped("write the value out where it is needed")
    }

    fn fault(&self, at: Position, code: &str, message: impl Into<String>) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(code, message).at(Place {
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            ..Place::default()
        }))
    }
}

/// Sets the remedy of a boxed diagnostic.
trait Helped {
    fn helped(self, help: impl Into<String>) -> Self;
}

impl Helped for Box<Diagnostic> {
    fn helped(self, help: impl Into<String>) -> Self {
        Box::new(self.help(help))
    }
}

/// Types a plain scalar by the core schema.
fn typed(text: &str) -> Data {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Data::Null,
        "true" | "True" | "TRUE" => return Data::Bool(true),
        "false" | "False" | "FALSE" => return Data::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Data::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Data::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Data::Float(f64::NAN),
        _ => {}
    }
    let based = [("0x", 16), ("0o", 8)].into_iter().find_map(|(prefix, base)| {
        let digits = text.strip_prefix(prefix)?;
        let all = !digits.is_empty() && digits.chars().all(|c| c.is_digit(base));
        if all { i64::from_str_radix(digits, base).ok() } else { None }
    });
    if let Some(number) = based.or_else(|| text.parse().ok()) {
        return Data::Integer(number);
    }
    // Rust also reads `inf`, `nan`, and `infinity`, which YAML does not.
    let numeric =
        text.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'))
            && text.contains(|c: char| c.is_ascii_digit());
    match text.parse::<f64>() {
        Ok(number) if numeric => Data::Float(number),
        _ => Data::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn faults(text: &str) -> Vec<(String, u32, u32)> {
        let faults = parse(text, "x.yaml").unwrap_err();
        let place = |d: &Diagnostic| d.place.clone().unwrap_or_default();
        faults.iter().map(|d| (d.code.clone(), place(d).line, place(d).column)).collect()
    }

    fn json(text: &str) -> String {
        parse(text, "x.yaml").unwrap().to_json().to_string()
    }

    #[test]
    fn plain_scalars_are_typed_by_the_core_schema_and_quoted_ones_are_text() {
        assert_eq!(
            json(
                "[ 1, -2, 0x1F, 0o17, 1.5, 1e3, true, null, ~, off, no, 5xx, '1', \"true\", inf, 1.2.3 ]"
            ),
            r#"[1,-2,31,15,1.5,1000.0,true,null,null,"off","no","5xx","1","true","inf","1.2.3"]"#
        );
    }

    #[test]
    fn json_is_yaml() {
        let text = "{\n\t\"a\": [1, {\"b\": \"x\\ny\\/\\u00e9\\ud83d\\ude00\"}],\n\t\"c\": null\n}";
        assert_eq!(json(text), r#"{"a":[1,{"b":"x\ny/é😀"}],"c":null}"#);
    }

    #[test]
    fn values_know_line_and_column_in_characters() {
        let node = parse("a:\n  é: { b: 1 }\n", "x.yaml").unwrap();
        let at = node.position_of("a.é.b");
        assert_eq!((at.line, at.column), (2, 11));
    }

    #[test]
    fn an_empty_document_is_null() {
        assert_eq!(json(""), "null");
        assert_eq!(json("# nothing\n"), "null");
    }

    #[test]
    fn every_duplicate_key_is_told_with_its_place() {
        let text = "a: 1\nb: 2\na: 3\nc: { d: 1, d: 2 }\n";
        assert_eq!(
            faults(text),
            [("duplicate_key".to_owned(), 3, 1), ("duplicate_key".to_owned(), 4, 12)]
        );
    }

    #[test]
    fn what_cannot_be_bounded_is_refused() {
        assert_eq!(faults("a: &x [ 1 ]\n")[0].0, "anchor");
        assert_eq!(faults("a: *x\n")[0].0, "syntax");
        assert_eq!(faults("a: !!str 1\n")[0].0, "tag");
        assert_eq!(faults("a: 1\n---\nb: 2\n"), [("several_documents".to_owned(), 2, 1)]);
        assert_eq!(faults(&"[".repeat(65))[0].0, "too_deep");
        assert_eq!(faults(&"- ".repeat(5000))[0].0, "too_deep");
        assert_eq!(faults(&" ".repeat(MAX_BYTES + 1))[0].0, "file_too_large");
        assert_eq!(faults("[a, b]: 1\n")[0].0, "syntax");
    }

    #[test]
    fn as_many_keys_as_a_file_can_hold_are_read() {
        let text: String = (0..60_000).map(|n| format!("k{n}: {n}\n")).collect();
        assert_eq!(parse(&text, "x.yaml").unwrap().entries().len(), 60_000);
    }

    #[test]
    fn depth_at_the_limit_is_read() {
        let text = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert!(parse(&text, "x.yaml").is_ok());
    }

    #[test]
    fn a_reference_that_lacks_quotes_is_told_so() {
        for text in ["a: {k: ${env:X}, l: 1}\n", "a: 1\nb: [ é, ${file:/x} ]\n"] {
            let fault = parse(text, "x.yaml").unwrap_err().remove(0);
            assert_eq!(fault.help.as_deref(), Some(QUOTE), "{text}");
        }
        assert_eq!(parse("a: {k: {\n", "x.yaml").unwrap_err().remove(0).help, None);
    }

    #[test]
    fn a_syntax_fault_shows_no_text() {
        let shown = format!("{:?}", parse("key: \"s3cret\n", "x.yaml").unwrap_err());
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_text_makes_the_reader_panic(text in "[-a-c0-2:,{}\\[\\]&*!|>'\"%@`#? \\n\\t~\\\\é\\r.]{0,60}") {
            drop(parse(&text, "x.yaml"));
        }

        #[test]
        fn any_json_text_comes_back_as_it_was(value in json_value()) {
            let node = parse(&value.to_string(), "x.json").unwrap();
            prop_assert_eq!(node.to_json(), value);
        }
    }

    fn json_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            "[a-zA-Z0-9 ${}:.,é\\n-]{0,20}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::btree_map("[a-z]{1,6}", inner, 0..4)
                    .prop_map(|m| m.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }
}
