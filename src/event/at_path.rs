//! Finds the event inside of what another program wrapped around it.

use bytes::Bytes;
use bytestring::ByteString;

use super::Span;
use super::decode::{Fault, Reader, invalid};
use crate::outcome::{Reason, ReasonCode};

/// Returns the JSON text of the event at `path` of the JSON text `raw`: an object that stands
/// there as a slice, or the content of a text that stands there and begins as an object does.
///
/// # Errors
///
/// `invalid_json` if `raw` is no JSON text, wherever the fault stands; `no_event_at_path` if
/// neither an object nor such a text stands at the path.
pub fn at_path(raw: &Bytes, path: &[String]) -> Result<Bytes, Reason> {
    let source = ByteString::try_from(raw.clone())
        .map_err(|error| invalid(Fault { at: error.valid_up_to(), what: "not UTF-8" }))?;
    let mut reader = Reader::new(&source);
    reader.blank();
    let found = find(&mut reader, path, 0).and_then(|found| reader.end().map(|()| found));
    let found = found.map_err(invalid)?.map(|span| span.of(raw)).unwrap_or_default();
    let what = match found.first() {
        Some(b'{') => return Ok(found),
        Some(b'"') => {
            let found = ByteString::try_from(found).unwrap_or_default();
            let text = Reader::new(&found).string().map_err(invalid)?;
            if text.trim_ascii_start().starts_with('{') {
                return Ok(text.into_bytes());
            }
            "a text that is no object"
        }
        Some(_) => "neither an object nor a text",
        None => "nothing",
    };
    Err(Reason::new(ReasonCode::NoEventAtPath, format!("{what} at `{}`", shown(path))))
}

/// Writes a path as the configuration has it.
pub fn shown(path: &[String]) -> String {
    let bare =
        |segment: &str| segment.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '@'));
    let segments = path.iter().map(|segment| match bare(segment) {
        true => format!(".{segment}"),
        false => format!(".\"{segment}\""),
    });
    let shown: String = segments.collect();
    if shown.is_empty() { ".".to_owned() } else { shown }
}

/// Takes the value at this place; returns where the value at `path` in it stands. With duplicate
/// keys the last counts.
fn find(reader: &mut Reader<'_>, path: &[String], depth: usize) -> Result<Option<Span>, Fault> {
    let start = reader.position();
    let Some((first, rest)) = path.split_first() else {
        reader.skip(depth)?;
        return Ok(Some(reader.span_from(start)));
    };
    let mut found = None;
    if reader.peek() == Some(b'{') {
        reader.members(|reader, key, _| {
            if key == **first {
                found = find(reader, rest, depth + 1)?;
                Ok(())
            } else {
                reader.skip(depth + 1)
            }
        })?;
    } else {
        reader.skip(depth)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(raw: &str, path: &[&str]) -> Result<String, Reason> {
        let path: Vec<_> = path.iter().map(|&part| part.to_owned()).collect();
        let found = at_path(&Bytes::copy_from_slice(raw.as_bytes()), &path)?;
        Ok(String::from_utf8(found.to_vec()).unwrap())
    }

    #[test]
    fn objects_and_texts_are_events() {
        assert_eq!(at(r#"{"a":{"b":{ "c":1 } }}"#, &["a", "b"]).unwrap(), r#"{ "c":1 }"#);
        assert_eq!(at(r#"{"m":"{\"c\":\"\\n\"}"}"#, &["m"]).unwrap(), r#"{"c":"\n"}"#);
        assert_eq!(at(r#" {"c":1} "#, &[]).unwrap(), r#"{"c":1}"#);
        assert_eq!(at(r#"{"a.b":{}}"#, &["a.b"]).unwrap(), "{}");
        assert_eq!(at(r#"{"a":1,"a":{"x":2}}"#, &["a"]).unwrap(), r#"{"x":2}"#);
    }

    #[test]
    fn where_it_was_looked_is_told() {
        for (raw, detail) in [
            (r#"{"a":{}}"#, "nothing at `.a.b`"),
            (r#"{"a":5}"#, "nothing at `.a.b`"),
            ("[]", "nothing at `.a.b`"),
            (r#"{"a":{"b":[1]}}"#, "neither an object nor a text at `.a.b`"),
            (r#"{"a":{"b":{}},"a":null}"#, "nothing at `.a.b`"),
            (r#"{"a":{"b":"a line of a log"}}"#, "a text that is no object at `.a.b`"),
            (r#"{"a":{"b":"[{}]"}}"#, "a text that is no object at `.a.b`"),
            (r#"{"a":{"b":""}}"#, "a text that is no object at `.a.b`"),
        ] {
            let reason = at(raw, &["a", "b"]).unwrap_err();
            assert_eq!(reason, Reason::new(ReasonCode::NoEventAtPath, detail), "{raw}");
        }
    }

    #[test]
    fn a_path_is_shown_as_it_is_written() {
        let reason = at("{}", &["a", "b.c"]).unwrap_err();
        assert_eq!(reason.detail.as_deref(), Some("nothing at `.a.\"b.c\"`"));
        assert_eq!(
            at("7", &[]).unwrap_err().detail.as_deref(),
            Some("neither an object nor a text at `.`")
        );
    }

    #[test]
    fn the_text_around_must_be_json() {
        for raw in ["", r#"{"a":{}"#, r#"{"a":{},}"#, r#"{"a":{}} x"#] {
            assert_eq!(at(raw, &["a"]).unwrap_err().code, ReasonCode::InvalidJson, "{raw}");
        }
        let deep = format!(r#"{{"a":{{}},"b":{}{}}}"#, "[".repeat(9000), "]".repeat(9000));
        assert_eq!(at(&deep, &["a"]).unwrap(), "{}", "depth is the event's own matter");
    }
}
