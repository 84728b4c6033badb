//! Looking into a buffer that no process uses, without changing it.

use std::fs::File;
use std::io;
use std::path::Path;

use chrono::{DateTime, Utc};
use redb::backends::FileBackend;
use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
};

use super::backend::Boxed;
use super::bitmap::has_bit;
use super::failure::{Failure, guarded};
use super::meta::{FORMAT, Meta};
use super::row::Sources;
use super::salvage::DamagedRow;
use super::store::CACHE_BYTES;
use super::tables::{Found, ROWS, read_meta, row_from};
use super::view::View;
use super::{FILE, diagnostic, place};
use crate::buffer::{Sequence, Stored};
use crate::diagnostic::Diagnostic;
use crate::outcome::LedgerSnapshot;

/// What a buffer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// Format of the buffer.
    pub format: u32,
    /// Events that wait.
    pub events: u64,
    /// Their operations.
    pub operations: u64,
    /// Their [`Stored::bytes`].
    pub bytes: u64,
    /// When the first event that waits was received; `None` also if its row is damaged.
    pub oldest: Option<DateTime<Utc>>,
    /// When the last event of the last row was received; `None` also if that is damaged.
    pub newest: Option<DateTime<Utc>>,
    /// Rows of which something waits.
    pub rows: u64,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// Sequence of the next event.
    pub next: Sequence,
    /// The ledger of all lives.
    pub ledger: LedgerSnapshot,
    /// Rows that cannot be read, of those that were looked at.
    pub damaged: Vec<DamagedRow>,
    /// Whether every row was looked at, and not the first and the last alone.
    pub verified: bool,
}

/// What an export gave.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// Events that were given.
    pub events: u64,
    /// Rows that were passed over since they cannot be read.
    pub damaged: Vec<DamagedRow>,
}

/// Looks into the buffer in the folder `dir`, and no further than at its first and last row.
///
/// # Errors
///
/// A diagnostic when there is no buffer, when another process holds it, or when the database as a
/// whole is damaged.
pub fn inspect(dir: &Path) -> Result<Inspection, Diagnostic> {
    look(dir, false)
}

/// As [`inspect`], and reads every row.
///
/// # Errors
///
/// As [`inspect`].
pub fn verify(dir: &Path) -> Result<Inspection, Diagnostic> {
    look(dir, true)
}

fn look(dir: &Path, every_row: bool) -> Result<Inspection, Diagnostic> {
    let file = dir.join(FILE);
    let looking = |rows: &Rows| {
        let meta = &rows.meta;
        let read = rows.database.begin_read()?;
        let mut damaged = Vec::new();
        let mut check = |from| rows.check(&read, from, &mut damaged);
        let first = check(0)?.and_then(|(found, _)| found);
        let last_row = read.open_table(ROWS)?.last()?.map(|(first, _)| first.value());
        let mut last = None;
        if every_row {
            let mut from = 0;
            while let Some((found, behind)) = check(from)? {
                (last, from) = (found, behind);
            }
        } else if let Some(last_row) = last_row {
            last = check(last_row)?.and_then(|(found, _)| found);
        }
        // The first and the last row may be one, or were looked at twice.
        damaged.dedup_by_key(|row: &mut DamagedRow| row.first);
        let time = |ms: Option<i64>| ms.and_then(DateTime::from_timestamp_millis);
        Ok(Inspection {
            format: FORMAT,
            events: meta.events,
            operations: meta.operations,
            bytes: meta.bytes,
            oldest: time(first.and_then(|found| found.oldest())),
            newest: time(last.and_then(|last| last.weights.last().map(|w| w.received_ms))),
            rows: read.open_table(ROWS)?.len()?,
            file_bytes: std::fs::metadata(&file).map_err(redb::Error::Io)?.len(),
            next: Sequence(meta.next),
            ledger: meta.ledger(),
            damaged,
            verified: every_row,
        })
    };
    let rows = open(&file)?;
    let looked = guarded(|| looking(&rows));
    rows.close();
    looked.map_err(|failure| diagnostic(&failure, &file))
}

/// Gives every event that waits to `each`, in order, and passes over rows that cannot be read.
///
/// # Errors
///
/// As [`inspect`], and what `each` answers.
pub fn export(
    dir: &Path,
    mut each: impl FnMut(Sequence, Stored) -> io::Result<()>,
) -> Result<Exported, Diagnostic> {
    let file = dir.join(FILE);
    let rows = open(&file)?;
    let mut sources = Sources::default();
    let (mut from, mut exported) = (0, Exported { events: 0, damaged: Vec::new() });
    let ended = loop {
        let damaged = &mut exported.damaged;
        let next = guarded(|| rows.check(&rows.database.begin_read()?, from, damaged));
        let found = match next {
            Ok(Some((found, behind))) => {
                from = behind;
                found
            }
            Ok(None) => break Ok(()),
            Err(failure) => break Err(diagnostic(&failure, &file)),
        };
        let given = found.map_or(Ok(()), |found| {
            for i in (0..found.row.count()).filter(|i| !has_bit(&found.settled, *i)) {
                let sequence = Sequence(found.row.first() + i as u64);
                let event = found.row.event(i, &mut sources).map_err(|damage| {
                    let why = format!("event {}: {damage}", sequence.0);
                    diagnostic(&Failure::Corrupt(why), &file)
                })?;
                each(sequence, event).map_err(|error| {
                    Diagnostic::error("export", format!("the events cannot be written: {error}"))
                })?;
                exported.events += 1;
            }
            Ok(())
        });
        if let Err(fault) = given {
            break Err(fault);
        }
    };
    rows.close();
    ended.map(|()| exported)
}

/// The rows of a buffer that nobody changes.
struct Rows {
    database: Database,
    meta: Meta,
}

impl Rows {
    /// Reads the first row at or behind `from`, and tells where the next one may begin. A damaged
    /// one is `None`, and noted.
    fn check(
        &self,
        read: &ReadTransaction,
        from: u64,
        damaged: &mut Vec<DamagedRow>,
    ) -> Result<Option<(Option<Found>, u64)>, Failure> {
        let Some(raw) = row_from(read, from)? else { return Ok(None) };
        match raw.check() {
            Ok(found) => {
                let behind = raw.first + found.row.count() as u64;
                Ok(Some((Some(found), behind)))
            }
            Err(damage) => {
                damaged.push(DamagedRow::of(&raw, damage, read, self.meta.next)?);
                Ok(Some((None, raw.first.saturating_add(1))))
            }
        }
    }

    /// Closes a database, which a damaged one may answer with a panic.
    fn close(self) {
        guarded(|| {
            drop(self.database);
            Ok(())
        })
        .ok();
    }
}

fn open(path: &Path) -> Result<Rows, Diagnostic> {
    let file = File::open(path).map_err(|error| {
        Diagnostic::error("buffer", format!("there is no buffer to read: {error}"))
            .at(place(path))
            .help("check `data_dir`; the file is made by the first `run` with `buffer.type: disk`")
    })?;
    let open = || {
        let backend = FileBackend::new(file)?;
        let view = View::new(Box::new(backend)).map_err(redb::Error::Io)?;
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        let database = builder.create_with_backend(Boxed(Box::new(view)))?;
        let meta = read_meta(&database.begin_read()?)?
            .ok_or_else(|| Failure::Corrupt("it is empty".to_owned()))?;
        Ok(Rows { database, meta })
    };
    guarded(open).map_err(|failure| diagnostic(&failure, path))
}
