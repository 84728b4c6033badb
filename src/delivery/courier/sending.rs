//! Sending: whether something may leave now, and what.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::batch::Filling;
use super::super::metering;
use super::super::order::Slot;
use super::super::parcel::Parcel;
use super::{Courier, Flight};

impl Courier {
    pub(super) fn dispatch(&mut self, now: Instant) {
        while self.flights.len() < self.concurrency && self.may_send(now) && self.take_permit(now) {
            let Some(parcel) = self.choose(now) else { break };
            self.permit = false;
            match self.gate.pass(now) {
                Some(generation) => self.launch(parcel, generation),
                None => self.shelf.put(parcel, now),
            }
        }
        let (ready, _) = self.book.ready();
        if ready == 0 {
            self.lingering = None;
        } else {
            self.lingering.get_or_insert(now);
        }
    }

    /// Chooses what to send: what was sent before, else a new batch.
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
        self.shelf.take(now).or_else(|| self.fill(now))
    }

    fn may_send(&mut self, now: Instant) -> bool {
        !self.orders.paused
            && !self.checking
            && self.holding.hold().is_none()
            && self.gate.is_open(now)
            && (self.shelf.due_at().is_some_and(|at| at <= now) || self.is_batch_due(now))
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
        let mut bodies = Vec::with_capacity(parcel.first().len());
        for &slot in parcel.first() {
            if let Some(load) = self.book.get_mut(slot) {
                load.attempts += 1;
                bodies.extend(self.events.body(load));
            }
        }
        let attempt = parcel.sent;
        parcel.sent += 1;
        let destination = Arc::clone(&self.ends.destination);
        let task = self.flights.spawn(async move { destination.send(bodies, attempt).await });
        self.under_way.insert(task.id(), Flight { parcel, generation });
    }
}
