//! Where mapped events wait for delivery: the interface, and the buffers on disk and in memory.
//!
//! `append` answers once the events are safe; `read` gives them in order of arrival, each once;
//! `fetch` gives one again; `settle` lets go of one whose every operation has ended.

pub mod disk;
pub mod memory;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

use crate::event::Original;
use crate::event::identity::IdInput;
use crate::operation::Operations;
use crate::outcome::{LedgerSnapshot, Outcome, Tally};

/// Position of an event in the buffer; grows by one per event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// The name of a dead letter, by which a replay is done once: the first 128 bits of its line's
/// SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId(pub u128);

/// One event that waits.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its operations, in order. Empty only for an event whose row on disk is damaged and was set
    /// aside: it ends as *rejected*, `internal`.
    pub operations: Operations,
    /// The source event, for the dead letter.
    pub original: Original,
    /// Input of the event ids.
    pub id_input: IdInput,
    /// When it was received.
    pub received_at: DateTime<Utc>,
    /// Label of its source.
    pub source: Arc<str>,
    /// The dead letter of which it is a replay.
    pub letter: Option<LetterId>,
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
#[non_exhaustive]
pub struct BufferStats {
    /// Events that wait.
    pub events: u64,
    /// Their size in bytes, as the bound counts it: operations and source events.
    pub bytes: u64,
    /// The bound, in bytes.
    pub max_bytes: u64,
    /// When the oldest waiting event was received.
    pub oldest: Option<DateTime<Utc>>,
    /// Why it cannot store now, if so.
    pub unavailable: Option<String>,
    /// Whether it is damaged so that what waits cannot be read before somebody does what
    /// `unavailable` says.
    pub damaged: bool,
}

/// A store of waiting events; object-safe, shared by `Arc<dyn Buffer>`.
pub trait Buffer: Send + Sync + std::fmt::Debug {
    /// Stores the events; answers with the sequence of the first once all are safe.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped before it answers, nothing is stored: callers limit their wait.
    fn append(&self, events: Vec<Stored>) -> BoxFuture<'_, Result<Sequence, AppendError>>;

    /// As [`Buffer::append`]; the same commit enters endings of events that arrived with these and
    /// are not stored into the ledger of all lives. Not without events: see [`Buffer::record`].
    fn append_with(
        &self,
        events: Vec<Stored>,
        ended: Tally,
    ) -> BoxFuture<'_, Result<Sequence, AppendError>> {
        // What keeps no ledger has nothing to enter.
        drop(ended);
        self.append(events)
    }

    /// Returns further events in order, each once, waiting until there is at least one: up to
    /// `events`, and no further one once they weigh `bytes` together. An empty list means that the
    /// buffer is closed and read to its end.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped before it answers, the events are handed out by the next call.
    fn read(&self, events: usize, bytes: u64) -> BoxFuture<'_, Vec<(Sequence, Arc<Stored>)>>;

    /// Returns events again that were read and not settled, in the order asked for.
    ///
    /// # Errors
    ///
    /// Text for the operator: the store cannot be read now, or does not hold one of them.
    fn fetch(&self, events: Vec<Sequence>) -> BoxFuture<'_, Result<Vec<Arc<Stored>>, String>>;

    /// Lets go of events that have ended; durable within 100 ms, and once [`Buffer::flush`] answers.
    fn settle(&self, events: &[(Sequence, Outcome)]);

    /// Enters endings of events that were never stored into the ledger of all lives; durable within
    /// 100 ms, and once [`Buffer::flush`] answers. Each counts as received, too; `ended.received` and
    /// `ended.buffered` are not looked at.
    fn record(&self, ended: &Tally);

    /// Returns once everything that was settled and recorded is durable, or cannot become so.
    fn flush(&self) -> BoxFuture<'_, ()>;

    /// Returns the ledger of all lives of the store (`recovered` is 0: it cancels out), if it keeps
    /// one.
    fn all_lives(&self) -> Option<LedgerSnapshot>;

    /// Tells which of these dead letters were replayed into the store, in this life or another:
    /// their events were stored in the same commit that remembers this. A letter whose append has
    /// not answered, or was taken back, is none.
    #[cfg(feature = "pipeline")]
    fn replayed(&self, letters: Vec<LetterId>) -> BoxFuture<'_, Result<Vec<bool>, String>>;

    /// Lets go of what [`Buffer::replayed`] remembers of letters that are known elsewhere, durably,
    /// to be replayed.
    #[cfg(feature = "pipeline")]
    fn forget_replayed(&self, _letters: &[LetterId]) {}

    /// Refuses further appends; `read` ends after the last stored event.
    fn close(&self);

    /// Returns the fill level.
    fn stats(&self) -> BufferStats;

    /// Tells whether stored events survive the end of the process.
    fn durable(&self) -> bool;
}
