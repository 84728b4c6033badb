//! One batch on its way through an append: what of it is durable so far.

use tokio::time::Instant;

use super::account::Entry;
use super::mapped::MappedBatch;
use crate::buffer::{Sequence, Stored};
use crate::delivery::DeadLetter;
use crate::outcome::Tally;
use crate::source::intake::{Answer, Permit, Refused, Summary};

/// A batch of a group.
pub(super) struct Pending {
    answer: Answer,
    pub(super) ended: Tally,
    /// Whether its endings are in the ledger of all lives.
    pub(super) recorded: bool,
    pub(super) deadline: Option<Instant>,
    /// Its events for the buffer; taken out for the append.
    pub(super) ready: Vec<Stored>,
    events: u64,
    pub(super) failed: Vec<DeadLetter>,
    /// Where its events stand in the buffer; there at once if it has none.
    pub(super) stored: Option<Sequence>,
    /// Whether its dead letters are durable; true at once if it has none.
    pub(super) lettered: bool,
    _permit: Permit,
}

impl From<MappedBatch> for Pending {
    fn from(batch: MappedBatch) -> Self {
        Self {
            events: batch.ready.len() as u64,
            stored: batch.ready.is_empty().then_some(Sequence(0)),
            lettered: batch.failed.is_empty(),
            answer: batch.answer,
            recorded: batch.tally.ended.is_empty(),
            ended: batch.tally,
            deadline: batch.deadline,
            ready: batch.ready,
            failed: batch.failed,
            _permit: batch.permit,
        }
    }
}

impl Pending {
    /// Gives the batches of an append their places from `first` on; returns the sequence behind the last, if
    /// there was an event at all.
    pub(super) fn place(group: Vec<&mut Self>, first: Sequence) -> Option<Sequence> {
        let mut next = first;
        let any = group.iter().any(|batch| batch.events > 0);
        for batch in group {
            batch.recorded |= any;
            if batch.events > 0 {
                batch.stored = Some(next);
                next = Sequence(next.0 + batch.events);
            }
        }
        any.then_some(next)
    }

    fn whole(&self) -> bool {
        self.stored.is_some() && self.lettered
    }

    /// Adds what became durable to the group's tally: everything, or of a refused batch the part
    /// that cannot be taken back.
    pub(super) fn count(&self, tally: &mut Tally) {
        if self.whole() || self.recorded {
            tally.add(&self.ended);
        }
        if self.lettered {
            self.failed.iter().for_each(|letter| tally.end(&letter.outcome));
        }
        if self.stored.is_some() {
            (0..self.events).for_each(|_| tally.buffer());
        }
    }

    /// Adds what of [`Pending::count`] the ledger of all lives does not have yet.
    pub(super) fn count_unrecorded(&self, tally: &mut Tally) {
        if self.whole() && !self.recorded {
            tally.add(&self.ended);
        }
        if self.lettered {
            self.failed.iter().for_each(|letter| tally.end(&letter.outcome));
        }
    }

    /// Answers the receipt, and returns it if there are events to follow.
    pub(super) fn answer(self, unstored: &Refused) -> Option<Entry> {
        let Some(first) = self.stored.filter(|_| self.lettered) else {
            let refused = if self.stored.is_none() { unstored } else { &Refused::Unavailable };
            self.answer.refuse(refused.clone());
            return None;
        };
        let mut summary = Summary { buffered: self.events, ..Summary::default() };
        summary.received = self.ended.received + self.failed.len() as u64 + self.events;
        self.ended.ended.iter().for_each(|((kind, _), n)| summary.end(*kind, *n));
        self.failed.iter().for_each(|letter| summary.end(letter.outcome.kind(), 1));
        let followed = self.answer.accept(summary);
        (self.events > 0).then_some(Entry { first, events: self.events, followed })
    }
}
