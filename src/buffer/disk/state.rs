//! What the buffer knows in memory: who waits, what was read and not settled, what is to be
//! written.
//!
//! Everything here is decided under one short lock; nothing here touches the disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use chrono::DateTime;
use tokio::sync::oneshot;

use super::held::Held;
use super::letters::Letters;
use super::meta::{Delta, Meta};
use super::row::{Row, Weight};
use crate::buffer::{AppendError, BufferStats, LetterId, Sequence, Stored};
use crate::config::WhenFull;
use crate::outcome::{Outcome, Tally};

/// The answer to an append.
pub(super) type Answer = Result<Sequence, AppendError>;

/// An append that was admitted and waits for its commit.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ticket: u64,
    pub(super) events: Vec<Stored>,
    /// Endings of what arrived with them.
    pub(super) ended: Delta,
    pub(super) bytes: u64,
    pub(super) answer: oneshot::Sender<Answer>,
}

impl Waiting {
    /// Returns the letters of which its events are replays.
    pub(super) fn letters(&self) -> impl Iterator<Item = LetterId> {
        self.events.iter().filter_map(|event| event.letter)
    }
}

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
struct Fresh {
    row: Row,
    weights: Vec<Weight>,
    parts: Vec<Part>,
}

/// What settlements and records want to have written.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) delta: Delta,
    /// Rows of which something was settled since the last commit.
    rows: BTreeSet<u64>,
    /// Letters of appends that were taken back, and others that nobody will ask for.
    pub(super) forgotten: Vec<LetterId>,
    /// When the first of it came.
    pub(super) since: Option<Instant>,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.delta.is_empty() && self.forgotten.is_empty()
    }

    /// Puts back what a commit could not write.
    fn restore(&mut self, earlier: Self) {
        self.delta.add(&earlier.delta);
        self.rows.extend(earlier.rows);
        self.forgotten.extend(earlier.forgotten);
        self.since = earlier.since.or(self.since);
    }
}

/// Settlements as a commit writes them: the bitmap of a row, or `None` when all of it is settled.
pub(super) type Bitmaps = Vec<(u64, Option<Vec<u8>>)>;

/// The buffer in memory.
#[derive(Debug)]
pub(super) struct State {
    pub(super) max_bytes: u64,
    when_full: WhenFull,
    next_ticket: u64,
    pub(super) queue: VecDeque<Waiting>,
    /// Appends that the writer works on, and whether their callers went away.
    claimed: BTreeMap<u64, bool>,
    fresh: VecDeque<Fresh>,
    /// Bytes of appends that were admitted and not answered.
    reserved: u64,
    /// The totals as callers see them: answered appends, settlements, records.
    live: Meta,
    pub(super) held: BTreeMap<u64, Held>,
    /// Bytes of settled events that the rows in `held` keep on the disk.
    pub(super) waste: u64,
    /// Rows that are worth being written again: price and first sequence.
    pub(super) due: BTreeSet<(u64, u64)>,
    pub(super) letters: Letters,
    pub(super) pending: Pending,
    /// Events below may be read.
    pub(super) readable: u64,
    /// Rows below were loaded by the reader.
    pub(super) read: u64,
    /// About when the first event that was not read was received.
    unread_since: Option<i64>,
    /// An append did not fit, and nothing was settled since.
    short_of_room: bool,
    pub(super) flushers: Vec<oneshot::Sender<()>>,
    pub(super) closed: bool,
    /// The buffer was dropped: the writer ends after a last commit.
    pub(super) dropped: bool,
    /// The writer ended in a panic: nothing becomes durable any more.
    pub(super) ended: bool,
    /// Makes the writer panic.
    #[cfg(test)]
    pub(super) sabotaged: bool,
    /// Why nothing can be stored, until it can.
    pub(super) trouble: Option<String>,
    /// What is damaged, if the operator has to decide what becomes of it.
    pub(super) damage: Option<String>,
}

impl State {
    pub(super) fn new(max_bytes: u64, when_full: WhenFull, meta: Meta) -> Self {
        Self {
            max_bytes,
            when_full,
            next_ticket: 0,
            queue: VecDeque::new(),
            claimed: BTreeMap::new(),
            fresh: VecDeque::new(),
            reserved: 0,
            held: BTreeMap::new(),
            waste: 0,
            due: BTreeSet::new(),
            letters: Letters::default(),
            pending: Pending::default(),
            readable: meta.next,
            read: 0,
            unread_since: None,
            short_of_room: false,
            flushers: Vec::new(),
            closed: false,
            dropped: false,
            ended: false,
            #[cfg(test)]
            sabotaged: false,
            trouble: None,
            damage: None,
            live: meta,
        }
    }

    pub(super) fn when_full(&self) -> WhenFull {
        self.when_full
    }

    pub(super) fn live(&self) -> &Meta {
        &self.live
    }

    /// Takes an append in if it fits; takes the events out of `events` when it does, and the
    /// endings out of `ended`.
    pub(super) fn admit(
        &mut self,
        events: &mut Vec<Stored>,
        ended: &mut Delta,
        bytes: u64,
    ) -> Result<(u64, oneshot::Receiver<Answer>), Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        if let Some(trouble) = self.damage.as_ref().or(self.trouble.as_ref()) {
            return Err(Refusal::Failed(trouble.clone()));
        }
        let held = self.live.bytes.saturating_add(self.reserved);
        let empty = self.live.events == 0 && self.reserved == 0;
        if held.saturating_add(bytes) > self.max_bytes && !empty {
            self.short_of_room = true;
            return Err(Refusal::Full);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.reserved += bytes;
        let (answer, receiver) = oneshot::channel();
        let (events, ended) = (std::mem::take(events), std::mem::take(ended));
        self.queue.push_back(Waiting { ticket, events, ended, bytes, answer });
        Ok((ticket, receiver))
    }

    fn release(&mut self, bytes: u64) {
        self.reserved = self.reserved.saturating_sub(bytes);
        self.short_of_room = false;
    }

    /// Takes appends for one commit: the first, and further ones while they weigh `bytes`
    /// together.
    pub(super) fn claim(&mut self, bytes: u64) -> Vec<Waiting> {
        let mut sum = 0_u64;
        let fits = |waiting: &&Waiting| {
            sum = sum.saturating_add(waiting.bytes);
            sum <= bytes
        };
        let n = self.queue.iter().take_while(fits).count().max(1).min(self.queue.len());
        let claimed: Vec<_> = self.queue.drain(..n).collect();
        self.claimed = claimed.iter().map(|waiting| (waiting.ticket, false)).collect();
        claimed
    }

    /// Takes what settlements changed, for one commit.
    pub(super) fn take_pending(&mut self) -> (Pending, Bitmaps) {
        let pending = std::mem::take(&mut self.pending);
        let bitmap = |first: &u64| {
            let held = self.held.get(first).filter(|held| !held.is_settled());
            (*first, held.map(Held::bitmap))
        };
        let bitmaps = pending.rows.iter().map(bitmap).collect();
        (pending, bitmaps)
    }

    /// Puts back what could not be written.
    pub(super) fn restore(&mut self, pending: Pending) {
        self.pending.restore(pending);
    }

    /// Answers the appends of a commit that succeeded. `fresh` are the letters that were not known
    /// before it.
    pub(super) fn stored(
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

    /// Answers the appends of a commit that failed, and all that wait behind them.
    pub(super) fn refuse_all(&mut self, claimed: Vec<Waiting>, error: &AppendError) {
        self.refuse(claimed, error);
        let queue = self.queue.drain(..).collect();
        self.refuse(queue, error);
    }

    /// Answers the appends of a commit that cannot be.
    pub(super) fn refuse(&mut self, claimed: Vec<Waiting>, error: &AppendError) {
        self.claimed.clear();
        for waiting in claimed {
            self.release(waiting.bytes);
            // A caller that went away needs no answer.
            waiting.answer.send(Err(error.clone())).ok();
        }
    }

    /// Notes that the caller of an append knows that it is stored; from now on it counts.
    pub(super) fn take(&mut self, ticket: u64) {
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
    pub(super) fn withdraw(&mut self, ticket: u64) {
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

    /// Lets the next commits forget letters that nobody will ask for.
    #[cfg(feature = "pipeline")]
    pub(super) fn prune(&mut self, letters: &[LetterId]) {
        if !letters.is_empty() {
            self.pending.forgotten.extend(letters);
            self.pending.since.get_or_insert_with(Instant::now);
        }
    }

    fn touch(&mut self, first: u64) {
        self.pending.rows.insert(first);
        self.pending.since.get_or_insert_with(Instant::now);
    }

    /// Lets rows be read whose appends are all answered; returns them.
    pub(super) fn publish(&mut self) -> Vec<Row> {
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

    /// Tells whether nothing can become readable any more.
    pub(super) fn is_at_end(&self) -> bool {
        let idle = self.queue.is_empty() && self.claimed.is_empty() && self.fresh.is_empty();
        self.closed && idle && (self.read >= self.readable || self.damage.is_some())
    }

    /// Takes in a row that the reader, or somebody who settles, has loaded.
    pub(super) fn hold(&mut self, first: u64, weights: &[Weight], settled: &[u8], sound: bool) {
        self.insert_held(first, || Held::new(weights, settled, sound));
    }

    /// Moves the reader behind rows that end at `end`.
    pub(super) fn advance(&mut self, end: u64) {
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
    pub(super) fn holds(&self, first: u64, i: usize) -> bool {
        self.held.get(&first).is_some_and(|held| held.holds(i))
    }

    /// Notes the last event that was handed out.
    pub(super) fn handed_out(&mut self, received_ms: i64) {
        self.unread_since = Some(received_ms);
    }

    /// Notes the first event that waited at start.
    pub(super) fn starts_with(&mut self, received_ms: Option<i64>) {
        self.unread_since = received_ms;
    }

    /// Finds the row and the place in it of an event that was loaded and waits.
    pub(super) fn find(&self, sequence: u64) -> Option<(u64, usize)> {
        let (first, held) = self.held.range(..=sequence).next_back()?;
        let i = usize::try_from(sequence - first).ok()?;
        held.holds(i).then_some((*first, i))
    }

    /// Tells whether an event may wait in a row that was not loaded.
    pub(super) fn is_unread(&self, sequence: u64) -> bool {
        if !(self.read..self.readable).contains(&sequence) {
            return false;
        }
        let before = self.held.range(..=sequence).next_back();
        before.is_none_or(|(first, held)| sequence - first >= held.span() as u64)
    }

    /// Settles events; those that do not wait are ignored.
    pub(super) fn settle(&mut self, events: &[(Sequence, Outcome)]) {
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

    /// Enters endings of events that were never stored.
    pub(super) fn record(&mut self, tally: &Tally) {
        let delta = Delta::of(tally);
        if delta.is_empty() {
            return;
        }
        self.live.apply(&delta);
        self.pending.delta.add(&delta);
        self.pending.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn stats(&self) -> BufferStats {
        let held = self.held.values().find_map(Held::oldest);
        let oldest = held.or(self.unread_since).filter(|_| self.live.events > 0);
        let full = self.live.bytes >= self.max_bytes || self.short_of_room;
        let full = (full && self.live.events > 0).then(|| "buffer is full".to_owned());
        BufferStats {
            events: self.live.events,
            bytes: self.live.bytes,
            max_bytes: self.max_bytes,
            oldest: oldest.and_then(DateTime::from_timestamp_millis),
            unavailable: self.damage.clone().or_else(|| self.trouble.clone()).or(full),
            damaged: self.damage.is_some(),
        }
    }
}

/// Why an append was not admitted.
#[derive(Debug)]
pub(super) enum Refusal {
    Full,
    Failed(String),
    Closed,
}
