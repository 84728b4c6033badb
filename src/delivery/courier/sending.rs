//! Sending: whether something may leave now, and what.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::batch::Filling;
use super::super::metering;
use super::super::order::Slot;
use super::super::parcel::Parcel;
use super::fetching::{Item, fetch_and_send};
use super::{Courier, Flight};

/// Of so many requests, and of so many places for requests under way, one may belong to operations
/// that fail while others pass. Retries of many of them would leave nothing for new ones.
const SUSPECTS_SHARE: usize = 4;

impl Courier {
    pub(super) fn dispatch(&mut self, now: Instant) {
        if self.book.ready().0 > 0 {
            self.lingering.get_or_insert(now);
        }
        while self.flights.len() < self.concurrency && self.may_send(now) && self.take_permit(now) {
            let Some(parcel) = self.choose(now) else { break };
            self.permit = false;
            match self.gate.pass(now) {
                Some(generation) => self.launch(parcel, generation),
                None => self.shelve(parcel, now, now),
            }
        }
        let waiting = self.book.set_aside();
        self.forget_bodies(waiting);
        let (ready, _) = self.book.ready();
        if ready == 0 {
            self.lingering = None;
        } else {
            self.lingering.get_or_insert(now);
        }
    }

    /// Chooses what to send: what was sent before, else a new batch, else a suspect.
    ///
    /// When only one request may try, old and new take turns: if the old one is itself the cause
    /// of the failures, others must be able to show that the destination works.
    fn choose(&mut self, now: Instant) -> Option<Parcel> {
        if self.gate.is_trial() {
            self.try_new = !self.try_new;
            if self.try_new
                && let Some(parcel) = self.fill(now)
            {
                return Some(parcel);
            }
        }
        self.turn = (self.turn + 1) % SUSPECTS_SHARE;
        if self.turn == 0
            && let Some(suspect) = self.take_suspect(now)
        {
            return Some(suspect);
        }
        if let Some(parcel) = self.shelf.take(now) {
            return Some(parcel);
        }
        let batch = if self.is_batch_due(now) { self.fill(now) } else { None };
        batch.or_else(|| self.take_suspect(now))
    }

    fn may_send(&mut self, now: Instant) -> bool {
        !self.orders.paused
            && !self.checking
            && !self.letters.are_stuck()
            && !self.letters_abound()
            && self.holding.hold().is_none()
            && self.gate.is_open(now)
            && (self.shelf.is_due(now) || self.is_batch_due(now) || self.may_suspect_go(now))
    }

    fn may_suspect_go(&self, now: Instant) -> bool {
        let under_way = || self.under_way.values().filter(|flight| flight.parcel.is_suspect());
        self.suspects.is_due(now)
            && under_way().count() < (self.concurrency / SUSPECTS_SHARE).max(1)
    }

    fn take_suspect(&mut self, now: Instant) -> Option<Parcel> {
        if self.may_suspect_go(now) { self.suspects.take(now) } else { None }
    }

    /// Tells whether so many dead letters wait to become durable that further ones would have no
    /// place in memory.
    pub(super) fn letters_abound(&self) -> bool {
        self.letters.len() >= self.pace.read_ahead
            || self.letters.bytes() >= self.pace.read_ahead_bytes
    }

    /// Tells whether a new batch should leave: it is full, nothing is under way, or it has waited
    /// long enough for company.
    fn is_batch_due(&mut self, now: Instant) -> bool {
        let (ready, bytes) = self.book.ready();
        ready > 0
            && (self.flights.is_empty()
                || ready >= self.item_limit.get(now)
                || bytes >= self.batch.max_bytes
                || self.lingering.is_some_and(|since| now >= since + self.batch.linger))
    }

    fn take_permit(&mut self, now: Instant) -> bool {
        if !self.permit {
            match self.limiter.take(now) {
                Ok(()) => {
                    self.permit = true;
                    self.limited_until = None;
                }
                Err(wait) => {
                    self.limited_until = Some(now + wait.max(Duration::from_millis(1)));
                }
            }
        }
        self.permit
    }

    /// Forms a batch of what may travel.
    fn fill(&mut self, now: Instant) -> Option<Parcel> {
        let mut filling = Filling::new(self.batch.max_bytes, self.item_limit.get(now));
        let batch = self.book.open();
        let mut part: Vec<Slot> = Vec::new();
        while let Some(room) = filling.room()
            && let Some((slot, size)) = self.book.take(batch, room, now)
        {
            filling.add(size);
            part.push(slot);
        }
        self.lingering = None;
        if part.is_empty() {
            return None;
        }
        metering::batch(part.len());
        Some(Parcel::new(part))
    }

    fn launch(&mut self, mut parcel: Parcel, generation: u64) {
        self.cut_to_limits(&mut parcel);
        let item = |slot: &Slot| {
            let load = self.book.get(*slot)?;
            let (event, position) = (load.event, load.position);
            Some(Item { event, position, body: self.events.body(load) })
        };
        let items: Vec<Item> = parcel.first().iter().filter_map(item).collect();
        let fetches = items.iter().any(|item| item.body.is_none());
        let (buffer, destination) = (&self.ends.buffer, &self.ends.destination);
        let (buffer, destination) = (Arc::clone(buffer), Arc::clone(destination));
        let task = self.flights.spawn(fetch_and_send(buffer, destination, items, parcel.sent));
        self.under_way.insert(task.id(), Flight { parcel, generation, fetches });
    }

    /// Cuts what was formed under wider limits.
    fn cut_to_limits(&self, parcel: &mut Parcel) {
        let mut filling = Filling::new(self.batch.max_bytes, self.batch.max_items.max(1));
        let fits = |slot: &&Slot| {
            let size = self.book.size(**slot);
            let fits = filling.room().is_some_and(|room| size <= room);
            filling.add(size);
            fits
        };
        let operations = parcel.first().iter().take_while(fits).count();
        parcel.cut(operations);
    }

    /// Puts a parcel aside until `at`.
    pub(super) fn shelve(&mut self, parcel: Parcel, at: Instant, now: Instant) {
        if at > now {
            self.forget_bodies(parcel.parts.iter().flatten().copied());
        }
        let shelf = if parcel.is_suspect() { &mut self.suspects } else { &mut self.shelf };
        shelf.put(parcel, at);
    }
}
