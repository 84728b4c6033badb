//! Rows of which little waits are written again without the rest: else one event that cannot be
//! delivered for days would keep megabytes on the disk.
//!
//! It begins once settled events take more than [`SHARE`] of the buffer's bound, so that rows that
//! are being delivered are left alone; it takes the rows that cost least, a few per commit. Until
//! then and afterwards, each row has at most as much of what is settled as of what waits.

use std::time::Instant;

use super::held::Held;
use super::state::State;

/// The part of the bound that settled events may take on the disk in addition.
const SHARE: u64 = 8;

/// Which rows are to be written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those beyond the [`SHARE`] that settled events may take.
    BeyondTheShare,
    /// All that hold more of what is settled than of what waits: the disk is full.
    All,
}

/// A row that is to be written again.
#[derive(Debug)]
pub(super) struct Rewrite {
    pub(super) first: u64,
    /// The events that it keeps.
    pub(super) offsets: Vec<u32>,
    /// Bitmap of all others.
    pub(super) bitmap: Vec<u8>,
    /// Bytes of the events that it keeps.
    pub(super) bytes: u64,
}

impl State {
    /// Takes in a row unless it is there.
    pub(super) fn insert_held(&mut self, first: u64, held: impl FnOnce() -> Held) {
        if !self.held.contains_key(&first) {
            let held = held();
            self.waste = self.waste.saturating_add(held.waste());
            self.held.insert(first, held);
            self.change_held(first, |_| ());
        }
    }

    /// Changes a row that is there, and keeps account of what it wastes.
    pub(super) fn change_held<T>(
        &mut self,
        first: u64,
        change: impl FnOnce(&mut Held) -> T,
    ) -> Option<T> {
        let held = self.held.get_mut(&first)?;
        let before = held.waste();
        let done = change(held);
        self.waste = self.waste.saturating_sub(before).saturating_add(held.waste());
        let loaded = first + held.span() as u64 <= self.read;
        match (held.due, loaded && held.is_wasteful()) {
            (None, true) => {
                held.due = Some(held.unsettled_bytes());
                self.due.insert((held.unsettled_bytes(), first));
            }
            (Some(price), false) => {
                held.due = None;
                self.due.remove(&(price, first));
            }
            _ => {}
        }
        Some(done)
    }

    fn is_wasteful(&self, waste: u64) -> bool {
        waste > self.max_bytes / SHARE && !self.due.is_empty()
    }

    /// Takes rows to write again for one commit: the cheapest, while they have `bytes` together.
    /// These are bytes to read, and for `All` rows bytes to write, since those are short then.
    pub(super) fn take_rewrites(&mut self, which: Which, bytes: u64) -> Vec<Rewrite> {
        let (mut taken, mut sum, mut waste) = (Vec::new(), 0, self.waste);
        while sum < bytes && (which == Which::All || self.is_wasteful(waste)) {
            let Some((_, first)) = self.due.pop_first() else { break };
            let Some(held) = self.held.get_mut(&first) else { continue };
            held.due = None;
            waste = waste.saturating_sub(held.waste());
            sum += match which {
                Which::BeyondTheShare => held.stored_bytes(),
                Which::All => held.unsettled_bytes(),
            };
            taken.push(Rewrite {
                first,
                offsets: held.offsets(),
                bitmap: held.bitmap(),
                bytes: held.unsettled_bytes(),
            });
        }
        taken
    }

    /// Enters what became of rows that were to be written again.
    pub(super) fn rewrote(&mut self, rows: &[Rewrite], written: bool) {
        for row in rows {
            self.change_held(row.first, |held| {
                if written {
                    held.rewritten(row.bytes);
                }
            });
        }
        if written && self.is_wasteful(self.waste) {
            self.pending.since.get_or_insert_with(Instant::now);
        }
    }
}
