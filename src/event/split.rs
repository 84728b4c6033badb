//! Cuts the body of a gateway request into its events, each a slice of the body.
//!
//! The checks are those by which RudderStack's gateway refuses a request as a whole. An event that
//! is nested too deep, or that holds a number which is too large, is not among them: it ends
//! alone when it is decoded.

use bytes::Bytes;
use bytestring::ByteString;

use super::decode::{Fault, Reader};
use super::ids;

/// How a body holds its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The body is one event.
    Single,
    /// The body is an object with `batch`: a list of events, or one event.
    Batch,
}

/// Why a body is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsplit {
    /// It is not one valid JSON text.
    InvalidJson,
    /// An event is no object.
    NotAnObject,
    /// An event has neither `userId` nor `anonymousId`.
    NoIds,
    /// There is no event.
    Empty,
}

/// Cuts `body` into events.
///
/// # Errors
///
/// [`Unsplit::InvalidJson`] wherever the fault stands, else what is wrong with the first bad event.
pub fn split(body: &Bytes, shape: Shape) -> Result<Vec<Bytes>, Unsplit> {
    let source = ByteString::try_from(body.clone()).map_err(|_| Unsplit::InvalidJson)?;
    let mut reader = Reader::new(&source);
    reader.blank();
    let mut cut = Cut { body, events: Vec::new(), bad: None };
    let walked = match (shape, reader.peek()) {
        (Shape::Single, _) => cut.event(&mut reader, 0),
        (Shape::Batch, Some(b'{')) => reader.members(|reader, key, _| {
            if key != "batch" {
                return reader.skip(1);
            }
            // With duplicate keys the last counts.
            cut = Cut { body, events: Vec::new(), bad: None };
            match reader.peek() {
                Some(b'[') => reader.elements(|reader| cut.event(reader, 2)),
                Some(b'n') => reader.skip(1),
                _ => cut.event(reader, 1),
            }
        }),
        (Shape::Batch, _) => reader.skip(0),
    };
    walked.and_then(|()| reader.end()).map_err(|_| Unsplit::InvalidJson)?;
    match cut.bad {
        Some(bad) => Err(bad),
        None if cut.events.is_empty() => Err(Unsplit::Empty),
        None => Ok(cut.events),
    }
}

struct Cut<'b> {
    body: &'b Bytes,
    events: Vec<Bytes>,
    /// What is wrong with the first bad event.
    bad: Option<Unsplit>,
}

impl Cut<'_> {
    fn event(&mut self, reader: &mut Reader<'_>, depth: usize) -> Result<(), Fault> {
        let start = reader.position();
        if reader.peek() != Some(b'{') {
            self.bad = self.bad.or(Some(Unsplit::NotAnObject));
            return reader.skip(depth);
        }
        let (mut user, mut anonymous) = (false, false);
        reader.members(|reader, key, _| {
            match &*key {
                "userId" => user = has_id(reader, depth)?,
                "anonymousId" => anonymous = has_id(reader, depth)?,
                _ => reader.skip(depth + 1)?,
            }
            Ok(())
        })?;
        if !user && !anonymous {
            self.bad = self.bad.or(Some(Unsplit::NoIds));
        }
        if self.bad.is_none() {
            self.events.push(reader.span_from(start).of(self.body));
        }
        Ok(())
    }
}

/// Takes an id; tells whether anything is left of it after cleaning.
fn has_id(reader: &mut Reader<'_>, depth: usize) -> Result<bool, Fault> {
    match reader.peek() {
        Some(b'"') => Ok(!ids::clean(&reader.text()?).is_empty()),
        first => {
            reader.skip(depth + 1)?;
            // The text of a number, a boolean, an object or an array is never empty.
            Ok(first != Some(b'n'))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(body: &str, shape: Shape) -> Result<Vec<String>, Unsplit> {
        let events = split(&Bytes::copy_from_slice(body.as_bytes()), shape)?;
        Ok(events.iter().map(|e| String::from_utf8(e.to_vec()).unwrap()).collect())
    }

    #[test]
    fn events_are_cut_out_byte_for_byte() {
        let one = r#"{ "userId": "u" , "n": 1.50 }"#;
        let two = r#"{"anonymousId":5}"#;
        assert_eq!(texts(&format!(" {one}\n"), Shape::Single).unwrap(), [one]);
        let body = format!(r#"{{"sentAt":"x","batch":[ {one},{two} ],"z":[{{}}]}}"#);
        assert_eq!(texts(&body, Shape::Batch).unwrap(), [one, two]);
        let body = format!(r#"{{"b\u0061tch": {one}}}"#);
        assert_eq!(texts(&body, Shape::Batch).unwrap(), [one]);
        let body = format!(r#"{{"batch":[5],"batch":[{two}]}}"#);
        assert_eq!(texts(&body, Shape::Batch).unwrap(), [two], "the last duplicate counts");
    }

    #[test]
    fn bodies_are_refused_for_the_first_bad_event() {
        for (body, why) in [
            ("", Unsplit::InvalidJson),
            ("{\"batch\":[5]}x", Unsplit::InvalidJson),
            ("{\"batch\":[5,]}", Unsplit::InvalidJson),
            ("\u{feff}{}", Unsplit::InvalidJson),
            ("{}", Unsplit::Empty),
            ("[]", Unsplit::Empty),
            ("5", Unsplit::Empty),
            ("{\"batch\":null}", Unsplit::Empty),
            ("{\"batch\":[]}", Unsplit::Empty),
            ("{\"batch\":[{\"userId\":1}],\"batch\":null}", Unsplit::Empty),
            ("{\"batch\":\"x\"}", Unsplit::NotAnObject),
            ("{\"batch\":[{\"userId\":1},[]]}", Unsplit::NotAnObject),
            ("{\"batch\":[{},[]]}", Unsplit::NoIds),
            ("{\"batch\":[[],{}]}", Unsplit::NotAnObject),
            ("{\"batch\":{\"userId\":\" \"}}", Unsplit::NoIds),
            ("{\"batch\":{\"userId\":\"a\",\"userId\":null}}", Unsplit::NoIds),
        ] {
            assert_eq!(texts(body, Shape::Batch), Err(why), "{body}");
        }
        assert_eq!(texts("[{\"userId\":1}]", Shape::Single), Err(Unsplit::NotAnObject));
        let body = Bytes::from_static(b"{\"userId\":\"\xff\"}");
        assert_eq!(split(&body, Shape::Single), Err(Unsplit::InvalidJson));
    }

    #[test]
    fn what_ends_an_event_alone_does_not_refuse_its_neighbours() {
        let deep = format!(r#"{{"userId":1,"a":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        let huge = r#"{"userId":1,"a":1e999}"#;
        let body = format!(r#"{{"batch":[{deep},{huge},{{"userId":1}}]}}"#);
        assert_eq!(texts(&body, Shape::Batch).unwrap().len(), 3);
    }

    proptest! {
        #[test]
        fn a_batch_is_cut_as_serde_reads_it(
            list in prop::collection::vec(prop::collection::btree_map(
                "userId|anonymousId|[a-z]{1,3}",
                prop_oneof![Just("null"), Just("\"\""), Just("\"u\\n\""), Just("[{},7]"), Just("1e3")],
                0..4,
            ), 0..5),
            cut in any::<prop::sample::Index>(),
        ) {
            let event = |members: &std::collections::BTreeMap<String, &str>| {
                let members: Vec<_> = members.iter().map(|(k, v)| format!("\"{k}\" : {v}")).collect();
                format!("{{{}}}", members.join(","))
            };
            let events: Vec<_> = list.iter().map(event).collect();
            let body = format!("{{\"batch\":[ {} ]}}", events.join(" , "));
            let has = |members: &std::collections::BTreeMap<String, &str>, id| {
                members.get(id).is_some_and(|v| !["null", "\"\""].contains(v))
            };
            let all = list.iter().all(|m| has(m, "userId") || has(m, "anonymousId"));
            match texts(&body, Shape::Batch) {
                Ok(cut) => {
                    prop_assert!(all && !events.is_empty());
                    prop_assert_eq!(cut, events);
                }
                Err(Unsplit::Empty) => prop_assert!(events.is_empty()),
                Err(why) => prop_assert!(why == Unsplit::NoIds && !all),
            }
            // A part of a body is never taken.
            let part = body.get(..cut.index(body.len())).unwrap();
            prop_assert_eq!(texts(part, Shape::Batch), Err(Unsplit::InvalidJson));
        }
    }
}
