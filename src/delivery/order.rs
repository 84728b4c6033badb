//! Which operation may travel next, so that nobody's operations overtake each other.
//!
//! Every operation stands in one *lane* per conflict key, in order of arrival. It may be taken into
//! a batch when it is first in all of its lanes and those lanes have nothing under way, or nothing
//! but earlier operations of the same batch (array order is the order of application). From this
//! one rule follow order per person, barriers, and retries without overtaking.
//!
//! - A merge, delete, or suppress never shares a batch with another operation of its keys.
//! - A merge also waits until its people's last delivery is `merge_settle` ago, since Customer.io
//!   ignores a merge whose primary person is not yet known.
//! - With `ordering: strict`, operations that share a key never share a batch.
//!
//! # Cost
//!
//! Lanes are linked lists through the operations; a step touches only the operation, its lanes, and
//! their next operations. A person with thousands of waiting operations costs no more than others:
//! nothing is ever searched from the start.

mod entries;
mod lanes;
mod recent;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use crate::config::Ordering;
use crate::operation::{ConflictKeys, Effect};

use entries::Entries;
pub use lanes::LaneId;
use lanes::{Lanes, NO_BATCH, Places};
use recent::RecentDeliveries;

/// Place of an operation in the book.
pub type Slot = u32;

const NONE: Slot = Slot::MAX;

/// A book that has become empty gives memory back if it had grown beyond this many operations.
const KEPT: usize = 1 << 16;

/// An operation in the book. A million may wait, so it is kept small.
#[derive(Debug)]
struct Entry<T> {
    load: T,
    places: Places,
    size: u32,
    /// The lower half of the count of arrivals.
    order: u32,
    /// In how many lanes others stand before it.
    ahead: u32,
    effect: Effect,
    /// Whether it is in the ready queue.
    queued: bool,
    /// Whether the waiting time of a merge has been set. Once a merge is first in its lanes,
    /// nothing more is delivered there, so the time is set once.
    settling: bool,
}

/// The order book. `T` is what the owner wants to keep with each operation.
#[derive(Debug)]
pub struct Book<T> {
    entries: Entries<Entry<T>>,
    free: Vec<Slot>,
    lanes: Lanes,
    /// By order of arrival. May hold operations that were only ready for a batch that has left
    /// meanwhile; they are dropped when they come up and return when their lane is free.
    ready: BinaryHeap<Reverse<(u64, Slot)>>,
    ready_count: usize,
    ready_bytes: usize,
    /// Merges that wait until their people have settled.
    settling: BinaryHeap<Reverse<(Instant, Slot)>>,
    /// Those that were ready and wait again, since the owner last asked.
    set_aside: Vec<Slot>,
    recent: RecentDeliveries,
    merge_settle: Duration,
    strict: bool,
    next_order: u64,
    last_batch: u32,
    waiting: usize,
    under_way: usize,
}

impl<T> Book<T> {
    /// Makes an empty book.
    #[must_use]
    pub fn new(ordering: Ordering, merge_settle: Duration, now: Instant) -> Self {
        Self {
            entries: Entries::default(),
            free: Vec::new(),
            lanes: Lanes::default(),
            ready: BinaryHeap::new(),
            ready_count: 0,
            ready_bytes: 0,
            settling: BinaryHeap::new(),
            set_aside: Vec::new(),
            recent: RecentDeliveries::new(now),
            merge_settle,
            strict: ordering == Ordering::Strict,
            next_order: 0,
            last_batch: NO_BATCH,
            waiting: 0,
            under_way: 0,
        }
    }

    /// Returns how many operations are in the book.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting + self.under_way
    }

    /// Tells whether no operation is in the book.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many operations wait behind others of their keys (or for a merge to settle).
    #[must_use]
    pub fn parked(&self) -> usize {
        self.waiting.saturating_sub(self.ready_count)
    }

    /// Returns number and bytes of the operations that may travel now. An estimate from above: some
    /// may turn out to wait for a batch that has just left.
    #[must_use]
    pub fn ready(&self) -> (usize, usize) {
        (self.ready_count, self.ready_bytes)
    }

    /// Returns what is kept with an operation.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Option<&T> {
        self.entries.get(slot).map(|e| &e.load)
    }

    /// Returns what is kept with an operation.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.entries.get_mut(slot).map(|e| &mut e.load)
    }

    /// Returns the lanes in which an operation stands: as long as one of two operations is in the
    /// book, they share a lane exactly if they share a key.
    pub fn lanes(&self, slot: Slot) -> impl Iterator<Item = LaneId> {
        let places = self.entries.get(slot).map_or(&[][..], |e| e.places.all());
        places.iter().map(|place| place.lane)
    }

    /// Returns an operation's conflict keys.
    pub fn keys(&self, slot: Slot) -> impl Iterator<Item = u64> {
        self.lanes(slot).filter_map(|lane| self.lanes.get(lane)).map(|lane| lane.key)
    }

    /// Returns the length of an operation's body in bytes.
    #[must_use]
    pub fn size(&self, slot: Slot) -> usize {
        self.entries.get(slot).map_or(0, |e| e.size as usize)
    }

    /// Tells whether an operation that waits may travel soon.
    #[must_use]
    pub fn is_ready(&self, slot: Slot) -> bool {
        self.entries.get(slot).is_some_and(|e| e.queued)
    }

    /// Returns the operations that were ready and have begun to wait again since the last call:
    /// for a batch that had just left, or for a merge's people to settle.
    pub fn set_aside(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.set_aside)
    }

    /// Puts an operation at the end of its lanes. `size` is the length of its body in bytes.
    pub fn insert(&mut self, keys: &ConflictKeys, effect: Effect, size: usize, load: T) -> Slot {
        let mut lanes: SmallVec<[LaneId; 4]> =
            keys.0.iter().map(|key| self.lanes.of(*key)).collect();
        lanes.sort_unstable();
        // A repeated key would make the operation wait for itself.
        lanes.dedup();
        let slot = self.free.pop().unwrap_or_else(|| self.entries.grow());
        let mut ahead = 0;
        for &id in &lanes {
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            let last = std::mem::replace(&mut lane.last, slot);
            if last == NONE {
                lane.first = slot;
            } else {
                ahead += 1;
                if let Some(before) = self.entries.get_mut(last) {
                    before.places.link(id, slot);
                }
            }
        }
        let entry = Entry {
            load,
            places: Places::new(&lanes),
            effect,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            order: self.next_order as u32,
            ahead,
            queued: false,
            settling: false,
        };
        self.next_order += 1;
        self.entries.put(slot, entry);
        self.waiting += 1;
        self.offer(slot, None);
        slot
    }

    /// Begins a batch.
    pub fn open(&mut self) -> u32 {
        // After four billion batches the first numbers come again: none of those is under way.
        self.last_batch = self.last_batch.checked_add(1).unwrap_or(NO_BATCH + 1);
        self.last_batch
    }

    /// Takes the oldest operation that may travel in `batch`, if its size is at most `room`.
    ///
    /// Returns it with its size. Takes nothing if the oldest does not fit: a smaller, younger one
    /// does not pass it.
    pub fn take(&mut self, batch: u32, room: usize, now: Instant) -> Option<(Slot, usize)> {
        loop {
            let &Reverse((_, slot)) = self.ready.peek()?;
            let Some(entry) = self.entries.get(slot) else {
                self.ready.pop();
                continue;
            };
            let may = self.may_travel(entry, Some(batch));
            let size = entry.size as usize;
            if may && size > room {
                return None;
            }
            let due = if may && entry.effect == Effect::Merge && !entry.settling {
                let lanes = entry.places.all().iter().filter_map(|p| self.lanes.get(p.lane));
                self.recent.last(lanes.map(|lane| lane.key)).map(|last| last + self.merge_settle)
            } else {
                None
            };
            self.unqueue(slot);
            if !may {
                self.set_aside.push(slot);
                continue;
            }
            if let Some(due) = due
                && due > now
            {
                if let Some(entry) = self.entries.get_mut(slot) {
                    entry.settling = true;
                }
                self.settling.push(Reverse((due, slot)));
                self.set_aside.push(slot);
                continue;
            }
            self.depart(slot, batch);
            return Some((slot, size));
        }
    }

    /// Returns when the next merge may have settled.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.settling.peek().map(|Reverse((at, _))| *at)
    }

    /// Makes merges ready whose time has come.
    pub fn wake(&mut self, now: Instant) {
        while let Some(&Reverse((at, slot))) = self.settling.peek()
            && at <= now
        {
            self.settling.pop();
            self.offer(slot, None);
        }
    }

    /// Ends an operation that is under way and returns what was kept with it. `applied` tells
    /// whether Customer.io has accepted it, or may have.
    pub fn end(&mut self, slot: Slot, applied: bool, now: Instant) -> Option<T> {
        let entry = self.entries.take(slot)?;
        self.free.push(slot);
        self.under_way = self.under_way.saturating_sub(1);
        for place in entry.places.all() {
            let Some(lane) = self.lanes.get_mut(place.lane) else { continue };
            if applied {
                self.recent.note(lane.key, now);
            }
            lane.under_way = lane.under_way.saturating_sub(1);
            if lane.under_way > 0 {
                continue;
            }
            lane.batch = NO_BATCH;
            let first = lane.first;
            if first == NONE {
                self.lanes.remove(place.lane);
            } else {
                self.offer(first, None);
            }
        }
        self.shrink();
        Some(entry.load)
    }

    /// Gives memory back after a time with many operations.
    fn shrink(&mut self) {
        if self.is_empty() && self.entries.len() > KEPT {
            debug_assert!(self.lanes.is_empty());
            self.entries = Entries::default();
            self.free = Vec::new();
            self.lanes = Lanes::default();
            // What is left there is out of date.
            self.ready = BinaryHeap::new();
            self.settling = BinaryHeap::new();
        }
    }

    /// Tells whether an operation may travel in `batch` (`None`: in a new one).
    fn may_travel(&self, entry: &Entry<T>, batch: Option<u32>) -> bool {
        let alone = self.strict || entry.effect != Effect::Ordinary;
        entry.ahead == 0
            && entry.places.all().iter().all(|place| {
                self.lanes
                    .get(place.lane)
                    .is_none_or(|lane| lane.under_way == 0 || (!alone && Some(lane.batch) == batch))
            })
    }

    /// Queues an operation if it may travel.
    fn offer(&mut self, slot: Slot, batch: Option<u32>) {
        let Some(candidate) = self.entries.get(slot) else { return };
        if candidate.queued || !self.may_travel(candidate, batch) {
            return;
        }
        if let Some(candidate) = self.entries.get_mut(slot) {
            candidate.queued = true;
            // The upper half of the count is that of the last arrival, unless it went up since.
            let age = (self.next_order as u32).wrapping_sub(candidate.order);
            let order = self.next_order.saturating_sub(u64::from(age));
            self.ready.push(Reverse((order, slot)));
            self.ready_count += 1;
            self.ready_bytes += candidate.size as usize;
        }
    }

    /// Removes the head of the ready queue, which is `slot`.
    fn unqueue(&mut self, slot: Slot) {
        self.ready.pop();
        if let Some(entry) = self.entries.get_mut(slot) {
            entry.queued = false;
            self.ready_count = self.ready_count.saturating_sub(1);
            self.ready_bytes = self.ready_bytes.saturating_sub(entry.size as usize);
        }
    }

    /// Moves an operation out of its lanes' waiting part.
    fn depart(&mut self, slot: Slot, batch: u32) {
        let Some(entry) = self.entries.get(slot) else { return };
        let exclusive = self.strict || entry.effect != Effect::Ordinary;
        let places: SmallVec<[lanes::Place; 4]> = SmallVec::from_slice(entry.places.all());
        self.waiting = self.waiting.saturating_sub(1);
        self.under_way += 1;
        for place in &places {
            if let Some(lane) = self.lanes.get_mut(place.lane) {
                lane.first = place.behind;
                if place.behind == NONE {
                    lane.last = NONE;
                }
                lane.under_way += 1;
                lane.batch = if exclusive { NO_BATCH } else { batch };
            }
            if let Some(next) = self.entries.get_mut(place.behind) {
                next.ahead = next.ahead.saturating_sub(1);
            }
        }
        // Only now, when all lanes are up to date, can the next ones be judged.
        for place in places {
            if place.behind != NONE {
                self.offer(place.behind, Some(batch));
            }
        }
    }
}

#[cfg(test)]
mod tests;
