//! Counts of a batch on its way into the ledger.

use std::collections::BTreeMap;

use super::{Outcome, OutcomeKind, Reason, ReasonCode};

/// Counts of one batch that enters the ledger in one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that arrived.
    pub received: u64,
    /// Events that ended, by outcome and reason.
    pub ended: BTreeMap<(OutcomeKind, Option<ReasonCode>), u64>,
    /// Events that wait in the buffer.
    pub buffered: u64,
    /// What was wrong with the first malformed element of each reason. Such an element is kept
    /// nowhere, so this is all that an operator can learn of it. It never holds a part of one.
    pub malformed_because: BTreeMap<ReasonCode, Box<str>>,
}

impl Tally {
    /// Adds one event that ended before the buffer.
    pub fn end(&mut self, outcome: &Outcome) {
        self.received += 1;
        let key = (outcome.kind(), outcome.reason().map(|r| r.code));
        *self.ended.entry(key).or_default() += 1;
        if let Outcome::Malformed(Reason { code, detail: Some(detail) }) = outcome {
            self.malformed_because.entry(*code).or_insert_with(|| detail.clone());
        }
    }

    /// Adds everything that another tally counts.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.buffered += other.buffered;
        for (key, n) in &other.ended {
            *self.ended.entry(*key).or_default() += n;
        }
        for (code, detail) in &other.malformed_because {
            self.malformed_because.entry(*code).or_insert_with(|| detail.clone());
        }
    }

    /// Adds one event that was stored in the buffer.
    pub fn buffer(&mut self) {
        self.received += 1;
        self.buffered += 1;
    }
}
