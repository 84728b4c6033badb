//! Rows that were loaded, and the settlement of their events.

use super::State;
use crate::buffer::Sequence;
use crate::buffer::disk::held::Held;
use crate::buffer::disk::meta::Delta;
use crate::buffer::disk::row::Weight;
use crate::outcome::Outcome;

impl State {
    /// Takes in a row that the reader, or somebody who settles, has loaded.
    pub(in crate::buffer::disk) fn hold(
        &mut self,
        first: u64,
        weights: &[Weight],
        settled: &[u8],
        sound: bool,
    ) {
        self.insert_held(first, || Held::new(weights, settled, sound));
    }

    /// Moves the reader behind rows that end at `end`.
    pub(in crate::buffer::disk) fn advance(&mut self, end: u64) {
        let passed: Vec<u64> = self.held.range(self.read..end).map(|(first, _)| *first).collect();
        self.read = end.max(self.read);
        for first in passed {
            // It may be worth being written again now.
            if self.change_held(first, |held| held.is_settled()) == Some(true) {
                self.held.remove(&first);
            }
        }
    }

    /// Tells whether an event of a row that was loaded waits.
    pub(in crate::buffer::disk) fn holds(&self, first: u64, i: usize) -> bool {
        self.held.get(&first).is_some_and(|held| held.holds(i))
    }

    /// Finds the row and the place in it of an event that was loaded and waits.
    pub(in crate::buffer::disk) fn find(&self, sequence: u64) -> Option<(u64, usize)> {
        let (first, held) = self.held.range(..=sequence).next_back()?;
        let i = usize::try_from(sequence - first).ok()?;
        held.holds(i).then_some((*first, i))
    }

    /// Tells whether an event may wait in a row that was not loaded.
    pub(in crate::buffer::disk) fn is_unread(&self, sequence: u64) -> bool {
        if !(self.read..self.readable).contains(&sequence) {
            return false;
        }
        let before = self.held.range(..=sequence).next_back();
        before.is_none_or(|(first, held)| sequence - first >= held.span() as u64)
    }

    /// Settles events; those that do not wait are ignored.
    pub(in crate::buffer::disk) fn settle(&mut self, events: &[(Sequence, Outcome)]) {
        let mut delta = Delta::default();
        for (sequence, outcome) in events {
            let Some((first, i)) = self.find(sequence.0) else { continue };
            if let Some(weight) = self.change_held(first, |held| held.settle(i)).flatten() {
                delta.end(weight, outcome);
            }
            let done = |held: &Held| held.is_settled() && first + held.span() as u64 <= self.read;
            if self.held.get(&first).is_some_and(done) {
                self.held.remove(&first);
            }
            self.touch(first);
            self.short_of_room = false;
        }
        self.live.apply(&delta);
        self.pending.delta.add(&delta);
    }
}
