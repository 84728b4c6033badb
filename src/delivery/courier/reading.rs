//! Reading ahead: enough to fill batches and to pass by those who wait, and no more.

use std::sync::Arc;

use futures_util::FutureExt;

use super::super::progress::Load;
use super::{Courier, Read};
use crate::outcome::Outcome;

impl Courier {
    pub(super) fn read(&mut self) {
        if self.read_all || self.reading.is_some() {
            return;
        }
        let parked = self.book.parked();
        let moving = self.book.len() - parked;
        let room = self
            .pace
            .read_ahead
            .saturating_sub(moving)
            .min((8 * self.pace.read_ahead).saturating_sub(parked))
            .min(self.pace.read_ahead.saturating_sub(self.letters.len()));
        // Reading in small portions while the window is nearly full would cost a turn for each.
        let portion = (self.pace.read_ahead / 8).max(1);
        let bytes = self.events.bytes() + self.letters.bytes();
        if room < portion || bytes >= self.pace.read_ahead_bytes {
            return;
        }
        let buffer = Arc::clone(&self.ends.buffer);
        let limit = room.min(4_096);
        let room_bytes = self.pace.read_ahead_bytes - bytes;
        self.reading = Some(async move { buffer.read(limit, room_bytes).await }.boxed());
    }

    pub(super) fn enter(&mut self, events: Read) {
        if events.is_empty() {
            self.read_all = true;
        }
        for (sequence, stored) in events {
            if stored.operations.is_empty() {
                // Nothing to send is nothing to wait for.
                self.settled.push((sequence, Outcome::Delivered));
                continue;
            }
            let event = self.events.insert(sequence, Arc::clone(&stored));
            for (position, operation) in (0_u32..).zip(&stored.operations) {
                let load =
                    Load { event, position, attempts: 0, unknown: false, failing_since: None };
                self.book.insert(&operation.keys, operation.effect, operation.body.len(), load);
            }
        }
    }
}
