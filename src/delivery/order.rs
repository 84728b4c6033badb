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

mod recent;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use crate::config::Ordering;
use crate::operation::{ConflictKeys, Effect};

use recent::RecentDeliveries;

/// Place of an operation in the book.
pub type Slot = u32;

const NONE: Slot = Slot::MAX;

/// Conflict keys are hashes already; hashing them again would only cost time.
#[derive(Clone, Copy, Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// The operations of one conflict key.
#[derive(Clone, Copy, Debug)]
struct Lane {
    /// First operation that is not under way.
    first: Slot,
    /// Last operation that is not under way.
    last: Slot,
    /// How many are under way; all of them in the same parcel.
    under_way: u32,
    /// The batch in which they travel.
    batch: u64,
    /// Whether what is under way tolerates no company.
    exclusive: bool,
}

#[derive(Debug)]
struct Entry<T> {
    load: T,
    keys: SmallVec<[u64; 4]>,
    /// For each key the operation behind this one.
    behind: SmallVec<[Slot; 4]>,
    effect: Effect,
    size: u32,
    order: u64,
    /// In how many lanes others stand before it.
    ahead: u32,
    /// Whether it is in the ready queue.
    queued: bool,
    /// Whether the waiting time of a merge has been set. Once a merge is first in its lanes,
    /// nothing more is delivered there, so the time is set once.
    settling: bool,
}

/// The order book. `T` is what the owner wants to keep with each operation.
#[derive(Debug)]
pub struct Book<T> {
    entries: Vec<Option<Entry<T>>>,
    free: Vec<Slot>,
    lanes: HashMap<u64, Lane, BuildHasherDefault<KeyHasher>>,
    /// By order of arrival. May hold operations that were only ready for a batch that has left
    /// meanwhile; they are dropped when they come up and return when their lane is free.
    ready: BinaryHeap<Reverse<(u64, Slot)>>,
    ready_count: usize,
    ready_bytes: usize,
    /// Merges that wait until their people have settled.
    settling: BinaryHeap<Reverse<(Instant, Slot)>>,
    recent: RecentDeliveries,
    merge_settle: Duration,
    strict: bool,
    next_order: u64,
    next_batch: u64,
    waiting: usize,
    under_way: usize,
}

impl<T> Book<T> {
    /// Makes an empty book.
    #[must_use]
    pub fn new(ordering: Ordering, merge_settle: Duration, now: Instant) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            lanes: HashMap::default(),
            ready: BinaryHeap::new(),
            ready_count: 0,
            ready_bytes: 0,
            settling: BinaryHeap::new(),
            recent: RecentDeliveries::new(now),
            merge_settle,
            strict: ordering == Ordering::Strict,
            next_order: 0,
            next_batch: 0,
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
        self.entries.get(slot as usize)?.as_ref().map(|e| &e.load)
    }

    /// Returns what is kept with an operation.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.entries.get_mut(slot as usize)?.as_mut().map(|e| &mut e.load)
    }

    /// Returns an operation's conflict keys.
    #[must_use]
    pub fn keys(&self, slot: Slot) -> &[u64] {
        entry(&self.entries, slot).map_or(&[], |e| e.keys.as_slice())
    }

    /// Puts an operation at the end of its lanes. `size` is the length of its body in bytes.
    pub fn insert(&mut self, keys: &ConflictKeys, effect: Effect, size: usize, load: T) -> Slot {
        let mut keys = keys.0.clone();
        // A repeated key would make the operation wait for itself.
        if !keys.is_sorted_by(|a, b| a < b) {
            keys.sort_unstable();
            keys.dedup();
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            (self.entries.len() - 1) as Slot
        });
        let mut ahead = 0;
        for &key in &keys {
            let lane = self.lanes.entry(key).or_insert(Lane {
                first: NONE,
                last: NONE,
                under_way: 0,
                batch: 0,
                exclusive: false,
            });
            let last = std::mem::replace(&mut lane.last, slot);
            if last == NONE {
                lane.first = slot;
            } else {
                ahead += 1;
                if let Some(before) = entry_mut(&mut self.entries, last) {
                    link(before, key, slot);
                }
            }
        }
        let entry = Entry {
            load,
            behind: SmallVec::from_elem(NONE, keys.len()),
            keys,
            effect,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            order: self.next_order,
            ahead,
            queued: false,
            settling: false,
        };
        self.next_order += 1;
        if let Some(place) = self.entries.get_mut(slot as usize) {
            *place = Some(entry);
        }
        self.waiting += 1;
        self.offer(slot, None);
        slot
    }

    /// Begins a batch.
    pub fn open(&mut self) -> u64 {
        self.next_batch += 1;
        self.next_batch
    }

    /// Takes the oldest operation that may travel in `batch`, if its size is at most `room`.
    ///
    /// Returns it with its size. Takes nothing if the oldest does not fit: a smaller, younger one
    /// does not pass it.
    pub fn take(&mut self, batch: u64, room: usize, now: Instant) -> Option<(Slot, usize)> {
        loop {
            let &Reverse((_, slot)) = self.ready.peek()?;
            let Some(entry) = entry(&self.entries, slot) else {
                self.ready.pop();
                continue;
            };
            let may = self.may_travel(entry, Some(batch));
            let size = entry.size as usize;
            if may && size > room {
                return None;
            }
            let due = if may && entry.effect == Effect::Merge && !entry.settling {
                self.recent.last(&entry.keys).map(|last| last + self.merge_settle)
            } else {
                None
            };
            self.unqueue(slot);
            if !may {
                continue;
            }
            if let Some(due) = due
                && due > now
            {
                if let Some(entry) = entry_mut(&mut self.entries, slot) {
                    entry.settling = true;
                }
                self.settling.push(Reverse((due, slot)));
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

    /// Ends an operation that is under way and returns what was kept with it.
    pub fn end(&mut self, slot: Slot, delivered: bool, now: Instant) -> Option<T> {
        let entry = self.entries.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        self.under_way = self.under_way.saturating_sub(1);
        if delivered {
            self.recent.note(&entry.keys, now);
        }
        for &key in &entry.keys {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.under_way = lane.under_way.saturating_sub(1);
            if lane.under_way > 0 {
                continue;
            }
            lane.exclusive = false;
            if lane.first == NONE {
                self.lanes.remove(&key);
            } else {
                let first = lane.first;
                self.offer(first, None);
            }
        }
        Some(entry.load)
    }

    /// Tells whether an operation may travel in `batch` (`None`: in a new one).
    fn may_travel(&self, entry: &Entry<T>, batch: Option<u64>) -> bool {
        let alone = self.strict || entry.effect != Effect::Ordinary;
        entry.ahead == 0
            && entry.keys.iter().all(|key| {
                self.lanes.get(key).is_none_or(|lane| {
                    lane.under_way == 0 || (!alone && !lane.exclusive && Some(lane.batch) == batch)
                })
            })
    }

    /// Queues an operation if it may travel.
    fn offer(&mut self, slot: Slot, batch: Option<u64>) {
        let Some(candidate) = entry(&self.entries, slot) else { return };
        if candidate.queued || !self.may_travel(candidate, batch) {
            return;
        }
        if let Some(candidate) = entry_mut(&mut self.entries, slot) {
            candidate.queued = true;
            self.ready.push(Reverse((candidate.order, slot)));
            self.ready_count += 1;
            self.ready_bytes += candidate.size as usize;
        }
    }

    /// Removes the head of the ready queue, which is `slot`.
    fn unqueue(&mut self, slot: Slot) {
        self.ready.pop();
        if let Some(entry) = entry_mut(&mut self.entries, slot) {
            entry.queued = false;
            self.ready_count = self.ready_count.saturating_sub(1);
            self.ready_bytes = self.ready_bytes.saturating_sub(entry.size as usize);
        }
    }

    /// Moves an operation out of its lanes' waiting part.
    fn depart(&mut self, slot: Slot, batch: u64) {
        let Some(entry) = entry_mut(&mut self.entries, slot) else { return };
        let exclusive = self.strict || entry.effect != Effect::Ordinary;
        let keys = entry.keys.clone();
        let behind = std::mem::replace(&mut entry.behind, SmallVec::new());
        self.waiting = self.waiting.saturating_sub(1);
        self.under_way += 1;
        for (key, &next) in keys.iter().zip(&behind) {
            if let Some(lane) = self.lanes.get_mut(key) {
                lane.first = next;
                if next == NONE {
                    lane.last = NONE;
                }
                lane.under_way += 1;
                lane.batch = batch;
                lane.exclusive |= exclusive;
            }
            if let Some(next) = entry_mut(&mut self.entries, next) {
                next.ahead = next.ahead.saturating_sub(1);
            }
        }
        // Only now, when all lanes are up to date, can the next ones be judged.
        for &next in &behind {
            if next != NONE {
                self.offer(next, Some(batch));
            }
        }
    }
}

fn entry<T>(entries: &[Option<Entry<T>>], slot: Slot) -> Option<&Entry<T>> {
    entries.get(slot as usize)?.as_ref()
}

fn entry_mut<T>(entries: &mut [Option<Entry<T>>], slot: Slot) -> Option<&mut Entry<T>> {
    entries.get_mut(slot as usize)?.as_mut()
}

fn link<T>(before: &mut Entry<T>, key: u64, slot: Slot) {
    if let Ok(at) = before.keys.binary_search(&key)
        && let Some(behind) = before.behind.get_mut(at)
    {
        *behind = slot;
    }
}

#[cfg(test)]
mod tests;
