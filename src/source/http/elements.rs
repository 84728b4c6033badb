//! Cuts a body into its elements, each a slice of the body.
//!
//! A body is a row of JSON texts: one, or several with or without blanks between them, so that an
//! object, an array, NDJSON, and objects that run together are all read alike, whatever the head says.
//! Of an array each element counts; so does each member of an SDK's `{"batch": [ … ]}`, wherever it
//! stands.
//!
//! NDJSON with a broken line is cut line by line: that line ends alone. Any other body that is not JSON to
//! its end is refused as a whole, since parts of something else could look like events.

use bytes::Bytes;
use bytestring::ByteString;

use crate::event::decode::{Fault, Reader, invalid};
use crate::outcome::Reason;

/// One element, or why it is none.
pub(super) type Element = Result<Bytes, Reason>;

/// Why a body is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uncut {
    /// There is nothing in it.
    Empty,
    /// It is not JSON.
    NotJson,
    /// It is in one of the codecs that only Vector reads.
    Native,
    /// It holds more than [`MAX_ELEMENTS`].
    TooMany,
}

/// Elements of one body: what is known of each costs memory, however short its text is.
pub(super) const MAX_ELEMENTS: usize = 1_000_000;

/// Roots of Vector's `native_json` codec.
const NATIVE: [&str; 3] = ["log", "metric", "trace"];

/// Cuts `body` into elements; `ndjson` says that its head calls it so.
///
/// Elements at a `path` may stand in anything, also in Vector's own form.
///
/// # Errors
///
/// [`Uncut`] says why nothing of it can be read.
pub(super) fn cut(
    body: &Bytes,
    ndjson: bool,
    path: Option<&[String]>,
) -> Result<Vec<Element>, Uncut> {
    let body = without_mark(body);
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Uncut::Empty);
    }
    let elements: Vec<Element> = match texts(&body) {
        Ok(elements) => elements.into_iter().map(Ok).collect(),
        Err(_) if ndjson || first_line_is_json(&body) => lines(&body),
        // Lengths before each event, in binary.
        Err(_) if body.first() == Some(&0) => return Err(Uncut::Native),
        Err(_) => return Err(Uncut::NotJson),
    };
    if elements.len() > MAX_ELEMENTS {
        return Err(Uncut::TooMany);
    }
    let first = elements.iter().find_map(|element| element.as_ref().ok());
    match first {
        None if !elements.is_empty() => Err(Uncut::NotJson),
        Some(first) if is_native(first, path) => Err(Uncut::Native),
        _ => Ok(elements),
    }
}

fn without_mark(body: &Bytes) -> Bytes {
    match body.strip_prefix("\u{feff}".as_bytes()) {
        Some(rest) => body.slice_ref(rest),
        None => body.clone(),
    }
}

/// Cuts a row of JSON texts.
fn texts(body: &Bytes) -> Result<Vec<Bytes>, Fault> {
    let source = ByteString::try_from(body.clone())
        .map_err(|error| Fault { at: error.valid_up_to(), what: "not UTF-8" })?;
    let mut reader = Reader::new(&source);
    let mut elements = Vec::new();
    reader.blank();
    while reader.peek().is_some() {
        if reader.peek() == Some(b'[') {
            reader.elements(|reader| element(reader, body, 1, &mut elements))?;
        } else {
            element(&mut reader, body, 0, &mut elements)?;
        }
        reader.blank();
    }
    Ok(elements)
}

/// Takes an element, or the members of one that is an SDK's batch.
fn element(
    reader: &mut Reader<'_>,
    body: &Bytes,
    depth: usize,
    elements: &mut Vec<Bytes>,
) -> Result<(), Fault> {
    let start = reader.position();
    if reader.peek() != Some(b'{') {
        reader.skip(depth)?;
        push(elements, reader.span_from(start).of(body));
        return Ok(());
    }
    let (mut batch, mut typed) = (None, false);
    reader.members(|reader, key, _| match &*key {
        "batch" => {
            // With duplicate keys the last counts.
            batch = None;
            if reader.peek() != Some(b'[') {
                return reader.skip(depth + 1);
            }
            let members = batch.insert(Vec::new());
            reader.elements(|reader| {
                let start = reader.position();
                reader.skip(depth + 2)?;
                push(members, reader.span_from(start).of(body));
                Ok(())
            })
        }
        key => {
            typed |= key == "type";
            reader.skip(depth + 1)
        }
    })?;
    match batch {
        // An event may have a member of this name; it has a type then.
        Some(members) if !typed => members.into_iter().for_each(|member| push(elements, member)),
        _ => push(elements, reader.span_from(start).of(body)),
    }
    Ok(())
}

/// Adds an element, up to one too many.
fn push<T>(elements: &mut Vec<T>, element: T) {
    if elements.len() <= MAX_ELEMENTS {
        elements.push(element);
    }
}

/// Cuts lines, of which each may be broken.
fn lines(body: &Bytes) -> Vec<Element> {
    let mut elements = Vec::new();
    for line in body.split(|byte| *byte == b'\n') {
        match texts(&body.slice_ref(line)) {
            Ok(found) => found.into_iter().for_each(|text| push(&mut elements, Ok(text))),
            Err(fault) => push(&mut elements, Err(invalid(fault))),
        }
    }
    elements
}

/// Tells whether a body looks like NDJSON: its first line is a whole object.
fn first_line_is_json(body: &Bytes) -> bool {
    let blank = |line: &&[u8]| line.iter().all(u8::is_ascii_whitespace);
    let mut lines = body.split(|byte| *byte == b'\n');
    let Some(first) = lines.find(|line| !blank(line)) else { return false };
    lines.next().is_some()
        && first.trim_ascii_start().first() == Some(&b'{')
        && texts(&body.slice_ref(first)).is_ok()
}

/// Tells whether an element is wrapped as Vector's `native_json` codec does, and nobody looks into it.
fn is_native(element: &Bytes, path: Option<&[String]>) -> bool {
    let Ok(source) = ByteString::try_from(element.clone()) else { return false };
    let mut reader = Reader::new(&source);
    if reader.peek() != Some(b'{') || path.is_some() {
        return false;
    }
    let (mut members, mut native) = (0_u32, false);
    let walked = reader.members(|reader, key, _| {
        members += 1;
        native = NATIVE.contains(&&*key) && reader.peek() == Some(b'{');
        reader.skip(1)
    });
    walked.is_ok() && members == 1 && native
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::outcome::ReasonCode;

    fn cut_as(body: &str, ndjson: bool) -> Result<Vec<String>, Uncut> {
        let elements = cut(&Bytes::copy_from_slice(body.as_bytes()), ndjson, None)?;
        let text = |element: Element| match element {
            Ok(text) => String::from_utf8(text.to_vec()).unwrap(),
            Err(reason) => reason.code.as_str().to_owned(),
        };
        Ok(elements.into_iter().map(text).collect())
    }

    #[test]
    fn every_framing_gives_the_same_elements() {
        let (a, b) = (r#"{"type":"track","n":1.50}"#, r#"{ "type": "page" }"#);
        for body in [
            format!("[{a},{b}]"),
            format!(" [ {a} , {b} ]\n"),
            format!("{a}\n{b}"),
            format!("{a}\r\n{b}\r\n"),
            format!("\u{feff}{a}\n\n{b}\n"),
            format!("{a}{b}"),
            format!(r#"{{"batch":[{a},{b}]}}"#),
            format!(r#"{{"batch":[5],"sentAt":"x","b\u0061tch":[{a},{b}]}}"#),
            format!(r#"[{{"batch":[{a},{b}],"path":"/"}}]"#),
            format!("{{\"batch\":[{a}]}}\n{b}"),
            format!("[{a}]\n[{b}]\n[]"),
            format!("[\n  {a},\n  {b}\n]"),
        ] {
            for ndjson in [false, true] {
                assert_eq!(cut_as(&body, ndjson).unwrap(), [a, b], "{body}");
            }
        }
        assert_eq!(cut_as("[]", false).unwrap(), [""; 0]);
        assert_eq!(cut_as(r#"{"batch":[]}"#, false).unwrap(), [""; 0]);
    }

    #[test]
    fn an_event_with_a_member_batch_is_no_batch() {
        for event in [
            r#"{"type":"track","batch":[1]}"#,
            r#"{"batch":[1],"type":"track"}"#,
            r#"{"batch":{"a":1}}"#,
            r#"{"batch":[1],"batch":null}"#,
        ] {
            assert_eq!(cut_as(event, false).unwrap(), [event]);
        }
    }

    #[test]
    fn what_is_no_event_but_json_is_an_element() {
        assert_eq!(cut_as(r#"[1,"a",{},[{}]]"#, false).unwrap(), ["1", "\"a\"", "{}", "[{}]"]);
    }

    #[test]
    fn a_broken_line_ends_alone() {
        let body = "{\"a\":1}\n{\"a\":\nplain\n{\"b\":2}{\"c\":3}\n{\"d\":4} x\n";
        let elements =
            ["{\"a\":1}", "invalid_json", "invalid_json", "{\"b\":2}", "{\"c\":3}", "invalid_json"];
        for ndjson in [false, true] {
            assert_eq!(cut_as(body, ndjson).unwrap(), elements);
        }
        assert_eq!(cut_as("plain\n{\"a\":1}", true).unwrap(), ["invalid_json", "{\"a\":1}"]);
        let bytes = Bytes::from_static(b"{\"a\":1}\n{\"a\":\"\xff\"}\n");
        let elements = cut(&bytes, false, None).unwrap();
        assert_eq!(elements[1].as_ref().unwrap_err().code, ReasonCode::InvalidJson);
    }

    #[test]
    fn a_body_that_is_not_json_is_refused_whole() {
        for body in [
            "plain text\n",
            "[{\"userId\":1},",
            "[\n{\"userId\":1},\n{\"userId\":2}\n",
            "{\n\"a\":\n{\"userId\":1}\n",
            "{\"userId\":1}x",
            "{\"userId\":",
            "plain\n{\"userId\":1}",
        ] {
            assert_eq!(cut_as(body, false), Err(Uncut::NotJson), "{body}");
        }
        assert_eq!(cut_as("plain\ntext\n", true), Err(Uncut::NotJson));
        for body in ["", " \r\n", "\u{feff}\n"] {
            assert_eq!(cut_as(body, true), Err(Uncut::Empty));
        }
    }

    #[test]
    fn vectors_own_codecs_are_told() {
        assert_eq!(cut_as("{\"log\":{\"a\":1}}\n{\"log\":{}}\n", false), Err(Uncut::Native));
        assert_eq!(cut_as("\0\0\u{3}\u{1}", false), Err(Uncut::Native));
        assert!(cut_as("{\"log\":{},\"type\":\"track\"}", false).is_ok());
        let path = ["log".to_owned()];
        assert!(cut(&Bytes::from_static(b"{\"log\":{}}"), false, Some(&path)).is_ok());
    }

    #[test]
    fn more_elements_than_are_taken_are_refused() {
        let most = "1 ".repeat(MAX_ELEMENTS);
        assert_eq!(cut_as(&most, false).unwrap().len(), MAX_ELEMENTS);
        for body in [format!("{most}1"), format!("{{}}\n{}", "x\n".repeat(MAX_ELEMENTS))] {
            assert_eq!(cut_as(&body, false), Err(Uncut::TooMany));
        }
        let batch = format!("{{\"batch\":[{}1]}}", "1,".repeat(MAX_ELEMENTS));
        assert_eq!(cut_as(&batch, false), Err(Uncut::TooMany));
    }

    #[test]
    fn depth_is_the_elements_own_matter() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        let body = format!("[{deep},{{}}]");
        assert_eq!(cut_as(&body, false).unwrap().len(), 2);
        assert_eq!(cut_as(&"[".repeat(100_000), false), Err(Uncut::NotJson));
    }

    proptest! {
        #[test]
        fn any_bytes_are_cut_or_refused(body in prop::collection::vec(
            prop_oneof![Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b'\n'), Just(b'"'),
                Just(b','), Just(b':'), Just(b'1'), any::<u8>()], 0..40), ndjson: bool) {
            let body = Bytes::from(body);
            if let Ok(elements) = cut(&body, ndjson, None) {
                for element in elements.into_iter().flatten() {
                    prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&element).is_ok());
                }
            }
        }

        #[test]
        fn a_row_of_texts_is_cut_as_serde_reads_it(
            values in prop::collection::vec(prop_oneof![
                Just("{}"), Just("{\"a\":[1,{}]}"), Just("\"x\\\"\""), Just("null"), Just("{\"batch\":1}")
            ], 1..6), blank in "[ \r\n\t]{1,2}",
        ) {
            let body = values.join(&blank);
            prop_assert_eq!(cut_as(&body, false).unwrap(), values);
        }
    }
}
