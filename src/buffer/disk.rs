//! The buffer on disk: a redb database of one row per group commit.
//!
//! ```text
//! dir/events.redb   rows      first sequence → the events of one commit (see `row`)
//!                   settled   first sequence → bitmap of what does not wait of that row
//!                   replayed  ids of dead letters that were replayed
//!                   meta      format; totals and the ledger of all lives, as JSON (see `meta`)
//! dir/*.new         a database that is being made (see `create`)
//! dir/reserve       room for emptying a full disk (see `reserve`)
//! dir/*.damaged-*   what was set aside (see `damage`, `salvage`)
//! ```
//!
//! - **Append.** One thread (`writer`) owns the database. It takes the appends that wait, writes
//!   them as one row with the new totals, commits durably, and answers all. An event is readable
//!   once its append was answered; an append that is given up earlier is hidden at once and removed
//!   by the next commit.
//! - **Settle.** Settlements change memory at once (`state`) and the disk with the next append, or
//!   after 75 ms, or on flush. A row whose events are all settled is removed in that commit; one of
//!   which little waits is written again without the rest (`rewrite`). So the ledger's law holds in
//!   every commit.
//! - **Read.** One row at a time (`reader`), each event decoded when it is handed out. Of what was
//!   read and not settled, 24 bytes per event are kept (up to four times that while a row is being
//!   settled); of what was not read, nothing. Nothing is counted or scanned at start.
//! - **Letters.** A replayed letter is remembered in the commit that stores its events, until its
//!   mark is durable elsewhere. It does not count while its append can still be taken back
//!   (`letters`).
//! - **Crash.** A commit is there or not. What was settled in the last 100 ms is read again.
//!   redb saves its allocator with every commit (quick repair): opening after a kill takes
//!   milliseconds for any size instead of 0.17 s per GiB, and commits did not become measurably
//!   slower. The two phases that come with it also mean that a failed fsync leaves the old state.
//! - **Failure.** A failed commit refuses its appends, and all others until a commit succeeds: the
//!   database is opened again each second and proven by a commit, which also removes the row whose
//!   fate was unknown. Meanwhile settlements wait in memory, and reading goes on over a `view`.
//!   After a full disk, events are taken again once the reserve could be written again.
//! - **Size.** Pages of removed rows are used again; the file is cut when the buffer is empty.
//!   redb gives each row a power of two of pages, so the file can reach up to twice the bytes of
//!   the rows in it at the worst, and about 1.4 times on average. The rows take up to an eighth of
//!   `max_size` more than what waits, or twice what waits at the worst: when every second event of
//!   each row waits. So the file stays below four times `max_size`, and is about 1.6 times as large
//!   when rows are settled as a whole.
//! - **Removal.** A file that was removed takes writes that nobody finds: its name is looked at with
//!   every sync, and it is written again (`presence`).
//! - **Damage.** A damaged row has events without operations when it is set aside
//!   (`on_corruption: set_aside`); else reading stops before it.

mod append;
mod backend;
mod bitmap;
mod create;
mod damage;
mod failure;
mod fetch;
mod held;
#[cfg(feature = "cli")]
mod inspect;
mod letters;
mod meta;
mod presence;
mod reader;
mod reserve;
mod rewrite;
mod row;
#[cfg(feature = "cli")]
mod salvage;
mod shared;
mod state;
mod store;
mod tables;
mod view;
mod writer;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use self::append::Line;
use self::failure::Failure;
use self::meta::FORMAT;
use self::presence::Presence;
use self::reader::{Portion, Reader};
use self::reserve::Reserve;
use self::shared::Shared;
use self::state::State;
use self::store::Store;
use self::writer::Writer;
#[cfg(feature = "pipeline")]
use super::LetterId;
use super::{AppendError, Buffer, BufferStats, Sequence, Stored};
use crate::config::{OnCorruption, WhenFull};
use crate::diagnostic::{Diagnostic, Place};
use crate::outcome::{LedgerSnapshot, Outcome, Tally};

#[cfg(feature = "cli")]
pub use self::backend::BackendFactory;
#[cfg(feature = "cli")]
pub use self::inspect::{Inspection, export, inspect, verify};
#[cfg(feature = "cli")]
pub use self::salvage::{DamagedRow, salvage};

/// Name of the database within the folder.
const FILE: &str = "events.redb";

/// Name of the file that keeps room for emptying a full disk.
const RESERVE: &str = "reserve";

/// How a [`DiskBuffer`] is opened.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// Folder of the buffer, created with mode 0700 if it is missing.
    pub dir: PathBuf,
    /// Bound of the sum of [`super::Stored::bytes`] of all events that wait, in bytes.
    pub max_size: u64,
    /// What happens at the bound.
    pub when_full: WhenFull,
    /// What happens to a database or row that cannot be read.
    pub on_corruption: OnCorruption,
}

/// A [`super::Buffer`] whose events survive the end of the process.
///
/// Its futures need a tokio runtime. Dropping it waits for a last commit.
#[derive(Debug)]
pub struct DiskBuffer {
    shared: Arc<Shared>,
    line: Line,
    reader: Reader,
    writer: Option<JoinHandle<()>>,
}

impl DiskBuffer {
    /// Opens the buffer, or creates it.
    ///
    /// # Errors
    ///
    /// Diagnostics with the file and the remedy.
    pub fn open(options: DiskOptions) -> Result<Self, Vec<Diagnostic>> {
        let file = options.dir.join(FILE);
        DirBuilder::new().recursive(true).mode(0o700).create(&options.dir).map_err(|error| {
            let message = format!("the folder of the buffer cannot be created: {error}");
            vec![Diagnostic::error("buffer", message).at(place(&options.dir))]
        })?;
        create::create(&file).map_err(|failure| vec![diagnostic(&failure, &file)])?;
        let reserve = Reserve::new(Some(options.dir.join(RESERVE)));
        let presence = Arc::new(Presence::new(&file));
        let mut store = Store::new(file, backend::file(&presence), reserve);
        store.presence = Some(presence);
        Self::open_store(&options, store)
    }

    /// Opens a buffer over another storage than a file; for tests of its failures.
    #[doc(hidden)]
    #[cfg(feature = "cli")]
    pub fn open_with(
        options: DiskOptions,
        factory: BackendFactory,
    ) -> Result<Self, Vec<Diagnostic>> {
        let store = Store::new(options.dir.join(FILE), factory, Reserve::new(None));
        Self::open_store(&options, store)
    }

    fn open_store(options: &DiskOptions, store: Store) -> Result<Self, Vec<Diagnostic>> {
        let mut refusing = None;
        let meta = match store.open() {
            Err(Failure::Corrupt(why)) if options.on_corruption == OnCorruption::SetAside => {
                store.close();
                damage::set_aside(&store.file, &why).map_err(|error| {
                    let failure = Failure::Io(format!("it cannot be set aside: {error}"));
                    vec![diagnostic(&failure, &store.file)]
                })?;
                if let Some(presence) = &store.presence {
                    presence.forget();
                    let created = create::create(&store.file);
                    created.map_err(|failure| vec![diagnostic(&failure, &store.file)])?;
                }
                store.open()
            }
            Err(Failure::Full(_)) => {
                store.reserve.release();
                store.open().or_else(|failure| {
                    // What is stored is delivered, which makes room; nothing is taken meanwhile.
                    let meta = store.open_view()?;
                    refusing = Some(failure);
                    Ok(meta)
                })
            }
            opened => opened,
        };
        let meta = meta.map_err(|failure| vec![diagnostic(&failure, &store.file)])?;
        let mut state = State::new(options.max_size, options.when_full, meta.clone());
        if let Ok(Some(raw)) = store.row_from(0) {
            let oldest = raw.check().map_or_else(|_| damage::oldest(&raw), |found| found.oldest());
            state.starts_with(oldest);
        }
        let shared = Arc::new(Shared::new(store, state, options.on_corruption));
        let mut writer = Writer::new(Arc::clone(&shared), meta);
        if let Some(failure) = refusing {
            writer.begin_refusing(&failure, false);
        } else if let Err(failure) = shared.store.reserve.ensure() {
            writer.begin_refusing(&failure, true);
        }
        let writer = std::thread::Builder::new()
            .name("buffer-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| {
                let message = format!("the thread of the buffer cannot be started: {error}");
                vec![Diagnostic::error("buffer", message)]
            })?;
        let line = Line::new(Arc::clone(&shared));
        let reader = Reader::new(Arc::clone(&shared));
        Ok(Self { shared, line, reader, writer: Some(writer) })
    }
}

fn place(path: &Path) -> Place {
    Place { file: path.display().to_string(), ..Place::default() }
}

/// Tells the operator why a buffer cannot be opened, and what to do.
fn diagnostic(failure: &Failure, file: &Path) -> Diagnostic {
    let (message, help) = match failure {
        Failure::Locked => (
            "another process uses this buffer".to_owned(),
            "stop the other process, or give each a `data_dir` of its own",
        ),
        Failure::Newer(format) => (
            format!("this buffer has format {format}, and this version reads up to {FORMAT}"),
            "start the version that wrote it, or move the file away to start empty",
        ),
        Failure::Corrupt(why) => (format!("this buffer is damaged: {why}"), damage::REMEDY),
        Failure::Full(why) => {
            (format!("the buffer cannot be opened: {why}"), "make room on the disk")
        }
        Failure::Io(why) => (
            format!("the buffer cannot be opened: {why}"),
            "check the disk, and that the file and its folder may be read and written",
        ),
    };
    Diagnostic::error("buffer", message).at(place(file)).help(help)
}

impl Buffer for DiskBuffer {
    fn append(&self, events: Vec<Stored>) -> BoxFuture<'_, Result<Sequence, AppendError>> {
        Box::pin(self.line.append(events, Tally::default()))
    }

    fn append_with(
        &self,
        events: Vec<Stored>,
        ended: Tally,
    ) -> BoxFuture<'_, Result<Sequence, AppendError>> {
        Box::pin(self.line.append(events, ended))
    }

    fn read(&self, events: usize, bytes: u64) -> BoxFuture<'_, Portion> {
        Box::pin(self.reader.read(events, bytes))
    }

    fn fetch(&self, events: Vec<Sequence>) -> BoxFuture<'_, Result<Vec<Arc<Stored>>, String>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            tokio::task::spawn_blocking(move || fetch::fetch(&shared, &events))
                .await
                .unwrap_or_else(|_| Err("the buffer could not be read".to_owned()))
        })
    }

    fn settle(&self, events: &[(Sequence, Outcome)]) {
        let unread = {
            let state = self.shared.state();
            events.iter().map(|(sequence, _)| sequence.0).find(|n| state.is_unread(*n))
        };
        if let Some(sequence) = unread {
            fetch::load_unread(&self.shared, events, sequence);
        }
        self.shared.state().settle(events);
        self.shared.work.notify_one();
        self.shared.room.notify_one();
    }

    fn record(&self, ended: &Tally) {
        self.shared.state().record(ended);
        self.shared.work.notify_one();
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.shared.state();
            if !state.ended {
                state.flushers.push(sender);
            }
        }
        self.shared.work.notify_one();
        Box::pin(async move {
            // A writer that has ended has written everything that it ever will.
            drop(receiver.await);
        })
    }

    fn all_lives(&self) -> Option<LedgerSnapshot> {
        Some(self.shared.state().live().ledger())
    }

    #[cfg(feature = "pipeline")]
    fn replayed(&self, letters: Vec<LetterId>) -> BoxFuture<'_, Result<Vec<bool>, String>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            tokio::task::spawn_blocking(move || shared.replayed(&letters))
                .await
                .map_err(|error| error.to_string())?
                .map_err(|failure| failure.to_string())
        })
    }

    #[cfg(feature = "pipeline")]
    fn forget_replayed(&self, letters: &[LetterId]) {
        self.shared.state().prune(letters);
        self.shared.work.notify_one();
    }

    fn close(&self) {
        self.shared.state().closed = true;
        self.shared.room.notify_one();
        self.shared.news.notify_one();
    }

    fn stats(&self) -> BufferStats {
        self.shared.state().stats()
    }

    fn durable(&self) -> bool {
        self.shared.store.check_presence().is_ok()
    }
}

impl Drop for DiskBuffer {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state();
            state.closed = true;
            state.dropped = true;
        }
        self.shared.work.notify_one();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("The writer of the buffer ended in a panic.");
        }
    }
}

#[cfg(test)]
mod tests;
