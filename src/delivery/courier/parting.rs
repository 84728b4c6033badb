//! Parting: who of a parcel has to wait for a failing operation, and who leaves without it.
//!
//! Two operations of a parcel are *bound* when they share a key, or when a chain of others of the
//! same parcel does: then one parcel must keep them, since only within a parcel is the order of a
//! key's operations known. So what is taken out of a parcel are always whole groups of bound ones.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::super::order::{LaneId, Slot};
use super::super::parcel::Parcel;
use super::Courier;

impl Courier {
    /// Lets a parcel wait without those who need not wait with it.
    pub(super) fn wait_apart(&mut self, mut parcel: Parcel, wait: Duration, now: Instant) {
        let first = parcel.first().to_vec();
        if let Some(others) = self.part_from(&first, &mut parcel) {
            self.shelve(others, now, now);
        }
        self.shelve(parcel, now + wait, now);
    }

    /// Puts off the operations of `later`, and who is bound to them. It is known of each that it
    /// is the cause itself, so the others go on at once: those that are `left` of the part, and
    /// the parts behind it.
    pub(super) fn put_off(
        &mut self,
        mut parcel: Parcel,
        left: Vec<(Slot, Company)>,
        later: &[Slot],
        now: Instant,
    ) {
        let all = left.iter().map(|(slot, _)| *slot);
        let bound = self.bound_to(later, all.chain(parcel.parts.iter().flatten().copied()));
        let (stay, leave) = left.into_iter().partition(|(slot, _)| bound.contains(slot));
        let mut others = take_unbound(&mut parcel, &bound);
        for slots in parts_of(leave).into_iter().rev() {
            others.push_front(slots);
        }
        for slots in parts_of(stay).into_iter().rev() {
            parcel.parts.push_front(slots);
        }
        if let Some(others) = parcel.apart(others) {
            self.shelve(others, now, now);
        }
        let wait = parcel.strike(self.successes, &self.retry);
        self.shelve(parcel, now + wait, now);
    }

    /// Returns who of `all` is bound to one of `waiting`, these included.
    fn bound_to(&self, waiting: &[Slot], all: impl Iterator<Item = Slot>) -> HashSet<Slot> {
        let mut by_lane: HashMap<LaneId, Vec<Slot>> = HashMap::new();
        for slot in all {
            for lane in self.book.lanes(slot) {
                by_lane.entry(lane).or_default().push(slot);
            }
        }
        let mut bound: HashSet<Slot> = waiting.iter().copied().collect();
        let mut open = waiting.to_vec();
        while let Some(slot) = open.pop() {
            for lane in self.book.lanes(slot) {
                // Each lane's operations are met once: all of them are bound from then on.
                let met = by_lane.remove(&lane).unwrap_or_default();
                open.extend(met.into_iter().filter(|slot| bound.insert(*slot)));
            }
        }
        bound
    }

    /// Takes out of a parcel what does not have to wait for `waiting`.
    pub(super) fn part_from(&self, waiting: &[Slot], parcel: &mut Parcel) -> Option<Parcel> {
        let bound = self.bound_to(waiting, parcel.parts.iter().flatten().copied());
        let others = take_unbound(parcel, &bound);
        parcel.apart(others)
    }
}

/// Takes out of a parcel what is not among `bound`. What travelled apart still does: it may have
/// been parted because it fails together, or is unknown.
fn take_unbound(parcel: &mut Parcel, bound: &HashSet<Slot>) -> VecDeque<Vec<Slot>> {
    let mut others = VecDeque::new();
    for part in &mut parcel.parts {
        let (stay, leave): (Vec<_>, Vec<_>) = part.iter().partition(|slot| bound.contains(slot));
        *part = stay;
        if !leave.is_empty() {
            others.push_back(leave);
        }
    }
    parcel.parts.retain(|part| !part.is_empty());
    others
}

/// With whom an operation may share its next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    /// With the others that are to go again at once.
    Any,
    /// With others that are to come later: for their sake a whole request may be refused.
    Later,
    /// With nobody.
    None,
}

/// Forms parts of operations that are sent again: neighbours together, as far as they may.
pub(super) fn parts_of(left: Vec<(Slot, Company)>) -> Vec<Vec<Slot>> {
    let together = |a: &(Slot, Company), b: &(Slot, Company)| a.1 == b.1 && a.1 != Company::None;
    let slots = |part: &[(Slot, Company)]| part.iter().map(|(slot, _)| *slot).collect();
    left.chunk_by(together).map(slots).collect()
}
