//! What a source hands in: events as JSON text, and what it knows of their way here.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::buffer::LetterId;
use crate::event::identity::IdInput;
use crate::outcome::Reason;

/// The name of a source that has told none; also the type of all sources outside of this crate.
pub(crate) const PROGRAM: &str = "program";

/// What the pipeline knows of the source of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Label of the source, such as `rudderstack` or `stdin`.
    pub source: Arc<str>,
    /// RudderStack's source type (`web`, `android`, `cloud`, …), by which the connection mode may
    /// differ.
    pub source_type: Arc<str>,
}

/// One element that a source received.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The element's JSON text, or why the source could not cut one out.
    pub json: Result<Bytes, Reason>,
    /// Position for messages: the line of an input, or the index in a request.
    pub position: u64,
    /// What the event got when it first came, if it comes from the dead letters.
    pub(crate) replay: Option<Box<Replay>>,
}

/// What the first walk of an event settled for all later ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The dead letter.
    pub letter: LetterId,
    /// Input of the event ids, so that these stay the same.
    pub id_input: IdInput,
    /// When the event was received.
    pub received_at: DateTime<Utc>,
}

impl Incoming {
    /// Makes an element that comes for the first time. With a [`Reason`] instead of a text it ends
    /// as *malformed*, so that what could not be read is counted.
    ///
    /// ```
    /// use rudder_customerio::outcome::{Reason, ReasonCode};
    /// use rudder_customerio::sink::{EventBatch, Incoming};
    ///
    /// let mut batch = EventBatch::new();
    /// let cut_off = Reason::new(ReasonCode::InvalidJson, "the line was cut off");
    /// batch.push(Incoming::new(Err(cut_off), 0));
    /// assert_eq!(batch.len(), 1);
    /// ```
    #[must_use]
    pub fn new(json: Result<Bytes, Reason>, position: u64) -> Self {
        Self { json, position, replay: None }
    }
}

/// Events that are handed in together and acknowledged together, in order.
///
/// An event is the JSON text of one RudderStack event (`identify`, `track`, `page`, `screen`,
/// `group`, `alias`, …), from bytes, text, or a [`serde_json::Value`]. One event is a batch by
/// `from`, several are collected or pushed. An event's text is never split: NDJSON or a JSON array
/// as one text is one event, and ends as *malformed*. Split lines before, as below.
///
/// Nothing is checked here. What is no event is counted as *malformed* and holds up nothing else.
///
/// ```
/// use rudder_customerio::sink::EventBatch;
/// use serde_json::json;
///
/// let one = EventBatch::from(r#"{"type":"track","userId":"u-1","event":"Signed Up"}"#);
/// assert_eq!(one.len(), 1);
///
/// let ndjson = "{\"type\":\"alias\",\"userId\":\"u-1\"}\n{\"type\":\"alias\",\"userId\":\"u-2\"}\n";
/// let mut many: EventBatch = ndjson.lines().collect();
/// many.push(json!({ "type": "identify", "userId": "u-3", "traits": { "plan": "pro" } }));
/// let many = many.source("orders").source_type("web").client_ip("192.0.2.1");
/// assert_eq!(many.len(), 3);
/// ```
///
/// # Defaults
///
/// | | unless set | is used for |
/// | --- | --- | --- |
/// | [`source`](Self::source) | `program` | label `component_id` of what was received, dead letters, log |
/// | [`source_type`](Self::source_type) | none | connection mode: `filter.mode.default` applies |
/// | [`received_at`](Self::received_at) | now | `receivedAt` of the events, age of what waits |
/// | [`client_ip`](Self::client_ip) | none | `request_ip` of the events |
#[derive(Clone, Debug)]
#[must_use]
pub struct EventBatch {
    /// The elements in the order of arrival.
    pub(crate) elements: Vec<Incoming>,
    /// Replaces every element's `type` (the gateway's single-event endpoints).
    pub(crate) set_type: Option<&'static str>,
    /// Where the batch came from.
    pub(crate) origin: Origin,
    /// When the request was received; `receivedAt` of its events.
    pub(crate) received_at: DateTime<Utc>,
    /// Address of the client, `request_ip` of its events.
    pub(crate) client_ip: Option<Box<str>>,
}

impl EventBatch {
    /// Makes an empty batch that is received now.
    pub fn new() -> Self {
        static ORIGIN: LazyLock<Origin> =
            LazyLock::new(|| Origin { source: PROGRAM.into(), source_type: "".into() });
        Self {
            elements: Vec::new(),
            set_type: None,
            origin: ORIGIN.clone(),
            received_at: Utc::now(),
            client_ip: None,
        }
    }

    /// Names the source. The name is a label of metrics, so it must come from a small set: a
    /// topic or a tenant's tier, never a person.
    pub fn source(mut self, name: impl Into<Arc<str>>) -> Self {
        self.origin.source = name.into();
        self
    }

    /// Sets RudderStack's source type, such as `web`, `android`, `ios`, or `cloud`, which is
    /// compared exactly with the keys of `filter.mode`.
    ///
    /// In device mode the SDK on the device has sent the event itself; a batch of such a source
    /// type ends as *filtered*.
    pub fn source_type(mut self, source_type: impl Into<Arc<str>>) -> Self {
        self.origin.source_type = source_type.into();
        self
    }

    /// Sets when the events were received, as [`DateTime<Utc>`] or
    /// [`SystemTime`](std::time::SystemTime).
    ///
    /// Events that come again, from a queue for example, should keep their first time: what is
    /// filled in from it is then the same again.
    pub fn received_at(mut self, at: impl Into<DateTime<Utc>>) -> Self {
        self.received_at = at.into();
        self
    }

    /// Sets the address of the client, as [`IpAddr`](std::net::IpAddr) or as text.
    #[expect(clippy::needless_pass_by_value, reason = "an address is given, not lent")]
    pub fn client_ip(mut self, address: impl ToString) -> Self {
        self.client_ip = Some(address.to_string().into());
        self
    }

    /// Adds an event behind those that are there.
    pub fn push(&mut self, event: impl Into<Incoming>) {
        let position = self.elements.len() as u64;
        self.elements.push(Incoming { position, ..event.into() });
    }

    /// Returns how many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Tells whether there is no event. An empty batch is taken, and settled at once.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }
}

impl Default for EventBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Into<Incoming>> Extend<E> for EventBatch {
    fn extend<I: IntoIterator<Item = E>>(&mut self, events: I) {
        events.into_iter().for_each(|event| self.push(event));
    }
}

impl<E: Into<Incoming>> FromIterator<E> for EventBatch {
    fn from_iter<I: IntoIterator<Item = E>>(events: I) -> Self {
        let mut batch = Self::new();
        batch.extend(events);
        batch
    }
}

/// One event's text, as an element and as a batch of one.
macro_rules! event_from {
    ($($text:ty: $text_of:expr,)*) => { $(
        impl From<$text> for Incoming {
            fn from(text: $text) -> Self {
                let text_of: fn($text) -> Bytes = $text_of;
                Self::new(Ok(text_of(text)), 0)
            }
        }

        impl From<$text> for EventBatch {
            fn from(text: $text) -> Self {
                Self::from_iter([text])
            }
        }
    )* };
}

event_from! {
    Bytes: |text| text,
    Vec<u8>: Bytes::from,
    &[u8]: Bytes::copy_from_slice,
    String: Bytes::from,
    &str: |text| Bytes::copy_from_slice(text.as_bytes()),
    Value: |value| Bytes::from(value.to_string()),
    &Value: |value| Bytes::from(value.to_string()),
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::SystemTime;

    use serde_json::json;

    use super::*;

    const TEXT: &str = r#"{"type":"track"}"#;

    fn texts(batch: &EventBatch) -> Vec<(u64, &[u8])> {
        batch.elements.iter().map(|e| (e.position, &**e.json.as_ref().unwrap())).collect()
    }

    #[test]
    fn every_form_of_an_event_is_the_same_batch_of_one() {
        let value = json!({ "type": "track" });
        for batch in [
            EventBatch::from(TEXT),
            EventBatch::from(TEXT.to_owned()),
            EventBatch::from(TEXT.as_bytes()),
            EventBatch::from(TEXT.as_bytes().to_vec()),
            EventBatch::from(Bytes::from_static(TEXT.as_bytes())),
            EventBatch::from(&value),
            EventBatch::from(value),
        ] {
            assert_eq!(texts(&batch), [(0, TEXT.as_bytes())]);
            assert_eq!((&*batch.origin.source, &*batch.origin.source_type), ("program", ""));
            assert_eq!((batch.client_ip, batch.set_type), (None, None));
        }
    }

    #[test]
    fn collected_and_pushed_events_are_numbered_in_order() {
        let mut batch: EventBatch = ["{}", "[]"].into_iter().collect();
        batch.extend(vec![json!(1), json!(2)]);
        batch.push("");
        let expected: [(u64, &[u8]); 5] = [(0, b"{}"), (1, b"[]"), (2, b"1"), (3, b"2"), (4, b"")];
        assert_eq!(texts(&batch), expected);
        assert!(EventBatch::from_iter([""; 0]).is_empty());
    }

    #[test]
    fn a_text_of_several_lines_is_one_element() {
        assert_eq!(EventBatch::from("{}\n{}\n").len(), 1);
    }

    #[test]
    fn what_is_set_replaces_the_defaults() {
        let at = SystemTime::UNIX_EPOCH;
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let batch = EventBatch::from(TEXT)
            .source("a")
            .source_type("web")
            .received_at(at)
            .client_ip(address);
        assert_eq!((&*batch.origin.source, &*batch.origin.source_type), ("a", "web"));
        assert_eq!(batch.received_at, DateTime::<Utc>::UNIX_EPOCH);
        assert_eq!(batch.client_ip.as_deref(), Some("127.0.0.1"));
    }
}
