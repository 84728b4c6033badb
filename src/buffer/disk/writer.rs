//! The thread that owns the database: group commits, and coming back after failures.
//!
//! Memory is the authority while the process lives. A commit that failed may be on the disk all
//! the same; so whatever its result, its appends are refused, and the first commit that succeeds
//! afterwards removes its row. Settlements stay queued until they can be written.
//!
//! While nothing but the reserve cannot be written, no events are taken, and settlements are
//! committed as ever.

mod recovery;

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::recovery::Failed;
use super::failure::Failure;
use super::fetch;
use super::held::Held;
use super::meta::Meta;
use super::rewrite::{Rewrite, Which};
use super::row::{Row, Weight, encode};
use super::shared::Shared;
use super::state::{Pending, Waiting};
use super::store::{Change, Sparse};
use crate::buffer::{AppendError, LetterId};

/// Bytes of events that one commit takes, beyond its first append.
const GROUP_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of rows that one commit writes again, beyond its first.
const REWRITE_BYTES: u64 = 4 * 1024 * 1024;

/// Tries to open the database again during which no row is written again after a failure.
const CAUTION: u32 = 30;

/// How long settlements wait for an append to share its commit with. They are promised within
/// 100 ms, and a commit takes some of that.
const LINGER: Duration = Duration::from_millis(75);

/// Size above which the file of an empty buffer is cut.
const LARGE_BYTES: u64 = 64 * 1024 * 1024;

/// Pause before an idle writer looks whether its file is still there.
const WATCH: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1000 });

/// How often an empty file that is not cut is opened again. redb frees the pages of removed rows
/// some commits later, so that the first time may come too early.
const FUTILE: u32 = 3;

/// Pause before a failed database is opened again.
const TRY_AGAIN: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1000 });

/// The writer.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// The totals as the last good commit left them.
    committed: Meta,
    failed: Option<Failed>,
    /// Until when no row is written again: on a full disk that would fail again and again.
    cautious: Option<Instant>,
    /// Size of the file after the empty buffer was opened again, and how often that did not cut it.
    uncut: (u64, u32),
    /// What was stored when the file of a full disk was last made smaller in vain, and until when
    /// that is not tried again with as much.
    compacted: Option<(u64, Instant)>,
    pub(super) try_again: Duration,
}

/// Tells everybody that a writer has ended in a panic.
struct Watch(Arc<Shared>);

impl Drop for Watch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let text = "the writer of the buffer ended unexpectedly; restart to go on".to_owned();
        let mut state = self.0.state();
        state.ended = true;
        state.trouble = Some(text.clone());
        state.refuse_all(Vec::new(), &AppendError::Failed(text));
        // What it worked on was dropped with it, which answers the callers.
        state.flushers.clear();
        drop(state);
        self.0.room.notify_one();
        self.0.news.notify_one();
        tracing::error!("The writer of the buffer ended unexpectedly; new events are refused.");
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, committed: Meta) -> Self {
        Self {
            shared,
            committed,
            failed: None,
            cautious: None,
            uncut: (0, 0),
            compacted: None,
            try_again: TRY_AGAIN,
        }
    }

    /// Begins without taking events, since the disk has no room for the reserve, or, if not
    /// `writable`, for the database itself: then it is open for reading alone.
    pub(super) fn begin_refusing(&mut self, failure: &Failure, writable: bool) {
        self.fail(failure, Pending::default(), Vec::new());
        let next = Instant::now() + self.try_again;
        let full = matches!(failure, Failure::Full(_));
        let forgotten = Vec::new();
        self.failed = Some(Failed { unwritten: None, forgotten, next, writable, full });
    }

    /// Works until the buffer is dropped.
    pub(super) fn run(mut self) {
        let _watch = Watch(Arc::clone(&self.shared));
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
            let settle = state.pending.since.map(|since| since + LINGER);
            let due = match &self.failed {
                Some(failed) if failed.writable => {
                    Some(settle.map_or(failed.next, |settle| settle.min(failed.next)))
                }
                Some(failed) => Some(failed.next),
                None if !state.queue.is_empty() => return false,
                None => settle,
            };
            let Some(due) = due else {
                let waited = self.shared.work.wait_timeout(state, WATCH);
                let (woken, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                if waited.timed_out() {
                    return false;
                }
                state = woken;
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
        // Nothing comes after what is written now.
        let last = state.closed && (state.dropped || !flushers.is_empty());
        #[cfg(test)]
        assert!(!state.sabotaged, "sabotaged");
        drop(state);
        // Whoever flushes in the pause is answered without another try: opening costs reading, and
        // readers wait meanwhile.
        let now = Instant::now();
        if self.failed.as_ref().is_some_and(|failed| last || failed.next <= now) {
            self.recover();
        }
        if self.failed.as_ref().is_none_or(|failed| failed.writable) {
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
        let may = self.failed.is_none() && self.may_rewrite();
        let rewrites =
            if may { state.take_rewrites(Which::BeyondTheShare, REWRITE_BYTES) } else { vec![] };
        drop(state);
        if claimed.is_empty() && pending.is_empty() && rewrites.is_empty() {
            self.watch();
            return;
        }
        let first = self.committed.next;
        let Some((row, weights)) = group(first, &claimed) else {
            let error = AppendError::Failed("the batch is too large to be stored".to_owned());
            let mut state = self.shared.state();
            state.restore(pending);
            state.rewrote(&rewrites, false);
            state.refuse(claimed, &error);
            drop(state);
            self.shared.room.notify_one();
            self.shared.news.notify_one();
            return;
        };
        let (rewrites, rewritten) = self.thin(rewrites);
        let change = Change {
            row: row.clone().map(|row| (first, row)),
            letters: claimed.iter().flat_map(Waiting::letters).collect(),
            forgotten: pending.forgotten.clone(),
            settled,
            rewritten,
            unwritten: None,
        };
        let mut meta = self.committed.clone();
        meta.commit += 1;
        meta.next += weights.len() as u64;
        weights.iter().for_each(|weight| meta.store(*weight));
        claimed.iter().for_each(|waiting| meta.apply(&waiting.ended));
        meta.apply(&pending.delta);

        let mut fresh = Vec::new();
        let announce = |letters: &[LetterId]| {
            fresh = letters.to_vec();
            self.shared.state().letters.hide(letters);
        };
        match self.shared.store.commit(&change, &meta, announce) {
            Ok(()) => {
                self.committed = meta;
                let mut state = self.shared.state();
                state.rewrote(&rewrites, true);
                state.letters.show(change.forgotten.iter().filter(|id| !fresh.contains(id)));
                if let Some(row) = row {
                    let row = Row::fresh(row, first, weights.len());
                    state.stored(row, weights, claimed, &fresh);
                }
                self.shared.publish(state);
                self.shared.room.notify_one();
                self.shrink();
            }
            Err(failure) => {
                let full = matches!(failure, Failure::Full(_));
                if full {
                    self.shared.store.reserve.release();
                }
                if !rewrites.is_empty() {
                    self.be_cautious();
                    self.shared.state().rewrote(&rewrites, false);
                }
                let unwritten = row.map(|_| first);
                // Its sequences are lost with it: none is ever given to two events.
                self.committed.next = meta.next;
                self.fail(&failure, pending, claimed);
                let next = Instant::now();
                let failed = Failed { unwritten, forgotten: fresh, next, writable: false, full };
                self.failed = Some(failed);
                self.recover();
            }
        }
    }

    /// Notices without a commit that the file is not there any more.
    fn watch(&mut self) {
        if self.failed.is_some() {
            return;
        }
        if let Err(failure) = self.shared.store.check_presence() {
            self.fail(&failure, Pending::default(), Vec::new());
            self.failed = Some(Failed::unread());
            self.recover();
        }
    }

    fn may_rewrite(&self) -> bool {
        self.cautious.is_none_or(|until| until <= Instant::now())
    }

    fn be_cautious(&mut self) {
        self.cautious = Some(Instant::now() + self.try_again * CAUTION);
    }

    /// Makes rows without their settled events; leaves out those that cannot be read.
    fn thin(&mut self, rewrites: Vec<Rewrite>) -> (Vec<Rewrite>, Vec<Sparse>) {
        let (mut done, mut rows) = (Vec::new(), Vec::new());
        for rewrite in rewrites {
            let first = rewrite.first;
            let row = match self.shared.kept_row(first) {
                Some(row) => Ok(row),
                None => fetch::stored(&self.shared, first),
            };
            match row.and_then(|row| Ok(row.keep(&rewrite.offsets)?)) {
                Ok(row) => {
                    rows.push(Sparse { first, row, settled: rewrite.bitmap.clone() });
                    done.push(rewrite);
                }
                Err(failure @ Failure::Corrupt(_)) => {
                    let file = self.shared.store.file.display();
                    tracing::warn!(
                        %file,
                        row = first,
                        error = %failure,
                        "A row of the buffer cannot be made smaller; it keeps its room.",
                    );
                    self.shared.state().change_held(first, Held::unsound);
                }
                Err(failure) => {
                    tracing::debug!(
                        row = first,
                        error = %failure,
                        "A row of the buffer cannot be made smaller now.",
                    );
                    self.be_cautious();
                    self.shared.state().rewrote(&[rewrite], false);
                }
            }
        }
        (done, rows)
    }

    /// Gives the room of an empty buffer back: redb keeps the pages of removed rows for new ones,
    /// and cuts the file only when it is closed.
    fn shrink(&mut self) {
        let size = || {
            std::fs::metadata(&self.shared.store.file)
                .map_or(0, |file: std::fs::Metadata| file.len())
        };
        if self.committed.events > 0 {
            return;
        }
        let before = size();
        let (known, futile) = self.uncut;
        if before <= LARGE_BYTES || (before <= known && futile >= FUTILE) {
            return;
        }
        match self.shared.store.open() {
            Ok(_) => {
                let after = size();
                let futile = if after < before || before > known { 0 } else { futile };
                self.uncut = (after, futile + u32::from(after >= before));
            }
            Err(failure) => {
                self.fail(&failure, Pending::default(), Vec::new());
                self.failed = Some(Failed::unread());
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
