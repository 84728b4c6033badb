//! What callers, reader, and writer of one buffer share.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

#[cfg(feature = "pipeline")]
use super::failure::Failure;
use super::row::Row;
use super::state::State;
use super::store::Store;
#[cfg(feature = "pipeline")]
use crate::buffer::LetterId;
use crate::config::OnCorruption;

/// Bytes of rows that are kept as they stand in the store, so that what was just written or read
/// is not read from the disk again.
const KEPT_BYTES: usize = 8 * 1024 * 1024;

/// The middle of the buffer.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) on_corruption: OnCorruption,
    state: Mutex<State>,
    kept: Mutex<Kept>,
    /// Wakes the writer.
    pub(super) work: Condvar,
    /// Wakes the append whose turn it is to wait for room.
    pub(super) room: Notify,
    /// Wakes the reader.
    pub(super) news: Notify,
}

impl Shared {
    pub(super) fn new(store: Store, state: State, on_corruption: OnCorruption) -> Self {
        Self {
            store,
            on_corruption,
            state: Mutex::new(state),
            kept: Mutex::default(),
            work: Condvar::new(),
            room: Notify::new(),
            news: Notify::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a row for those who ask for it next.
    pub(super) fn keep(&self, row: Row) {
        self.kept().keep(row);
    }

    /// Returns a row that is kept.
    pub(super) fn kept_row(&self, first: u64) -> Option<Row> {
        self.kept().rows.iter().find(|row| row.first() == first).cloned()
    }

    /// Tells which letters were replayed for good. Asks the database again when that has changed
    /// meanwhile.
    #[cfg(feature = "pipeline")]
    pub(super) fn replayed(&self, letters: &[LetterId]) -> Result<Vec<bool>, Failure> {
        loop {
            let version = self.state().letters.version();
            let stored = self.store.replayed(letters)?;
            if let Some(answer) = self.state().letters.correct(version, letters, &stored) {
                return Ok(answer);
            }
        }
    }

    /// Lets the reader have what may be read now, and wakes whom it concerns.
    pub(super) fn publish(&self, mut state: MutexGuard<'_, State>) {
        let rows = state.publish();
        drop(state);
        if !rows.is_empty() {
            let mut kept = self.kept();
            rows.into_iter().for_each(|row| kept.keep(row));
        }
        self.news.notify_one();
    }
}

/// The rows that were used last, oldest first.
#[derive(Debug, Default)]
struct Kept {
    rows: VecDeque<Row>,
    bytes: usize,
}

impl Kept {
    fn keep(&mut self, row: Row) {
        if row.bytes().len() > KEPT_BYTES
            || self.rows.iter().any(|kept| kept.first() == row.first())
        {
            return;
        }
        self.bytes += row.bytes().len();
        self.rows.push_back(row);
        while self.bytes > KEPT_BYTES {
            let Some(oldest) = self.rows.pop_front() else { break };
            self.bytes -= oldest.bytes().len();
        }
    }
}
