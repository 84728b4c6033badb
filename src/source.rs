//! Where events come from, and the way by which a source hands them in.

#[cfg(feature = "pipeline")]
mod body;
#[cfg(feature = "pipeline")]
pub mod http;
pub mod intake;
#[cfg(feature = "pipeline")]
pub mod rudderstack;
#[cfg(feature = "pipeline")]
mod server;
#[cfg(feature = "pipeline")]
pub mod stdin;
#[cfg(feature = "pipeline")]
pub mod submit;
#[cfg(feature = "pipeline")]
pub mod tls;
#[cfg(feature = "pipeline")]
pub mod vector;

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::buffer::LetterId;
use crate::event::identity::IdInput;
use crate::outcome::Reason;

pub use intake::{Intake, Receipt, Refused, Summary};
#[cfg(feature = "pipeline")]
pub use submit::Submit;

/// Tells whether events can be taken now; asked by probes.
#[cfg(feature = "pipeline")]
pub type Health = Arc<dyn Fn() -> bool + Send + Sync>;

/// What the pipeline knows of the source of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Label of the source, such as `rudderstack` or `stdin`.
    pub source: Arc<str>,
    /// RudderStack's source type (`web`, `android`, `cloud`, …), by which the connection mode and
    /// consent lists may differ.
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
    /// Makes an element that comes for the first time.
    #[must_use]
    pub fn new(json: Result<Bytes, Reason>, position: u64) -> Self {
        Self { json, position, replay: None }
    }
}

/// Elements that arrived together and are acknowledged together.
#[derive(Clone, Debug)]
pub struct EventBatch {
    /// The elements in the order of arrival.
    pub elements: Vec<Incoming>,
    /// Replaces every element's `type` (the gateway's single-event endpoints).
    pub set_type: Option<&'static str>,
    /// Where the batch came from.
    pub origin: Origin,
    /// When the request was received; `receivedAt` of its events.
    pub received_at: DateTime<Utc>,
    /// Address of the client, `request_ip` of its events.
    pub client_ip: Option<Box<str>>,
}
