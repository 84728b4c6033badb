//! What the next commit is to write besides new rows: settlements, endings of events that were never
//! stored, letters to be forgotten.

use std::collections::BTreeSet;
use std::time::Instant;

use super::State;
use crate::buffer::LetterId;
use crate::buffer::disk::held::Held;
use crate::buffer::disk::meta::Delta;
use crate::outcome::Tally;

/// What settlements and records want to have written.
#[derive(Debug, Default)]
pub(in crate::buffer::disk) struct Pending {
    pub(in crate::buffer::disk) delta: Delta,
    /// Rows of which something was settled since the last commit.
    rows: BTreeSet<u64>,
    /// Letters of appends that were taken back, and others that nobody will ask for.
    pub(in crate::buffer::disk) forgotten: Vec<LetterId>,
    /// When the first of it came.
    pub(in crate::buffer::disk) since: Option<Instant>,
}

impl Pending {
    pub(in crate::buffer::disk) fn is_empty(&self) -> bool {
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
pub(in crate::buffer::disk) type Bitmaps = Vec<(u64, Option<Vec<u8>>)>;

impl State {
    /// Takes what settlements changed, for one commit.
    pub(in crate::buffer::disk) fn take_pending(&mut self) -> (Pending, Bitmaps) {
        let pending = std::mem::take(&mut self.pending);
        let bitmap = |first: &u64| {
            let held = self.held.get(first).filter(|held| !held.is_settled());
            (*first, held.map(Held::bitmap))
        };
        let bitmaps = pending.rows.iter().map(bitmap).collect();
        (pending, bitmaps)
    }

    /// Puts back what could not be written.
    pub(in crate::buffer::disk) fn restore(&mut self, pending: Pending) {
        self.pending.restore(pending);
    }

    /// Lets the next commits forget letters that nobody will ask for.
    #[cfg(feature = "pipeline")]
    pub(in crate::buffer::disk) fn prune(&mut self, letters: &[LetterId]) {
        if !letters.is_empty() {
            self.pending.forgotten.extend(letters);
            self.pending.since.get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn touch(&mut self, first: u64) {
        self.pending.rows.insert(first);
        self.pending.since.get_or_insert_with(Instant::now);
    }

    /// Enters endings of events that were never stored.
    pub(in crate::buffer::disk) fn record(&mut self, tally: &Tally) {
        let delta = Delta::of(tally);
        if delta.is_empty() {
            return;
        }
        self.live.apply(&delta);
        self.pending.delta.add(&delta);
        self.pending.since.get_or_insert_with(Instant::now);
    }
}
