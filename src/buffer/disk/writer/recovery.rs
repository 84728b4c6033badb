//! Coming back after a failure: opening the database again, and making room on a full disk.

use std::time::Instant;

use super::{CAUTION, Writer};
use crate::buffer::disk::failure::Failure;
use crate::buffer::disk::rewrite::Which;
use crate::buffer::disk::state::{Bitmaps, Pending, Waiting};
use crate::buffer::disk::store::Change;
use crate::buffer::{AppendError, LetterId};

/// Bytes of events that one commit on a full disk writes again. The room for it is what the
/// reserve gave up.
const RESCUE_BYTES: u64 = 512 * 1024;

/// Bytes of what is stored up to which the file of a full disk is made smaller by moving it.
const COMPACT_BYTES: u64 = 64 * 1024 * 1024;

/// A failure that is not over.
#[derive(Debug)]
pub(super) struct Failed {
    /// The row that may be there although its commit failed.
    pub(super) unwritten: Option<u64>,
    /// The letters that were new in it.
    pub(super) forgotten: Vec<LetterId>,
    /// When to try next.
    pub(super) next: Instant,
    /// The database can be written; what is missing is the reserve.
    pub(super) writable: bool,
    /// There was no room on the disk.
    pub(super) full: bool,
}

impl Failed {
    /// The file has to be opened again; nothing was being written.
    pub(super) fn unread() -> Self {
        let (forgotten, next) = (Vec::new(), Instant::now());
        Self { unwritten: None, forgotten, next, writable: false, full: false }
    }
}

impl Writer {
    /// Refuses everything until the database works again.
    pub(super) fn fail(&mut self, failure: &Failure, pending: Pending, claimed: Vec<Waiting>) {
        let text = format!("{}: {failure}", self.shared.store.file.display());
        let mut state = self.shared.state();
        let known = state.trouble.replace(text.clone()).is_some();
        state.restore(pending);
        state.refuse_all(claimed, &AppendError::Failed(text));
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
    pub(in crate::buffer::disk) fn recover(&mut self) {
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
            self.shared.store.commit(&change, &meta, |_| ())
        });
        failed.writable = written.is_ok();
        let writable = failed.writable;
        if writable {
            self.shared.state().letters.show(&change.forgotten);
            self.committed = meta;
            failed.unwritten = None;
            failed.forgotten.clear();
        }
        let full = failed.full;
        let ready = written.and_then(|()| {
            if full {
                self.rescue()?;
            }
            match self.shared.store.reserve.ensure() {
                Err(Failure::Full(_)) if self.may_compact() => {
                    // redb cuts free pages off at the end alone.
                    let compacted = self.shared.store.compact();
                    if compacted.is_err() {
                        self.open_again();
                    }
                    compacted.and_then(|()| self.shared.store.reserve.ensure())
                }
                ready => ready,
            }
        });
        match ready {
            Ok(()) => {
                self.failed = None;
                self.compacted = None;
                self.shared.state().trouble = None;
                self.shared.room.notify_one();
                self.shared.news.notify_one();
                let file = self.shared.store.file.display();
                tracing::info!(%file, "The buffer can be written again.");
            }
            Err(failure) if writable => {
                self.note_full(&failure);
                self.fail(&failure, Pending::default(), Vec::new());
                if self.failed.as_ref().is_some_and(|failed| !failed.writable) {
                    self.read_on();
                }
            }
            Err(failure) => {
                self.note_full(&failure);
                if matches!(failure, Failure::Full(_)) {
                    self.shared.store.reserve.release();
                }
                self.fail(&failure, pending, Vec::new());
                self.read_on();
            }
        }
    }

    /// Lets what is stored be delivered until the next try, if it can be read at all.
    fn read_on(&self) {
        if let Err(failure) = self.shared.store.open_view() {
            tracing::debug!(error = %failure, "The buffer cannot be read, either.");
        }
    }

    /// Tells whether little enough is stored. What did not help is not done again at once, unless
    /// less is stored by now: readers wait for it.
    fn may_compact(&mut self) -> bool {
        let waste = self.shared.state().waste;
        let (stored, now) = (self.committed.bytes.saturating_add(waste), Instant::now());
        let known = self.compacted.is_some_and(|(least, until)| stored >= least && now < until);
        let may = stored <= COMPACT_BYTES && !known;
        if may {
            self.compacted = Some((stored, now + self.try_again * CAUTION));
        }
        may
    }

    /// Lets the next try begin with opening: after an error redb takes no more commits.
    fn open_again(&mut self) {
        if let Some(failed) = &mut self.failed {
            failed.writable = false;
        }
    }

    fn note_full(&mut self, failure: &Failure) {
        if let Some(failed) = &mut self.failed {
            failed.full |= matches!(failure, Failure::Full(_));
        }
    }

    /// Writes every sparse row again while the disk is full: otherwise events that cannot be
    /// delivered for days would keep the room of their delivered neighbours, and with it the
    /// reserve.
    pub(in crate::buffer::disk) fn rescue(&mut self) -> Result<(), Failure> {
        while self.may_rewrite() {
            let mut state = self.shared.state();
            if state.dropped {
                // There may be gigabytes, and whoever drops the buffer waits.
                break;
            }
            let rewrites = state.take_rewrites(Which::All, RESCUE_BYTES);
            if rewrites.is_empty() {
                break;
            }
            // What these rows lose has to leave the totals in the same commit.
            let (pending, settled) = state.take_pending();
            drop(state);
            let (rewrites, rewritten) = self.thin(rewrites);
            let mut meta = self.committed.clone();
            meta.commit += 1;
            meta.apply(&pending.delta);
            let forgotten = pending.forgotten.clone();
            let change = Change { rewritten, settled, forgotten, ..Change::default() };
            let written = self.shared.store.commit(&change, &meta, |_| ());
            let mut state = self.shared.state();
            state.rewrote(&rewrites, written.is_ok());
            if written.is_err() {
                state.restore(pending);
                drop(state);
                self.be_cautious();
                self.open_again();
                return written;
            }
            state.letters.show(&change.forgotten);
            drop(state);
            self.committed = meta;
        }
        Ok(())
    }
}
