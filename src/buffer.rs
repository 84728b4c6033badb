//! Where mapped events wait for delivery: the interface, and the buffer in memory.
//!
//! `append` answers once the events are safe; `read` gives them in order of arrival, each once;
//! `settle` lets go of one whose every operation has ended.

pub mod memory;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

use crate::event::Original;
use crate::event::identity::IdInput;
use crate::operation::Operations;

/// Position of an event in the buffer; grows by one per event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// One event that waits.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its operations, in order; never empty.
    pub operations: Operations,
    /// The source event, for the dead letter.
    pub original: Original,
    /// Input of the event ids.
    pub id_input: IdInput,
    /// When it was received.
    pub received_at: DateTime<Utc>,
    /// Label of its source.
    pub source: Arc<str>,
}

impl Stored {
    /// Returns the size by which the buffer's bound counts: operations and original.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let operations: usize = self.operations.iter().map(|o| o.body.len() + 64).sum();
        (operations + self.original.raw.len() + 128) as u64
    }
}

/// Why events were not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The bound is reached (and, with `when_full: wait`, stayed reached for 20 s).
    Full(Duration),
    /// The store failed; the text is for the log and `/readyz`.
    Failed(String),
    /// The buffer was closed.
    Closed,
}

/// Fill level for metrics and `/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BufferStats {
    /// Events that wait.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bound.
    pub max_bytes: u64,
    /// When the oldest waiting event was received.
    pub oldest: Option<DateTime<Utc>>,
    /// Why it cannot store now, if so.
    pub unavailable: Option<String>,
}

/// A store of waiting events; object-safe, shared by `Arc<dyn Buffer>`.
pub trait Buffer: Send + Sync + std::fmt::Debug {
    /// Stores the events; answers with the sequence of the first once all are safe.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped before it answers, nothing is stored: callers limit their wait.
    fn append(&self, events: Vec<Stored>) -> BoxFuture<'_, Result<Sequence, AppendError>>;

    /// Returns up to `limit` further events in order, waiting until there is at least one; an
    /// empty list means that the buffer is closed and read to its end.
    fn read(&self, limit: usize) -> BoxFuture<'_, Vec<(Sequence, Arc<Stored>)>>;

    /// Lets go of events that have ended.
    fn settle(&self, events: &[Sequence]);

    /// Refuses further appends; `read` ends after the last stored event.
    fn close(&self);

    /// Returns the fill level.
    fn stats(&self) -> BufferStats;

    /// Tells whether stored events survive the end of the process.
    fn durable(&self) -> bool;
}
