//! Counts of a batch on its way into the ledger.

use std::collections::BTreeMap;

use super::{Outcome, OutcomeKind, ReasonCode};

/// Counts of one batch that enters the ledger in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that arrived.
    pub received: u64,
    /// Events that ended, by outcome and reason.
    pub ended: BTreeMap<(OutcomeKind, Option<ReasonCode>), u64>,
    /// Events that wait in the buffer.
    pub buffered: u64,
}

impl Tally {
    /// Adds one event that ended before the buffer.
    pub fn end(&mut self, outcome: &Outcome) {
        self.received += 1;
        let key = (outcome.kind(), outcome.reason().map(|r| r.code));
        *self.ended.entry(key).or_default() += 1;
    }

    /// Adds everything that another tally counts.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.buffered += other.buffered;
        for (key, n) in &other.ended {
            *self.ended.entry(*key).or_default() += n;
        }
    }

    /// Adds one event that was stored in the buffer.
    pub fn buffer(&mut self) {
        self.received += 1;
        self.buffered += 1;
    }
}
