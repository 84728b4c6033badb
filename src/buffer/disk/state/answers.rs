//! Appends whose commit succeeded: until its caller has taken the answer, one can be taken back, and
//! is neither counted nor read.

use std::collections::BTreeSet;

use super::State;
use super::admission::Waiting;
use crate::buffer::disk::held::Held;
use crate::buffer::disk::meta::Delta;
use crate::buffer::disk::row::{Row, Weight};
use crate::buffer::{LetterId, Sequence};

/// What became of one append of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is stored, and its caller has not taken the answer.
    Stored,
    /// The caller knows.
    Taken,
    /// The caller went away before it knew.
    Abandoned,
}

/// One append within a row that was committed.
#[derive(Debug)]
struct Part {
    ticket: u64,
    start: usize,
    count: usize,
    bytes: u64,
    ended: Delta,
    /// Its letters, and whether they are forgotten when it is taken back: those that were replayed
    /// before stay known.
    letters: Vec<(LetterId, bool)>,
    fate: Fate,
}

/// A row that was committed and may not be read before each of its appends is answered.
#[derive(Debug)]
pub(super) struct Fresh {
    row: Row,
    weights: Vec<Weight>,
    parts: Vec<Part>,
}

impl State {
    /// Answers the appends of a commit that succeeded. `fresh` are the letters that were not known
    /// before it.
    pub(in crate::buffer::disk) fn stored(
        &mut self,
        row: Row,
        weights: Vec<Weight>,
        claimed: Vec<Waiting>,
        fresh: &[LetterId],
    ) {
        let mut fresh: BTreeSet<LetterId> = fresh.iter().copied().collect();
        let given: BTreeSet<LetterId> =
            claimed.iter().flat_map(Waiting::letters).filter(|id| !fresh.contains(id)).collect();
        if !given.is_empty() {
            // Taken back while this commit was under way, and stored again by it.
            self.pending.forgotten.retain(|letter| {
                let again = given.contains(letter);
                fresh.extend(again.then_some(*letter));
                !again
            });
        }
        let mut start = 0;
        let mut parts = Vec::with_capacity(claimed.len());
        for waiting in claimed {
            let count = waiting.events.len();
            let letters = waiting.letters().map(|id| (id, fresh.contains(&id))).collect();
            let abandoned = self.claimed.remove(&waiting.ticket).unwrap_or(true);
            let first = Sequence(row.first() + start as u64);
            let reached = !abandoned && waiting.answer.send(Ok(first)).is_ok();
            let fate = if reached { Fate::Stored } else { Fate::Abandoned };
            let (ticket, bytes, ended) = (waiting.ticket, waiting.bytes, waiting.ended);
            parts.push(Part { ticket, start, count, bytes, ended, letters, fate });
            start += count;
        }
        self.claimed.clear();
        let first = row.first();
        let lost: Vec<_> = parts
            .iter()
            .filter(|part| part.fate == Fate::Abandoned)
            .map(|part| part.ticket)
            .collect();
        self.fresh.push_back(Fresh { row, weights, parts });
        for ticket in lost {
            self.undo(first, ticket);
        }
    }

    /// Notes that the caller of an append knows that it is stored; from now on it counts.
    pub(in crate::buffer::disk) fn take(&mut self, ticket: u64) {
        let Some((fresh, part)) = self.part(ticket) else { return };
        let (start, count, bytes) = (part.start, part.count, part.bytes);
        part.fate = Fate::Taken;
        let ended = std::mem::take(&mut part.ended);
        let letters: Vec<_> = part.letters.iter().map(|(letter, _)| *letter).collect();
        let weights = fresh.get(start..start + count).unwrap_or_default().to_vec();
        self.letters.show(&letters);
        let was_empty = self.live.events == 0;
        for weight in &weights {
            self.live.store(*weight);
        }
        self.live.apply(&ended);
        if was_empty || self.unread_since.is_none() {
            self.unread_since = weights.first().map(|weight| weight.received_ms);
        }
        self.reserved = self.reserved.saturating_sub(bytes);
    }

    fn part(&mut self, ticket: u64) -> Option<(&[Weight], &mut Part)> {
        self.fresh.iter_mut().find_map(|fresh| {
            let part = fresh.parts.iter_mut().find(|part| part.ticket == ticket)?;
            Some((&*fresh.weights, part))
        })
    }

    /// Takes back an append whose caller goes away without having taken an answer.
    pub(in crate::buffer::disk) fn withdraw(&mut self, ticket: u64) {
        if let Some(place) = self.queue.iter().position(|waiting| waiting.ticket == ticket) {
            if let Some(waiting) = self.queue.remove(place) {
                self.release(waiting.bytes);
            }
        } else if let Some(abandoned) = self.claimed.get_mut(&ticket) {
            *abandoned = true;
        } else if let Some(first) = self
            .fresh
            .iter()
            .find(|fresh| fresh.parts.iter().any(|part| part.ticket == ticket))
            .map(|fresh| fresh.row.first())
        {
            self.undo(first, ticket);
        }
    }

    /// Hides a stored append from the reader, and lets the next commit remove it.
    fn undo(&mut self, first: u64, ticket: u64) {
        let Some(fresh) = self.fresh.iter_mut().find(|fresh| fresh.row.first() == first) else {
            return;
        };
        let Some(part) = fresh.parts.iter_mut().find(|part| part.ticket == ticket) else { return };
        part.fate = Fate::Abandoned;
        let (bytes, places) = (part.bytes, part.start..part.start + part.count);
        let letters = std::mem::take(&mut part.letters);
        self.pending.delta.take_back(&std::mem::take(&mut part.ended));
        let weights = fresh.weights.clone();
        self.insert_held(first, || Held::new(&weights, &[], true));
        let undone = self
            .change_held(first, |held| places.filter_map(|i| held.settle(i)).collect::<Vec<_>>());
        for weight in undone.unwrap_or_default() {
            self.pending.delta.undo(weight);
        }
        for (letter, _) in letters.into_iter().filter(|(_, forget)| *forget) {
            self.forget(letter);
        }
        self.touch(first);
        self.release(bytes);
    }

    /// Lets the next commit forget the letter of an append that was taken back, unless another
    /// append has stored it, too. Rows are published in order: such a one is still here.
    fn forget(&mut self, letter: LetterId) {
        let parts = self.fresh.iter_mut().flat_map(|fresh| &mut fresh.parts);
        let mut others = parts.filter(|part| part.fate != Fate::Abandoned);
        let heir = others.find_map(|part| part.letters.iter_mut().find(|(id, _)| *id == letter));
        match heir {
            Some((_, forget)) => *forget = true,
            None => self.pending.forgotten.push(letter),
        }
    }

    /// Lets rows be read whose appends are all answered; returns them.
    pub(in crate::buffer::disk) fn publish(&mut self) -> Vec<Row> {
        let mut published = Vec::new();
        while let Some(front) = self.fresh.front() {
            if front.parts.iter().any(|part| part.fate == Fate::Stored) {
                break;
            }
            if let Some(fresh) = self.fresh.pop_front() {
                self.readable = fresh.row.first() + fresh.row.count() as u64;
                published.push(fresh.row);
            }
        }
        published
    }
}
