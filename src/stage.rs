//! One event's walk from bytes to operations: decode, filter, map, check. No I/O.
//!
//! An event that is refused names the first rule on this road: it must be an event (*malformed*),
//! then connection mode, event list, and `integrations` (*filtered*), then consent (*withheld*),
//! then a script for its type (*filtered*, `message_type`). Only then are missing members filled in
//! and does a script run. RudderStack's server asks in the same order, with the message type behind
//! consent; so a denied event of an unknown type is *withheld*.

use std::sync::Arc;

use crate::event::decode::decode_as;
use crate::event::enrich::enrich;
use crate::event::identity::IdInput;
use crate::event::{Event, Original};
use crate::filter::{Explanation, Filter};
use crate::mapping::{Mapped, Mapper, Mapping};
use crate::operation::{Operations, prepare};
use crate::outcome::{Outcome, Reason, ReasonCode};
use crate::source::{Batch, Incoming};

/// How members that are missing in an event are filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// As the gateway does: `messageId`, `rudderId`, `receivedAt`, `request_ip`, and the times.
    Gateway,
    /// Not at all (`map`, `test`).
    Nothing,
}

/// The walk with its worker; one per thread.
#[derive(Debug)]
pub struct Stage {
    filter: Arc<Filter>,
    mapping: Arc<Mapping>,
    mapper: Mapper,
    fill: Fill,
    scratch: Vec<u8>,
}

/// Where the walk ended.
#[derive(Debug)]
pub enum Walked {
    /// Before mapping or by the script's decision; nothing of the event may be kept.
    Ended(Outcome),
    /// Mapping failed; the event goes to the dead letters.
    Failed(Outcome, Box<Prepared>),
    /// Ready for the buffer.
    Ready(Box<Prepared>),
}

/// What decided about an event on its walk.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Explained {
    /// What every filter said.
    #[serde(flatten)]
    pub filter: Explanation,
    /// The event's type in lower case.
    #[serde(rename = "type")]
    pub type_name: Box<str>,
    /// The script of the type, if there is one.
    pub script: Option<String>,
}

/// A mapped event.
#[derive(Debug)]
pub struct Prepared {
    /// The operations in order (empty when mapping failed).
    pub operations: Operations,
    /// The source event with what we assigned.
    pub original: Original,
    /// Input of the event ids.
    pub id_input: IdInput,
}

impl Stage {
    /// Makes a walk over one snapshot of filter and mapping.
    #[must_use]
    pub fn new(filter: Arc<Filter>, mapping: Arc<Mapping>, fill: Fill) -> Self {
        let mapper = mapping.worker();
        Self { filter, mapping, mapper, fill, scratch: Vec::new() }
    }

    /// Walks one element of a batch.
    pub fn walk(&mut self, element: &Incoming, batch: &Batch) -> Walked {
        let event = match self.decode(element, batch) {
            Ok(event) => event,
            Err(reason) => return Walked::Ended(Outcome::Malformed(reason)),
        };
        match self.filter.decide(&event, &batch.origin) {
            Some(refusal) => Walked::Ended(refusal),
            None => self.map(event, batch),
        }
    }

    /// As [`Stage::walk`], and tells what decided; nothing for a malformed element.
    pub fn explain(&mut self, element: &Incoming, batch: &Batch) -> (Walked, Option<Explained>) {
        let event = match self.decode(element, batch) {
            Ok(event) => event,
            Err(reason) => return (Walked::Ended(Outcome::Malformed(reason)), None),
        };
        let (refusal, filter) = self.filter.explain(&event, &batch.origin);
        let explained = Explained {
            filter,
            type_name: Box::from(&*event.type_name),
            script: event.index.map(|index| self.mapping.file(index).to_owned()),
        };
        let walked = match refusal {
            Some(refusal) => Walked::Ended(refusal),
            None => self.map(event, batch),
        };
        (walked, Some(explained))
    }

    fn decode(&self, element: &Incoming, batch: &Batch) -> Result<Event, Reason> {
        let json = element.json.as_ref().map_err(Reason::clone)?;
        decode_as(json, self.mapping.plan(), batch.set_type)
    }

    /// Maps an event that no rule has refused.
    fn map(&mut self, mut event: Event, batch: &Batch) -> Walked {
        let Some(index) = event.index else {
            let reason = Reason::new(ReasonCode::MessageType, "no script is listed for this type");
            return Walked::Ended(Outcome::Filtered(reason));
        };
        if self.fill == Fill::Gateway {
            let client_ip = batch.client_ip.as_deref();
            enrich(&mut event, self.mapping.plan(), batch.received_at, client_ip);
        }
        let id_input = IdInput::of(&event);
        let Event { raw, assigned, body, .. } = event;
        let original = Original { raw, assigned };
        let result = match self.mapper.map(index, body) {
            Mapped::Dropped(reason) => return Walked::Ended(Outcome::Dropped(reason)),
            Mapped::Failed(reason) => Err(reason),
            Mapped::Root(root) => {
                prepare(root, self.mapping.file(index), &id_input, &mut self.scratch)
            }
        };
        let prepared = |operations| Box::new(Prepared { operations, original, id_input });
        match result {
            Ok(operations) if operations.is_empty() => {
                Walked::Ended(Outcome::Dropped(ReasonCode::NoOperations.into()))
            }
            Ok(operations) => Walked::Ready(prepared(operations)),
            Err(reason) => Walked::Failed(Outcome::Failed(reason), prepared(Operations::new())),
        }
    }
}
