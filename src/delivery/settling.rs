//! In which order events are let go of, so that order per person survives a restart.
//!
//! The next life sends again whatever was not settled. If an event were settled while an earlier
//! one of its people is not (its dead letter is not durable yet, or another of its operations is
//! still on its way), the earlier one would be sent again after it. So an event waits with its
//! settling, not with its travelling, until it is the oldest unsettled one under each of its keys.

use std::collections::{BTreeSet, HashMap};

use smallvec::SmallVec;

use crate::buffer::Sequence;
use crate::outcome::Outcome;

/// Events of which an operation has ended, until they are settled.
#[derive(Debug, Default)]
pub struct Settling {
    events: HashMap<Sequence, Due>,
    by_key: HashMap<u64, BTreeSet<Sequence>>,
    ready: Vec<(Sequence, Outcome)>,
}

#[derive(Debug, Default)]
struct Due {
    keys: SmallVec<[u64; 2]>,
    /// Set when nothing but others can delay it.
    outcome: Option<Outcome>,
}

impl Settling {
    /// Tells whether nothing waits, so that an event that ends at once need not be entered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns how many events wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.events.len()
    }

    /// Notes that an operation with these keys has ended, and its event has not yet.
    pub fn enter(&mut self, event: Sequence, keys: impl Iterator<Item = u64>) {
        let due = self.events.entry(event).or_default();
        for key in keys {
            if self.by_key.entry(key).or_default().insert(event) {
                due.keys.push(key);
            }
        }
    }

    /// Ends an event.
    pub fn end(&mut self, event: Sequence, outcome: Outcome) {
        match self.events.get_mut(&event) {
            None => self.ready.push((event, outcome)),
            Some(due) => {
                due.outcome = Some(outcome);
                self.release(event);
            }
        }
    }

    /// Takes what may be settled.
    pub fn take(&mut self) -> Vec<(Sequence, Outcome)> {
        std::mem::take(&mut self.ready)
    }

    /// Lets an event go if it may, and those who waited for it alone.
    fn release(&mut self, event: Sequence) {
        let mut open = vec![event];
        while let Some(event) = open.pop() {
            if !self.may_go(event) {
                continue;
            }
            let Some(Due { keys, outcome: Some(outcome) }) = self.events.remove(&event) else {
                continue;
            };
            self.ready.push((event, outcome));
            for key in keys {
                let Some(events) = self.by_key.get_mut(&key) else { continue };
                events.remove(&event);
                match events.first() {
                    Some(next) => open.push(*next),
                    None => {
                        self.by_key.remove(&key);
                    }
                }
            }
        }
    }

    fn may_go(&self, event: Sequence) -> bool {
        let first = |key| self.by_key.get(key).and_then(BTreeSet::first) == Some(&event);
        self.events
            .get(&event)
            .is_some_and(|due| due.outcome.is_some() && due.keys.iter().all(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(settling: &mut Settling, event: u64, keys: &[u64]) {
        settling.enter(Sequence(event), keys.iter().copied());
    }

    fn end(settling: &mut Settling, event: u64) -> Vec<u64> {
        settling.end(Sequence(event), Outcome::Delivered);
        settling.take().into_iter().map(|(event, _)| event.0).collect()
    }

    #[test]
    fn an_event_waits_for_the_earlier_ones_of_its_keys_and_for_no_others() {
        let mut settling = Settling::default();
        for (event, keys) in [(1, [10, 11]), (2, [11, 12]), (3, [12, 13]), (4, [14, 15])] {
            enter(&mut settling, event, &keys);
        }
        assert!(end(&mut settling, 3).is_empty());
        assert_eq!(end(&mut settling, 4), [4]);
        assert!(end(&mut settling, 2).is_empty());
        assert_eq!(end(&mut settling, 1), [1, 2, 3]);
        assert!(settling.is_idle() && settling.by_key.is_empty());
    }

    #[test]
    fn operations_that_end_in_another_order_lock_nobody() {
        let mut settling = Settling::default();
        enter(&mut settling, 1, &[10]);
        enter(&mut settling, 2, &[11]);
        enter(&mut settling, 2, &[10]);
        enter(&mut settling, 1, &[11]);
        assert!(end(&mut settling, 2).is_empty());
        assert_eq!(end(&mut settling, 1), [1, 2]);
    }

    #[test]
    fn who_was_not_entered_is_settled_at_once() {
        assert_eq!(end(&mut Settling::default(), 7), [7]);
    }
}
