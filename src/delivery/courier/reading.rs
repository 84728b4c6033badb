//! Reading ahead: enough to fill batches and to pass by those who wait, and no more.

use std::sync::Arc;

use futures_util::FutureExt;

use super::super::progress::Load;
use super::{Courier, Read};
use crate::outcome::{Outcome, Reason, ReasonCode};

impl Courier {
    pub(super) fn read(&mut self) {
        if self.read_all || self.reading.is_some() {
            return;
        }
        // Who has been sent and waits for another try may wait as long as who waits behind it.
        let parked = self.book.parked() + self.shelf.operations() + self.suspects.operations();
        let moving = self.book.len().saturating_sub(parked);
        let parked = parked + self.settling.waiting();
        let room = self
            .pace
            .read_ahead
            .saturating_sub(moving.max(self.events.kept()))
            .min(self.pace.most_parked.saturating_sub(parked))
            .min(self.pace.read_ahead.saturating_sub(self.letters.len()));
        // Reading in small portions while the window is nearly full would cost a turn for each.
        let portion = (self.pace.read_ahead / 8).max(1);
        let bytes = self.events.bytes() + self.letters.bytes();
        let most_bytes = self.pace.read_ahead_bytes;
        if room < portion || bytes > most_bytes - most_bytes / 8 {
            return;
        }
        let buffer = Arc::clone(&self.ends.buffer);
        let limit = room.min(4_096);
        let room_bytes = most_bytes - bytes;
        self.reading = Some(async move { buffer.read(limit, room_bytes).await }.boxed());
    }

    pub(super) fn enter(&mut self, events: Read) {
        if events.is_empty() {
            self.read_all = true;
        }
        for (sequence, stored) in events {
            let unknown = self.inherited > 0;
            self.inherited = self.inherited.saturating_sub(1);
            if stored.operations.is_empty() {
                let reason = Reason::new(ReasonCode::Internal, "its row in the buffer is damaged");
                self.settling.end(sequence, Outcome::Rejected(reason));
                continue;
            }
            self.events.insert(sequence, stored.operations.len());
            let mut soon = false;
            for (position, operation) in (0_u32..).zip(&stored.operations) {
                let load = Load { event: sequence, position, attempts: 0, unknown };
                let (effect, size) = (operation.effect, operation.body.len());
                let slot = self.book.insert(&operation.keys, effect, size, load);
                soon |= self.book.is_ready(slot);
            }
            if soon || self.has_room_for_the_patient() {
                self.events.keep(sequence, stored);
            }
        }
    }
}
