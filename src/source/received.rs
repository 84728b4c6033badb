//! Counts what was received, once it is safe.

use bytes::Bytes;
use metrics::{Counter, SharedString, counter};

use super::EventBatch;
use crate::telemetry::names;

/// A batch that is to be counted as received.
#[derive(Debug)]
pub struct Received {
    events: (Counter, u64),
    bytes: (Counter, u64),
}

impl Received {
    /// Measures a batch that came by a source of the type `by`.
    #[must_use]
    pub fn new(batch: &EventBatch, by: &'static str) -> Self {
        let labels = [
            ("component_id", SharedString::from(batch.origin.source.clone())),
            ("component_kind", "source".into()),
            ("component_type", by.into()),
        ];
        let texts = batch.elements.iter().filter_map(|element| element.json.as_ref().ok());
        let bytes: usize = texts.map(Bytes::len).sum();
        Self {
            events: (counter!(names::RECEIVED_EVENTS, &labels), batch.elements.len() as u64),
            bytes: (counter!(names::RECEIVED_BYTES, &labels), bytes as u64),
        }
    }

    /// Counts it.
    pub fn count(self) {
        let Self { events: (events, n), bytes: (bytes, size) } = self;
        events.increment(n);
        bytes.increment(size);
    }
}
