//! How an event can end, and the ledger that counts the endings.
//!
//! Every received event ends in exactly one [`Outcome`]. The ledger is the single place where
//! endings are counted; metrics, `/status`, and the command line read it.

mod tally;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

pub(crate) use tally::Tally;

/// The final fate of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The input was no event that could be read.
    Malformed(Reason),
    /// A routing rule keeps the event away from this destination.
    Filtered(Reason),
    /// Consent forbids sending the event.
    Withheld(Reason),
    /// The mapping script decided that nothing is to be sent.
    Dropped(Reason),
    /// The mapping could not turn the event into valid operations.
    Failed(Reason),
    /// Customer.io accepted every operation of the event.
    Delivered,
    /// Customer.io refused an operation of the event for good, or it expired.
    Rejected(Reason),
}

impl Outcome {
    /// Returns the outcome's kind, without its reason.
    #[must_use]
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Self::Malformed(_) => OutcomeKind::Malformed,
            Self::Filtered(_) => OutcomeKind::Filtered,
            Self::Withheld(_) => OutcomeKind::Withheld,
            Self::Dropped(_) => OutcomeKind::Dropped,
            Self::Failed(_) => OutcomeKind::Failed,
            Self::Delivered => OutcomeKind::Delivered,
            Self::Rejected(_) => OutcomeKind::Rejected,
        }
    }

    /// Returns why the event ended, or `None` when it was delivered.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Malformed(r)
            | Self::Filtered(r)
            | Self::Withheld(r)
            | Self::Dropped(r)
            | Self::Failed(r)
            | Self::Rejected(r) => Some(r),
            Self::Delivered => None,
        }
    }
}

/// An [`Outcome`] without its reason: the metric label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OutcomeKind {
    /// See [`Outcome::Malformed`].
    Malformed,
    /// See [`Outcome::Filtered`].
    Filtered,
    /// See [`Outcome::Withheld`].
    Withheld,
    /// See [`Outcome::Dropped`].
    Dropped,
    /// See [`Outcome::Failed`].
    Failed,
    /// See [`Outcome::Delivered`].
    Delivered,
    /// See [`Outcome::Rejected`].
    Rejected,
}

impl OutcomeKind {
    /// Every kind, in the order of the pipeline.
    pub const ALL: [Self; 7] = [
        Self::Malformed,
        Self::Filtered,
        Self::Withheld,
        Self::Dropped,
        Self::Failed,
        Self::Delivered,
        Self::Rejected,
    ];

    /// Returns the stable text used in metrics, `/status`, and `map` output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Filtered => "filtered",
            Self::Withheld => "withheld",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
            Self::Rejected => "rejected",
        }
    }
}

impl OutcomeKind {
    /// Returns every reason for which an event can end like this; none for *delivered*.
    #[must_use]
    pub const fn reasons(self) -> &'static [ReasonCode] {
        use ReasonCode as R;
        match self {
            Self::Malformed => &[
                R::InvalidJson,
                R::NotAnEvent,
                R::InvalidType,
                R::TooDeep,
                R::TooLarge,
                R::NoEventAtPath,
            ],
            Self::Filtered => &[R::DeviceMode, R::Integrations, R::EventList, R::MessageType],
            Self::Withheld => {
                &[R::GenericDenied, R::OnetrustDenied, R::KetchDenied, R::ConsentUnknown]
            }
            Self::Dropped => &[R::ScriptAbort, R::NoOperations],
            Self::Failed => &[
                R::ScriptError,
                R::ScriptBudget,
                R::ScriptPanic,
                R::InvalidOperation,
                R::OperationTooLarge,
                R::BadEventId,
            ],
            Self::Delivered => &[],
            Self::Rejected => &[R::Refused, R::TooLarge, R::Expired, R::Internal],
        }
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an event ended: a code from a closed set, and free text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reason {
    /// The code, which is also the metric label.
    pub code: ReasonCode,
    /// Text for people; never a metric label.
    pub detail: Option<Box<str>>,
}

impl Reason {
    /// Makes a reason with a detail for people.
    pub fn new(code: ReasonCode, detail: impl Into<Box<str>>) -> Self {
        Self { code, detail: Some(detail.into()) }
    }
}

impl From<ReasonCode> for Reason {
    fn from(code: ReasonCode) -> Self {
        Self { code, detail: None }
    }
}

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The closed set of reasons.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum ReasonCode { $($(#[$doc])* $name,)* }

        impl ReasonCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the stable text used in metrics and outputs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reason_codes! {
    /// Malformed: the text is not JSON.
    InvalidJson = "invalid_json",
    /// Malformed: the JSON is not an object.
    NotAnEvent = "not_an_event",
    /// Malformed: `type` is missing or not a text.
    InvalidType = "invalid_type",
    /// Malformed: nested deeper than the limit.
    TooDeep = "too_deep",
    /// Malformed: larger than the source's limit; rejected: larger than Customer.io accepts.
    TooLarge = "too_large",
    /// Malformed: nothing that is an event stands at the source's `event_path`.
    NoEventAtPath = "no_event_at_path",
    /// Filtered: the source type's connection mode is `device`.
    DeviceMode = "device_mode",
    /// Filtered: the event's `integrations` object excludes this destination.
    Integrations = "integrations",
    /// Filtered: the track event's name is not allowed by the configured list.
    EventList = "event_list",
    /// Filtered: no mapping exists for the event's type.
    MessageType = "message_type",
    /// Withheld: a generic consent rule was denied.
    GenericDenied = "generic_denied",
    /// Withheld: a category of the legacy OneTrust list was denied.
    OnetrustDenied = "onetrust_denied",
    /// Withheld: every purpose of the legacy Ketch list was denied.
    KetchDenied = "ketch_denied",
    /// Withheld: no usable answer, and `consent.unknown` is `withhold`.
    ConsentUnknown = "consent_unknown",
    /// Dropped: the script called `abort`.
    ScriptAbort = "script_abort",
    /// Dropped: the script returned an empty array.
    NoOperations = "no_operations",
    /// Failed: the script ended in a runtime error, an `assert` included.
    ScriptError = "script_error",
    /// Failed: the script used up its step budget.
    ScriptBudget = "script_budget",
    /// Failed: the script's run panicked.
    ScriptPanic = "script_panic",
    /// Failed: what the script returned is not a valid operation.
    InvalidOperation = "invalid_operation",
    /// Failed: an operation exceeds 32,768 bytes.
    OperationTooLarge = "operation_too_large",
    /// Failed: the script's own event `id` is not a ULID.
    BadEventId = "bad_event_id",
    /// Rejected: Customer.io refused the operation.
    Refused = "refused",
    /// Rejected: the operation kept failing for longer than `give_up_after`.
    Expired = "expired",
    /// Rejected: its row in the buffer is damaged and was set aside, or no request could be built.
    Internal = "internal",
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ReasonCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The account of all events of one process life.
///
/// The law: `received + recovered = Σ outcomes + buffered`. A batch is entered in one step, after
/// it is safe, so the law holds at every moment and not only at rest.
#[derive(Debug, Default)]
pub struct Ledger {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    received: u64,
    recovered: u64,
    ended: BTreeMap<(OutcomeKind, Option<ReasonCode>), u64>,
    buffered: u64,
    malformed_because: BTreeMap<ReasonCode, Box<str>>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a batch that was acknowledged.
    pub(crate) fn enter(&self, tally: &Tally) {
        let mut book = self.lock();
        book.received += tally.received;
        book.buffered += tally.buffered;
        for (key, n) in &tally.ended {
            *book.ended.entry(*key).or_default() += n;
        }
        for (code, detail) in &tally.malformed_because {
            book.malformed_because.insert(*code, detail.clone());
        }
    }

    /// Returns what was wrong with a malformed element of late, by reason.
    pub(crate) fn malformed_because(&self) -> BTreeMap<ReasonCode, Box<str>> {
        self.lock().malformed_because.clone()
    }

    /// Enters events that the buffer already held when the process started.
    pub(crate) fn recover(&self, events: u64) {
        let mut book = self.lock();
        book.recovered += events;
        book.buffered += events;
    }

    /// Moves one event from the buffer to its ending.
    pub(crate) fn settle(&self, outcome: &Outcome) {
        let mut book = self.lock();
        book.buffered = book.buffered.saturating_sub(1);
        let key = (outcome.kind(), outcome.reason().map(|r| r.code));
        *book.ended.entry(key).or_default() += 1;
    }

    /// Returns a consistent copy of all counts.
    #[must_use]
    pub fn snapshot(&self) -> LedgerSnapshot {
        let book = self.lock();
        LedgerSnapshot {
            received: book.received,
            recovered: book.recovered,
            ended: book.ended.clone(),
            buffered: book.buffered,
        }
    }
}

/// A consistent copy of the ledger.
///
/// ```
/// use rudder_customerio::outcome::{LedgerSnapshot, OutcomeKind, ReasonCode};
///
/// # fn example(ledger: &LedgerSnapshot) {
/// let withheld = ledger.total(OutcomeKind::Withheld);
/// let denied = ledger.count(OutcomeKind::Withheld, ReasonCode::GenericDenied);
/// println!("{denied} of {withheld} were denied by a rule, and {} wait", ledger.buffered);
/// assert_eq!(ledger.gap(), 0);
/// # }
/// # example(&LedgerSnapshot::default());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerSnapshot {
    /// Events that arrived in this life of the process.
    pub received: u64,
    /// Events that the buffer held at start.
    pub recovered: u64,
    /// Ended events by outcome and reason.
    pub ended: BTreeMap<(OutcomeKind, Option<ReasonCode>), u64>,
    /// Events that wait for delivery.
    pub buffered: u64,
}

impl LedgerSnapshot {
    /// Returns how many events ended in `kind`.
    #[must_use]
    pub fn total(&self, kind: OutcomeKind) -> u64 {
        self.ended.iter().filter(|((k, _), _)| *k == kind).map(|(_, n)| n).sum()
    }

    /// Returns how many events ended in `kind` for the reason `code`.
    #[must_use]
    pub fn count(&self, kind: OutcomeKind, code: ReasonCode) -> u64 {
        self.ended.get(&(kind, Some(code))).copied().unwrap_or(0)
    }

    /// Returns what the law is off by; anything but 0 is a defect.
    #[must_use]
    pub fn gap(&self) -> i128 {
        let ended: u64 = self.ended.values().sum();
        i128::from(self.received) + i128::from(self.recovered)
            - i128::from(ended)
            - i128::from(self.buffered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_and_its_settlements_leave_no_gap() {
        let ledger = Ledger::default();
        let mut tally = Tally::default();
        tally.end(&Outcome::Withheld(ReasonCode::OnetrustDenied.into()));
        tally.buffer();
        tally.buffer();
        ledger.enter(&tally);
        ledger.recover(1);
        assert_eq!(ledger.snapshot().gap(), 0);
        ledger.settle(&Outcome::Delivered);
        ledger.settle(&Outcome::Rejected(ReasonCode::Refused.into()));
        let now = ledger.snapshot();
        assert_eq!((now.received, now.recovered, now.buffered, now.gap()), (3, 1, 1, 0));
        assert_eq!(now.total(OutcomeKind::Delivered), 1);
        assert_eq!(now.count(OutcomeKind::Withheld, ReasonCode::OnetrustDenied), 1);
    }

    #[test]
    fn a_settlement_of_something_never_buffered_shows_as_a_gap() {
        let ledger = Ledger::default();
        ledger.settle(&Outcome::Delivered);
        assert_eq!(ledger.snapshot().gap(), -1);
    }

    #[test]
    fn every_reason_belongs_to_an_outcome() {
        let of_outcomes = || OutcomeKind::ALL.into_iter().flat_map(OutcomeKind::reasons);
        for code in ReasonCode::ALL {
            assert!(of_outcomes().any(|c| c == code), "{code} belongs to no outcome");
        }
    }

    #[test]
    fn reason_codes_are_unique_texts() {
        let mut texts: Vec<_> = ReasonCode::ALL.iter().map(|c| c.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), ReasonCode::ALL.len());
    }
}
