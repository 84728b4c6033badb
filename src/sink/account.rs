//! The account of the sink: which batch is entered, which event is settled, who is told.
//!
//! Delivery may settle an event before the appender has entered its batch, since the buffer hands
//! events out as soon as they are stored. Such settlements wait here until the batch is entered;
//! otherwise the ledger would take from what it does not hold yet, and a receipt would miss its
//! own event.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffer::Sequence;
use crate::outcome::{Ledger, Outcome, Tally};
use crate::source::intake::Followed;

/// Batches that may be followed before those that nobody awaits are searched for and forgotten.
const SWEEP_AT_LEAST: usize = 1024;

/// Joins ledger and receipts.
#[derive(Debug)]
pub(super) struct Account {
    ledger: Arc<Ledger>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Every event below was entered.
    entered_below: u64,
    /// An append is under way: events from `entered_below` on may be of it.
    appending: bool,
    /// Settlements that came before their events were entered.
    early: Vec<(Sequence, Outcome)>,
    /// Batches with a receipt, by their first event. Neighbours of one receipt are one batch, so
    /// that a stream of single events costs no more than its receipt.
    followed: BTreeMap<u64, Batch>,
    sweep_at: usize,
    /// Nothing will be settled any more.
    abandoned: bool,
}

#[derive(Debug)]
struct Batch {
    events: u64,
    unsettled: u64,
    followed: Followed,
}

/// A batch whose events are in the buffer and whose receipt was answered.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) first: Sequence,
    pub(super) events: u64,
    pub(super) followed: Followed,
}

impl Account {
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that an append begins, or begins again after it stored nothing; appends never overlap.
    pub(super) fn begin(&self) {
        let mut open = self.open();
        open.appending = true;
        // What was settled before is not of this append: it was recovered.
        for (sequence, outcome) in std::mem::take(&mut open.early) {
            self.settle_entered(&mut open, sequence, &outcome);
        }
    }

    /// Says where the events of the append under way begin; everything before was recovered.
    ///
    /// The first append of a life may wait long for its dead letters, while an earlier life's
    /// events are settled by the thousand.
    pub(super) fn stored(&self, first: Sequence) {
        let mut open = self.open();
        open.entered_below = open.entered_below.max(first.0);
        let early = std::mem::take(&mut open.early);
        for (sequence, outcome) in early {
            if sequence.0 < open.entered_below {
                self.settle_entered(&mut open, sequence, &outcome);
            } else {
                open.early.push((sequence, outcome));
            }
        }
    }

    /// Enters what was made durable, in one step, and ends what [`Account::begin`] began.
    ///
    /// `end` is the sequence behind the last stored event, if any was stored. `answer` runs after
    /// the ledger knows the events and before any of them is settled; it answers receipts and
    /// returns those to follow.
    pub(super) fn enter(
        &self,
        tally: &Tally,
        end: Option<Sequence>,
        answer: impl FnOnce() -> Vec<Entry>,
    ) {
        let mut open = self.open();
        self.ledger.enter(tally);
        for entry in answer() {
            open.follow(entry);
        }
        if let Some(end) = end {
            open.entered_below = end.0;
        }
        open.appending = false;
        for (sequence, outcome) in std::mem::take(&mut open.early) {
            self.settle_entered(&mut open, sequence, &outcome);
        }
        open.sweep();
    }

    /// Takes one settlement from delivery.
    pub(super) fn settle(&self, sequence: Sequence, outcome: &Outcome) {
        let mut open = self.open();
        // Below: entered. At or above while nothing is appended: held by the buffer since before
        // this process, and in the ledger as recovered.
        if open.appending && sequence.0 >= open.entered_below {
            open.early.push((sequence, outcome.clone()));
        } else {
            self.settle_entered(&mut open, sequence, outcome);
        }
    }

    /// Tells every receipt, those to come too, that its events will not be settled any more.
    pub(super) fn abandon(&self) {
        let mut open = self.open();
        open.abandoned = true;
        for batch in std::mem::take(&mut open.followed).into_values() {
            batch.followed.abandon();
        }
    }

    fn settle_entered(&self, open: &mut Open, sequence: Sequence, outcome: &Outcome) {
        self.ledger.settle(outcome);
        let Some((&first, batch)) = open.followed.range_mut(..=sequence.0).next_back() else {
            return;
        };
        if sequence.0 - first >= batch.events {
            return;
        }
        batch.followed.settle(outcome);
        batch.unsettled = batch.unsettled.saturating_sub(1);
        if batch.unsettled == 0 || !batch.followed.is_awaited() {
            open.followed.remove(&first);
        }
    }
}

impl Open {
    fn follow(&mut self, Entry { first, events, followed }: Entry) {
        if self.abandoned {
            followed.abandon();
            return;
        }
        if let Some((before, batch)) = self.followed.iter_mut().next_back()
            && before + batch.events == first.0
            && batch.followed.joins(&followed)
        {
            batch.events += events;
            batch.unsettled += events;
            return;
        }
        self.followed.insert(first.0, Batch { events, unsettled: events, followed });
    }

    /// Forgets receipts that were dropped, once as many batches joined as the last sweep kept.
    fn sweep(&mut self) {
        if self.followed.len() < self.sweep_at.max(SWEEP_AT_LEAST) {
            return;
        }
        self.followed.retain(|_, batch| batch.followed.is_awaited());
        self.sweep_at = self.followed.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::outcome::{OutcomeKind, ReasonCode};
    use crate::source::intake::{Answer, Receipt, Summary};

    fn account() -> (Arc<Ledger>, Account) {
        let ledger = Arc::new(Ledger::default());
        (Arc::clone(&ledger), Account::new(ledger))
    }

    fn buffered(events: u64) -> Tally {
        let mut tally = Tally::default();
        (0..events).for_each(|_| tally.buffer());
        tally
    }

    fn enter(account: &Account, first: u64, events: u64) -> Receipt {
        let (answer, receipt) = Answer::pair();
        let summary = Summary { received: events, buffered: events, ..Summary::default() };
        account.enter(&buffered(events), Some(Sequence(first + events)), || {
            vec![Entry { first: Sequence(first), events, followed: answer.accept(summary) }]
        });
        receipt
    }

    #[test]
    fn a_settlement_during_the_append_counts_once_the_batch_is_entered() {
        let (ledger, account) = account();
        account.begin();
        account.settle(Sequence(1), &Outcome::Rejected(ReasonCode::Refused.into()));
        assert_eq!(ledger.snapshot().total(OutcomeKind::Rejected), 0);
        let receipt = enter(&account, 0, 2);
        let now = ledger.snapshot();
        assert_eq!((now.total(OutcomeKind::Rejected), now.buffered, now.gap()), (1, 1, 0));
        account.settle(Sequence(0), &Outcome::Delivered);
        let end = receipt.settled().now_or_never().unwrap().unwrap();
        assert_eq!((end.buffered, end.rejected), (0, 1));
    }

    #[test]
    fn an_append_does_not_hold_up_settlements_of_earlier_batches() {
        let (ledger, account) = account();
        account.begin();
        let receipt = enter(&account, 0, 1);
        account.begin();
        account.settle(Sequence(0), &Outcome::Delivered);
        assert!(receipt.settled().now_or_never().is_some());
        assert_eq!(ledger.snapshot().gap(), 0);
    }

    #[test]
    fn recovered_events_settle_without_a_batch() {
        let (ledger, account) = account();
        ledger.recover(2);
        account.settle(Sequence(7), &Outcome::Delivered);
        account.begin();
        account.settle(Sequence(8), &Outcome::Delivered);
        account.enter(&Tally::default(), None, Vec::new);
        let now = ledger.snapshot();
        assert_eq!((now.total(OutcomeKind::Delivered), now.buffered, now.gap()), (2, 0, 0));
    }

    #[test]
    fn an_append_that_waits_does_not_hold_up_recovered_events() {
        let (ledger, account) = account();
        ledger.recover(3);
        let delivered = || ledger.snapshot().total(OutcomeKind::Delivered);
        account.begin();
        account.settle(Sequence(7), &Outcome::Delivered);
        assert_eq!(delivered(), 0, "it may be of the append");
        account.begin();
        assert_eq!(delivered(), 1, "the append failed and is tried again");
        account.settle(Sequence(8), &Outcome::Delivered);
        account.settle(Sequence(10), &Outcome::Delivered);
        account.stored(Sequence(10));
        assert_eq!(delivered(), 2, "8 was there before the append");
        account.settle(Sequence(9), &Outcome::Delivered);
        assert_eq!((delivered(), ledger.snapshot().gap()), (3, 0));
        let receipt = enter(&account, 10, 1);
        assert!(receipt.settled().now_or_never().is_some());
        let now = ledger.snapshot();
        assert_eq!((delivered(), now.buffered, now.gap()), (4, 0, 0));
    }

    #[test]
    fn each_receipt_hears_of_its_own_events_alone() {
        let (_, account) = account();
        let one = enter(&account, 0, 1);
        let two = enter(&account, 1, 1);
        account.settle(Sequence(1), &Outcome::Delivered);
        assert!(two.settled().now_or_never().is_some());
        assert!(one.settled().now_or_never().is_none());
    }

    #[test]
    fn receipts_that_nobody_awaits_are_forgotten() {
        let (_, account) = account();
        let kept = enter(&account, 0, 1);
        for first in 1..3 * SWEEP_AT_LEAST as u64 {
            drop(enter(&account, first, 1));
        }
        assert!(account.open().followed.len() <= SWEEP_AT_LEAST);
        account.settle(Sequence(0), &Outcome::Delivered);
        assert!(kept.settled().now_or_never().is_some());
    }

    #[test]
    fn neighbours_of_one_receipt_are_kept_as_one_and_settle_together() {
        let (_, account) = account();
        let receipt = Receipt::empty();
        let enter_joined = |first| {
            let summary = Summary { received: 1, buffered: 1, ..Summary::default() };
            account.enter(&buffered(1), Some(Sequence(first + 1)), || {
                let followed = receipt.answer().accept(summary);
                vec![Entry { first: Sequence(first), events: 1, followed }]
            });
        };
        (0..100).for_each(enter_joined);
        assert_eq!(account.open().followed.len(), 1);
        let other = enter(&account, 100, 1);
        enter_joined(101);
        assert_eq!(account.open().followed.len(), 3, "others lie between");
        account.settle(Sequence(100), &Outcome::Delivered);
        assert!(other.settled().now_or_never().is_some());
        (0..100).for_each(|n| account.settle(Sequence(n), &Outcome::Delivered));
        assert_eq!(account.open().followed.len(), 1);
        let mut settled = Box::pin(receipt.settled());
        assert!((&mut settled).now_or_never().is_none());
        account.settle(Sequence(101), &Outcome::Delivered);
        assert_eq!(settled.now_or_never().unwrap().unwrap().delivered, 101);
    }

    #[test]
    fn receipts_of_what_is_stored_after_the_end_are_refused() {
        let (_, account) = account();
        account.abandon();
        let receipt = enter(&account, 0, 1);
        assert!(receipt.settled().now_or_never().unwrap().is_err());
    }

    #[test]
    fn abandoned_receipts_are_refused() {
        let (_, account) = account();
        let receipt = enter(&account, 0, 1);
        account.abandon();
        assert!(receipt.settled().now_or_never().unwrap().is_err());
    }
}
