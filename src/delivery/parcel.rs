//! Operations that left together, until the last of them has ended.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::order::Slot;
use super::retry::full_jitter;
use crate::config::RetryConfig;

/// A batch with its history. While it exists, its people's later operations wait.
///
/// A refused batch is cut into parts, which travel one after the other: that keeps each person's
/// order, and bounds what one bad batch takes from the others.
#[derive(Debug)]
pub struct Parcel {
    /// What is left, in order; the first part travels next. Never empty parts.
    pub parts: VecDeque<Vec<Slot>>,
    /// How often something of it was sent, as far as that counts as an attempt.
    pub sent: u32,
    /// Failures while other requests succeeded in between.
    strikes: u32,
    /// Failures in a row, whatever others did.
    failures: u32,
    /// How many requests had succeeded at the last failure.
    successes: Option<u64>,
    /// How many requests in a row have ended in a panic.
    panics: u32,
    /// How often in a row its bodies could not be fetched.
    unfetched: u32,
    /// Whether the server has refused it whole.
    split: bool,
    /// Whether it lost operations to refusals.
    culprits: bool,
    /// Largest part that passed whole.
    passed: usize,
}

/// Failures after which a batch is suspected to hold the cause itself.
pub const SUSPECT: u32 = 3;

impl Parcel {
    /// Makes a parcel of one part.
    #[must_use]
    pub fn new(part: Vec<Slot>) -> Self {
        Self {
            parts: VecDeque::from([part]),
            sent: 0,
            strikes: 0,
            failures: 0,
            successes: None,
            panics: 0,
            unfetched: 0,
            split: false,
            culprits: false,
            passed: 0,
        }
    }

    /// Makes a parcel of parts that were taken out of this one.
    #[must_use]
    pub fn apart(&self, parts: VecDeque<Vec<Slot>>) -> Option<Self> {
        let sent = self.sent;
        (!parts.is_empty()).then(|| Self { parts, sent, ..Self::new(Vec::new()) })
    }

    /// Returns the part that travels next.
    #[must_use]
    pub fn first(&self) -> &[Slot] {
        self.parts.front().map_or(&[], Vec::as_slice)
    }

    /// Returns how many operations are left.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.parts.iter().map(Vec::len).sum()
    }

    /// Keeps of the first part so many operations; the others travel next.
    pub fn cut(&mut self, operations: usize) {
        if let Some(first) = self.parts.front_mut()
            && first.len() > operations.max(1)
        {
            let rest = first.split_off(operations.max(1));
            self.parts.insert(1, rest);
        }
    }

    /// Notes that bodies of the first part could not be fetched, and returns how often that was so
    /// in a row.
    pub fn unfetched(&mut self) -> u32 {
        self.unfetched = self.unfetched.saturating_add(1);
        self.unfetched
    }

    /// Tells whether what travels next fails while others pass, so that it holds the cause itself
    /// and must not make others wait.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.strikes >= SUSPECT
    }

    /// Notes a failure when `successes` requests had succeeded, and returns how long this parcel
    /// itself should wait.
    ///
    /// Failures without a success in between are the destination's, not the parcel's; once it is a
    /// suspect, each one makes it wait longer.
    pub fn strike(&mut self, successes: u64, config: &RetryConfig) -> Duration {
        self.failures = self.failures.saturating_add(1);
        if self.successes != Some(successes) || self.is_suspect() {
            self.strikes = self.strikes.saturating_add(1);
            self.successes = Some(successes);
        }
        full_jitter(self.strikes, config)
    }

    /// Tells whether the first part should be tried in halves, and without the parts behind it,
    /// although nobody else shows whether the destination works: if one operation is the cause, and
    /// everybody else waits in or behind its parcel, nobody ever will. In an outage it costs a few
    /// smaller requests.
    #[must_use]
    pub fn keeps_failing(&self) -> bool {
        self.failures >= SUSPECT
    }

    /// Notes that a request has ended, in a panic or not, and whether it counts as an attempt.
    pub fn flown(&mut self, counts: bool, panicked: bool) {
        self.sent = self.sent.saturating_add(u32::from(counts));
        self.panics = if panicked { self.panics.saturating_add(1) } else { 0 };
        self.unfetched = 0;
    }

    /// Tells whether it is a defect of ours by which the first part fails.
    #[must_use]
    pub fn is_defective(&self) -> bool {
        self.panics >= SUSPECT
    }

    /// Halves the first part; `refused` tells whether the server asked for it.
    pub fn halve(&mut self, refused: bool) {
        if let Some(mut part) = self.parts.pop_front() {
            let second = part.split_off(part.len().div_ceil(2));
            if !second.is_empty() {
                self.parts.push_front(second);
            }
            self.parts.push_front(part);
        }
        self.split |= refused;
        self.panics = 0;
        self.failures = 0;
        self.strikes = 0;
        self.successes = None;
    }

    /// Notes that a part passed, with or without refusals of single operations.
    pub fn part_passed(&mut self, operations: usize, refusals: bool) {
        self.culprits |= refusals;
        if !refusals {
            self.passed = self.passed.max(operations);
        }
        self.failures = 0;
        self.strikes = 0;
        self.successes = None;
    }

    /// Notes that a single operation was refused.
    pub fn culprit(&mut self) {
        self.culprits = true;
    }

    /// Returns the largest part that passed, if the parcel was refused for nothing but its size.
    #[must_use]
    pub fn refused_for_size(&self) -> Option<usize> {
        (self.split && !self.culprits && self.passed > 0).then_some(self.passed)
    }
}

/// Parcels that wait for their next try, by time.
#[derive(Debug, Default)]
pub struct Shelf {
    parcels: std::collections::BTreeMap<(Instant, u64), Parcel>,
    next: u64,
    operations: usize,
}

impl Shelf {
    /// Puts a parcel aside until `at`.
    pub fn put(&mut self, parcel: Parcel, at: Instant) {
        self.operations += parcel.operations();
        self.parcels.insert((at, self.next), parcel);
        self.next += 1;
    }

    /// Tells whether a parcel is due.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.due_at().is_some_and(|at| at <= now)
    }

    /// Returns when the first parcel is due.
    #[must_use]
    pub fn due_at(&self) -> Option<Instant> {
        self.parcels.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the first parcel that is due.
    pub fn take(&mut self, now: Instant) -> Option<Parcel> {
        let first = self.parcels.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let parcel = first.remove();
        self.operations = self.operations.saturating_sub(parcel.operations());
        Some(parcel)
    }

    /// Returns how many operations wait here.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.operations
    }

    /// Lets nobody wait beyond `latest`.
    pub fn hasten(&mut self, latest: Instant) {
        for ((_, order), parcel) in self.parcels.split_off(&(latest, u64::MAX)) {
            self.parcels.insert((latest, order), parcel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry() -> RetryConfig {
        RetryConfig {
            initial: Duration::from_millis(1),
            max: Duration::from_millis(1),
            give_up_after: Duration::from_secs(1),
            statuses: vec![],
            item_reasons: vec![],
        }
    }

    #[test]
    fn halves_travel_in_order() {
        let mut parcel = Parcel::new(vec![1, 2, 3, 4, 5]);
        parcel.halve(true);
        assert_eq!(parcel.parts, [vec![1, 2, 3], vec![4, 5]]);
        parcel.halve(true);
        assert_eq!(parcel.parts, [vec![1, 2], vec![3], vec![4, 5]]);
    }

    #[test]
    fn only_failures_with_successes_in_between_make_a_suspect() {
        let mut parcel = Parcel::new(vec![1]);
        for _ in 0..9 {
            parcel.strike(7, &retry());
        }
        assert!(!parcel.is_suspect());
        parcel.strike(8, &retry());
        parcel.strike(9, &retry());
        assert!(parcel.is_suspect());
    }

    #[test]
    fn a_refusal_that_no_operation_explains_is_for_the_size() {
        let mut parcel = Parcel::new(vec![1, 2, 3]);
        parcel.part_passed(3, false);
        assert_eq!(parcel.refused_for_size(), None, "never refused");
        parcel.halve(true);
        parcel.part_passed(2, false);
        parcel.part_passed(1, false);
        assert_eq!(parcel.refused_for_size(), Some(3));
        parcel.culprit();
        assert_eq!(parcel.refused_for_size(), None, "an operation was the cause");
    }

    #[test]
    fn the_shelf_gives_what_is_due_by_time() {
        let (mut shelf, now) = (Shelf::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        shelf.put(Parcel::new(vec![2]), later);
        shelf.put(Parcel::new(vec![1]), now);
        assert_eq!(shelf.take(now).unwrap().first(), [1]);
        assert!(shelf.take(now).is_none());
        assert_eq!(shelf.due_at(), Some(later));
        assert_eq!(shelf.take(later).unwrap().first(), [2]);
        assert_eq!(shelf.due_at(), None);
    }
}
