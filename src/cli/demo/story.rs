//! What each sample event is about to become, told before it is sent.
//!
//! The walk is the product's own; it runs here once more because the running pipeline keeps no
//! record of single events.

use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use serde_json::Value;

use crate::config::Config;
use crate::filter::Filter;
use crate::mapping::Mapping;
use crate::outcome::{Outcome, OutcomeKind};
use crate::source::{EventBatch, Incoming, Origin};
use crate::stage::{Fill, Stage, Walked};

/// The samples as lines of a story, and how many of them must be delivered.
pub struct Story {
    /// A line per sample.
    pub lines: String,
    /// Samples that must reach the destination.
    pub deliveries: u64,
    /// Samples that must end in another way, by kind.
    pub endings: Vec<(OutcomeKind, u64)>,
}

/// Walks every sample. Run it on a thread with a large stack, since VRL recurses.
pub fn tell(samples: &[&str], config: &Config, mapping: &Arc<Mapping>) -> Story {
    let filter = Arc::new(Filter::new(&config.filter, &config.consent));
    let mut stage = Stage::new(filter, Arc::clone(mapping), Fill::Nothing);
    let batch = EventBatch {
        elements: Vec::new(),
        set_type: None,
        origin: Origin { source: Arc::from("demo"), source_type: Arc::from("web") },
        received_at: Utc::now(),
        client_ip: None,
    };
    let mut story = Story { lines: String::new(), deliveries: 0, endings: Vec::new() };
    for (position, sample) in (0..).zip(samples) {
        let element = Incoming::new(Ok(Bytes::copy_from_slice(sample.as_bytes())), position);
        let ending = match stage.walk(&element, &batch) {
            Walked::Ready(prepared) => {
                story.deliveries += 1;
                format!("→ {}", effects(prepared.operations.iter().map(|o| &*o.body)))
            }
            Walked::Ended(outcome) | Walked::Failed(outcome, _) => {
                story.count(outcome.kind());
                format!("✗ {}", in_words(&outcome))
            }
        };
        let event: Value = serde_json::from_str(sample).unwrap_or_default();
        story.lines.push_str(&line(&title(&event), &ending));
    }
    story
}

impl Story {
    fn count(&mut self, kind: OutcomeKind) {
        match self.endings.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, n)) => *n += 1,
            None => self.endings.push((kind, 1)),
        }
    }
}

/// Names an event as its sender would.
fn title(event: &Value) -> String {
    let text = |key: &str| event[key].as_str().filter(|t| !t.is_empty());
    let who = text("userId").or_else(|| text("anonymousId")).unwrap_or("nobody");
    let kind = text("type").unwrap_or("?");
    let what = text("event")
        .or_else(|| text("name"))
        .or_else(|| text("groupId"))
        .or_else(|| text("previousId"));
    columns(kind, who, what)
}

/// Sets kind, person, and name below those of the other lines.
pub fn columns(kind: &str, who: &str, what: Option<&str>) -> String {
    match what {
        Some(what) => format!("{kind:<9} {who:<14} {what}"),
        None => format!("{kind:<9} {who}"),
    }
}

/// Writes a line of the story.
pub fn line(title: &str, ending: &str) -> String {
    format!("  {title:<52} {ending}\n")
}

/// Names operations, such as `person event`.
fn effects<'a>(bodies: impl Iterator<Item = &'a [u8]>) -> String {
    let name = |body: &[u8]| effect(&serde_json::from_slice(body).unwrap_or_default());
    bodies.map(name).collect::<Vec<_>>().join(", ")
}

/// Names an operation.
pub fn effect(operation: &Value) -> String {
    let text = |key: &str| operation[key].as_str().unwrap_or("?");
    format!("{} {}", text("type"), text("action"))
}

fn in_words(outcome: &Outcome) -> String {
    let kind = outcome.kind();
    match outcome.reason() {
        Some(reason) => match &reason.detail {
            Some(detail) => format!("{kind}: {} ({detail})", reason.code),
            None => format!("{kind}: {}", reason.code),
        },
        None => kind.to_string(),
    }
}
