//! One event's walk from bytes to operations: decode, filter, map, check. No I/O.

use std::sync::Arc;

use crate::event::Original;
use crate::event::identity::IdInput;
use crate::filter::{Explanation, Filter};
use crate::mapping::{Mapper, Mapping};
use crate::operation::Operations;
use crate::outcome::Outcome;
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
        let _ =
            (element, batch, &self.filter, &self.mapping, &self.mapper, self.fill, &self.scratch);
        todo!()
    }

    /// As [`Stage::walk`], and tells what decided.
    pub fn explain(&mut self, element: &Incoming, batch: &Batch) -> (Walked, Option<Explanation>) {
        let _ = (element, batch);
        todo!()
    }
}
