//! A batch after mapping, on its way to the appender, and when it is too late for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::buffer::Stored;
use crate::delivery::{DeadLetter, Refusal};
use crate::outcome::Tally;
use crate::source::intake::{Answer, Permit, Refused};
use crate::source::{EventBatch, Incoming};
use crate::stage::{Prepared, Walked};

/// What a sender is asked to wait before it repeats a batch that was not stored in time.
pub(super) const LATER: Duration = Duration::from_secs(5);

/// The refusal of a batch whose time is over before it was its turn.
pub(super) const LATE: Refused = Refused::Full(LATER);

/// A batch after mapping.
#[derive(Debug)]
pub(super) struct MappedBatch {
    pub(super) answer: Answer,
    /// When its sender must have an answer, unless it waits as long as it takes.
    pub(super) deadline: Option<Instant>,
    /// Events that ended and of which nothing is kept.
    pub(super) tally: Tally,
    /// Events that failed and belong to the dead letters.
    pub(super) failed: Vec<DeadLetter>,
    /// Events for the buffer, in order.
    pub(super) ready: Vec<Stored>,
    /// Given back when the batch is done with.
    pub(super) permit: Permit,
}

/// What the threads hand on, in any order.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) number: u64,
    /// `None` if the batch was lost to a defect; its receipt is refused already.
    pub(super) batch: Option<Box<MappedBatch>>,
}

impl MappedBatch {
    pub(super) fn add(&mut self, walked: Walked, element: &Incoming, batch: &EventBatch) {
        let replay = element.replay.as_deref();
        let received_at = replay.map_or(batch.received_at, |replay| replay.received_at);
        match walked {
            Walked::Ended(outcome) => self.tally.end(&outcome),
            Walked::Failed(outcome, prepared) => {
                let Prepared { operations, original, id_input } = prepared.detached();
                self.failed.push(DeadLetter {
                    outcome,
                    refusal: Refusal::default(),
                    attempts: 0,
                    unknown: false,
                    original,
                    id_input,
                    operations,
                    received_at,
                    source: Arc::clone(&batch.origin.source),
                });
            }
            Walked::Ready(prepared) => {
                let Prepared { operations, original, id_input } = prepared.detached();
                self.ready.push(Stored {
                    operations,
                    original,
                    id_input,
                    received_at,
                    source: Arc::clone(&batch.origin.source),
                    letter: replay.map(|replay| replay.letter),
                });
            }
        }
    }

    /// Tells whether its sender waits as long as it takes.
    pub(super) fn is_patient(&self) -> bool {
        self.deadline.is_none()
    }

    /// Tells whether its sender may have given up.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Returns the size of the events for the buffer.
    pub(super) fn ready_bytes(&self) -> u64 {
        self.ready.iter().map(Stored::bytes).sum()
    }
}

impl Prepared {
    /// Copies the event out of the request or block of which it is a slice.
    ///
    /// An event waits for hours during an outage. As a slice it would keep everything that was
    /// received with it, refused and withheld events too, while the bounds count its own length.
    fn detached(mut self: Box<Self>) -> Self {
        self.original.raw = Bytes::copy_from_slice(&self.original.raw);
        *self
    }
}
