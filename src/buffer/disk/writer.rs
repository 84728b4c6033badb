//! The thread that owns the database: group commits, and coming back after failures.
//!
//! Memory is the authority while the process lives. A commit that failed may be on the disk all
//! the same; so whatever its result, its appends are refused, and the first commit that succeeds
//! afterwards removes its row. Settlements stay queued until they can be written.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::meta::Meta;
use super::row::{Row, Weight, encode};
use super::shared::Shared;
use super::state::{Bitmaps, Pending, Waiting};
use super::store::{Change, Failure};
use crate::buffer::{AppendError, LetterId};

/// Bytes of events that one commit takes, beyond its first append.
const GROUP_BYTES: u64 = 4 * 1024 * 1024;

/// How long settlements wait for an append to share its commit with. They are promised within
/// 100 ms, and a commit takes some of that.
const LINGER: Duration = Duration::from_millis(75);

/// Size above which the file of an empty buffer is cut.
const LARGE_BYTES: u64 = 64 * 1024 * 1024;

/// Pause before a failed database is opened again.
const TRY_AGAIN: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1000 });

/// The writer.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// The totals as the last good commit left them.
    committed: Meta,
    failed: Option<Failed>,
    pub(super) try_again: Duration,
}

/// A failure that is not over.
#[derive(Debug)]
struct Failed {
    /// The row that may be there although its commit failed.
    unwritten: Option<u64>,
    /// The letters that were new in it.
    forgotten: Vec<LetterId>,
    /// When to try next.
    next: Instant,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, committed: Meta) -> Self {
        Self { shared, committed, failed: None, try_again: TRY_AGAIN }
    }

    /// Begins without taking events, since the disk has no room for the reserve.
    pub(super) fn begin_refusing(&mut self, failure: &Failure) {
        self.fail(failure, Pending::default(), Vec::new());
        let next = Instant::now() + self.try_again;
        self.failed = Some(Failed { unwritten: None, forgotten: Vec::new(), next });
    }

    /// Works until the buffer is dropped.
    pub(super) fn run(mut self) {
        while !self.wait() {
            self.step();
        }
        self.step();
        self.shared.store.close();
    }

    /// Waits until there is something to do; tells whether the buffer was dropped.
    fn wait(&self) -> bool {
        let mut state = self.shared.state();
        loop {
            if state.dropped {
                return true;
            }
            if !state.flushers.is_empty() {
                return false;
            }
            let due = match &self.failed {
                Some(failed) => Some(failed.next),
                None if !state.queue.is_empty() => return false,
                None => state.pending.since.map(|since| since + LINGER),
            };
            let Some(due) = due else {
                state = self.shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let now = Instant::now();
            if due <= now {
                return false;
            }
            let waited = self.shared.work.wait_timeout(state, due - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn step(&mut self) {
        let mut state = self.shared.state();
        let flushers = std::mem::take(&mut state.flushers);
        drop(state);
        if self.failed.is_some() {
            self.recover();
        }
        if self.failed.is_none() {
            self.commit();
        }
        for flusher in flushers {
            // Whoever does not wait any more needs no answer.
            flusher.send(()).ok();
        }
    }

    /// Writes what waits.
    fn commit(&mut self) {
        let mut state = self.shared.state();
        let claimed = state.claim(GROUP_BYTES);
        let (pending, settled) = state.take_pending();
        drop(state);
        if claimed.is_empty() && pending.is_empty() {
            return;
        }
        let first = self.committed.next;
        let Some((row, weights)) = group(first, &claimed) else {
            let error = AppendError::Failed("the batch is too large to be stored".to_owned());
            let mut state = self.shared.state();
            state.restore(pending);
            state.refuse(claimed, &error);
            return;
        };
        let letters = claimed
            .iter()
            .flat_map(|waiting| waiting.events.iter().filter_map(|event| event.letter))
            .collect();
        let change = Change {
            row: row.clone().map(|row| (first, row)),
            letters,
            forgotten: pending.forgotten.clone(),
            settled,
            unwritten: None,
        };
        let mut meta = self.committed.clone();
        meta.commit += 1;
        meta.next += weights.len() as u64;
        weights.iter().for_each(|weight| meta.store(*weight));
        meta.apply(&pending.delta);

        let mut fresh = Vec::new();
        match self.shared.store.commit(&change, &meta, &mut fresh) {
            Ok(()) => {
                self.committed = meta;
                self.shrink();
                let mut state = self.shared.state();
                if let Some(row) = row {
                    let row = Row::fresh(row, first, weights.len());
                    state.stored(row, weights, claimed);
                }
                self.shared.publish(state);
                self.shared.room.notify_one();
            }
            Err(failure) => {
                if matches!(failure, Failure::Full(_)) {
                    self.shared.store.reserve.release();
                }
                let unwritten = row.map(|_| first);
                // Its sequences are lost with it: none is ever given to two events.
                self.committed.next = meta.next;
                self.fail(&failure, pending, claimed);
                self.failed = Some(Failed { unwritten, forgotten: fresh, next: Instant::now() });
                self.recover();
            }
        }
    }

    /// Gives the room of an empty buffer back: redb keeps the pages of removed rows for new ones,
    /// and cuts the file only when it is closed.
    fn shrink(&mut self) {
        let large = || {
            std::fs::metadata(&self.shared.store.file).is_ok_and(|file| file.len() > LARGE_BYTES)
        };
        if self.committed.events > 0 || !large() {
            return;
        }
        if let Err(failure) = self.shared.store.open() {
            self.fail(&failure, Pending::default(), Vec::new());
            let (forgotten, next) = (Vec::new(), Instant::now());
            self.failed = Some(Failed { unwritten: None, forgotten, next });
        }
    }

    /// Refuses everything until the database works again.
    fn fail(&mut self, failure: &Failure, pending: Pending, claimed: Vec<Waiting>) {
        let text = format!("{}: {failure}", self.shared.store.file.display());
        let mut state = self.shared.state();
        let known = state.trouble.replace(text.clone()).is_some();
        state.restore(pending);
        state.refuse(claimed, &AppendError::Failed(text));
        drop(state);
        self.shared.room.notify_one();
        self.shared.news.notify_one();
        if !known {
            let file = self.shared.store.file.display();
            tracing::error!(
                %file,
                error = %failure,
                "The buffer cannot be written; new events are refused.",
            );
        }
    }

    /// Opens the database again, and proves by a commit that it can be written.
    fn recover(&mut self) {
        let Some(failed) = &mut self.failed else { return };
        failed.next = Instant::now() + self.try_again;
        let opened = self.shared.store.open();
        let (unwritten, mut forgotten) = (failed.unwritten, failed.forgotten.clone());
        let (pending, settled): (Pending, Bitmaps) = self.shared.state().take_pending();
        forgotten.extend(&pending.forgotten);
        let change = Change { unwritten, forgotten, settled, ..Change::default() };
        let mut meta = self.committed.clone();
        meta.commit += 1;
        meta.apply(&pending.delta);
        let written = opened.and_then(|found| {
            if found.commit != self.committed.commit && found.commit != meta.commit {
                return Err(Failure::Io(
                    "another buffer is in its place; restart to use that".to_owned(),
                ));
            }
            self.shared.store.commit(&change, &meta, &mut Vec::new())
        });
        let readable = written.is_ok();
        if readable {
            self.committed = meta;
            failed.unwritten = None;
            failed.forgotten.clear();
        }
        match written.and_then(|()| self.shared.store.reserve.ensure()) {
            Ok(()) => {
                self.failed = None;
                self.shared.state().trouble = None;
                self.shared.room.notify_one();
                self.shared.news.notify_one();
                let file = self.shared.store.file.display();
                tracing::info!(%file, "The buffer can be written again.");
            }
            Err(failure) if readable => self.fail(&failure, Pending::default(), Vec::new()),
            Err(failure) => {
                if matches!(failure, Failure::Full(_)) {
                    self.shared.store.reserve.release();
                }
                self.fail(&failure, pending, Vec::new());
                // What is stored is delivered meanwhile, if it can be read at all.
                if let Err(failure) = self.shared.store.open_view() {
                    tracing::debug!(error = %failure, "The buffer cannot be read, either.");
                }
            }
        }
    }
}

/// Encodes the events of a commit; `None` if they are too large for a row.
fn group(first: u64, claimed: &[Waiting]) -> Option<(Option<Bytes>, Vec<Weight>)> {
    if claimed.is_empty() {
        return Some((None, Vec::new()));
    }
    let events: Vec<_> = claimed.iter().flat_map(|waiting| &waiting.events).collect();
    let weights = events.iter().map(|event| Weight::of(event)).collect();
    let row = encode(first, events.iter().copied())?;
    Some((Some(row.into()), weights))
}
