//! What the store knows of itself without counting: totals, the next sequence, the ledger.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::row::Weight;
use crate::outcome::{LedgerSnapshot, Outcome, OutcomeKind, ReasonCode, Tally};

/// The format that this version writes.
pub(super) const FORMAT: u32 = 1;

/// The totals of the store, written with every commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Meta {
    /// Number of the commit: tells whether one whose result is unknown is there.
    pub(super) commit: u64,
    /// Sequence of the next event.
    pub(super) next: u64,
    /// Events that wait.
    pub(super) events: u64,
    /// Their operations.
    pub(super) operations: u64,
    /// Their [`crate::buffer::Stored::bytes`].
    pub(super) bytes: u64,
    /// Events that were ever received.
    pub(super) received: u64,
    /// How they ended: `rejected/refused`, or `delivered`. Texts, so that a reason that a later
    /// version adds survives an older one.
    pub(super) ended: BTreeMap<String, u64>,
}

/// What settlements change in the totals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Delta {
    /// Stored events that wait no longer.
    gone: Meta,
    /// Received events that were never stored.
    recorded: u64,
    /// Stored events that count as never received.
    undone: u64,
    ended: BTreeMap<(OutcomeKind, Option<ReasonCode>), u64>,
    /// Endings that count as never recorded.
    unrecorded: BTreeMap<(OutcomeKind, Option<ReasonCode>), u64>,
}

impl Delta {
    /// Ends a stored event.
    pub(super) fn end(&mut self, weight: Weight, outcome: &Outcome) {
        self.gone.store(weight);
        let ending = (outcome.kind(), outcome.reason().map(|reason| reason.code));
        *self.ended.entry(ending).or_default() += 1;
    }

    /// Takes a stored event back, as if it had never been received.
    pub(super) fn undo(&mut self, weight: Weight) {
        self.gone.store(weight);
        self.undone += 1;
    }

    /// Makes the endings of events that were never stored.
    pub(super) fn of(tally: &Tally) -> Self {
        Self { recorded: tally.ended.values().sum(), ended: tally.ended.clone(), ..Self::default() }
    }

    /// Takes endings of [`Delta::of`] back, which were written.
    pub(super) fn take_back(&mut self, recorded: &Self) {
        for (ending, n) in &recorded.ended {
            *self.unrecorded.entry(*ending).or_default() += n;
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.gone.events += other.gone.events;
        self.gone.operations += other.gone.operations;
        self.gone.bytes += other.gone.bytes;
        self.recorded += other.recorded;
        self.undone += other.undone;
        for (ending, n) in &other.ended {
            *self.ended.entry(*ending).or_default() += n;
        }
        for (ending, n) in &other.unrecorded {
            *self.unrecorded.entry(*ending).or_default() += n;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gone.events == 0 && self.ended.is_empty() && self.unrecorded.is_empty()
    }
}

fn name((kind, code): &(OutcomeKind, Option<ReasonCode>)) -> String {
    match code {
        None => kind.as_str().to_owned(),
        Some(code) => format!("{kind}/{code}"),
    }
}

impl Meta {
    /// Counts an event that was stored.
    pub(super) fn store(&mut self, weight: Weight) {
        self.received += 1;
        self.events += 1;
        self.operations += u64::from(weight.operations);
        self.bytes += u64::from(weight.bytes);
    }

    /// Counts what was settled.
    pub(super) fn apply(&mut self, delta: &Delta) {
        self.events = self.events.saturating_sub(delta.gone.events);
        self.operations = self.operations.saturating_sub(delta.gone.operations);
        self.bytes = self.bytes.saturating_sub(delta.gone.bytes);
        if self.events == 0 {
            // Events of a damaged row leave with a weight that nobody knows.
            (self.operations, self.bytes) = (0, 0);
        }
        let back = delta.undone + delta.unrecorded.values().sum::<u64>();
        self.received = (self.received + delta.recorded).saturating_sub(back);
        for (ending, n) in &delta.ended {
            *self.ended.entry(name(ending)).or_default() += n;
        }
        for (ending, n) in &delta.unrecorded {
            let ended = self.ended.entry(name(ending)).or_default();
            *ended = ended.saturating_sub(*n);
        }
    }

    /// Returns the ledger of all lives. Endings that this version does not know are counted under
    /// their outcome without a reason.
    pub(super) fn ledger(&self) -> LedgerSnapshot {
        let mut ledger = LedgerSnapshot {
            received: self.received,
            buffered: self.events,
            ..LedgerSnapshot::default()
        };
        for (ending, n) in &self.ended {
            let (kind, code) = match ending.split_once('/') {
                Some((kind, code)) => (kind, Some(code)),
                None => (ending.as_str(), None),
            };
            let Some(kind) = OutcomeKind::ALL.into_iter().find(|known| known.as_str() == kind)
            else {
                continue;
            };
            let code = code.and_then(|code| {
                kind.reasons().iter().copied().find(|known| known.as_str() == code)
            });
            *ledger.ended.entry((kind, code)).or_default() += n;
        }
        ledger
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Texts and numbers are always writable.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
