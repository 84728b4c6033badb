//! Looking into a buffer that no process uses, without changing it.

use std::fs::File;
use std::io;
use std::path::Path;

use chrono::{DateTime, Utc};
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::backend::Boxed;
use super::meta::{FORMAT, Meta};
use super::row::Sources;
use super::store::{CACHE_BYTES, Failure, ROWS, Raw, guarded, has_bit, read_meta, row_from};
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
    /// When the first event that waits was received.
    pub oldest: Option<DateTime<Utc>>,
    /// When the last event of the last row was received.
    pub newest: Option<DateTime<Utc>>,
    /// Rows of which something waits.
    pub rows: u64,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// Sequence of the next event.
    pub next: Sequence,
    /// The ledger of all lives.
    pub ledger: LedgerSnapshot,
}

/// Looks into the buffer in the folder `dir`.
///
/// # Errors
///
/// A diagnostic when there is no buffer, when another process holds it, or when it is damaged.
pub fn inspect(dir: &Path) -> Result<Inspection, Diagnostic> {
    let file = dir.join(FILE);
    let (database, meta) = open(&file)?;
    let look = || {
        let read = database.begin_read()?;
        let rows = read.open_table(ROWS)?;
        let first = row_from(&read, 0)?.map(|raw| raw.check()).transpose()?;
        let last = match rows.last()? {
            Some((first, _)) => row_from(&read, first.value())?,
            None => None,
        };
        let last = last.map(|raw| raw.check()).transpose()?;
        let time = |ms: Option<i64>| ms.and_then(DateTime::from_timestamp_millis);
        Ok(Inspection {
            format: FORMAT,
            events: meta.events,
            operations: meta.operations,
            bytes: meta.bytes,
            oldest: time(first.and_then(|found| found.oldest())),
            newest: time(last.and_then(|last| last.weights.last().map(|w| w.received_ms))),
            rows: rows.len()?,
            file_bytes: std::fs::metadata(&file).map_err(redb::Error::Io)?.len(),
            next: Sequence(meta.next),
            ledger: meta.ledger(),
        })
    };
    guarded(look).map_err(|failure| diagnostic(&failure, &file))
}

/// Gives every event that waits to `each`, in order. Returns how many there were.
///
/// # Errors
///
/// As [`inspect`], and what `each` answers.
pub fn export(
    dir: &Path,
    mut each: impl FnMut(Sequence, Stored) -> io::Result<()>,
) -> Result<u64, Diagnostic> {
    let file = dir.join(FILE);
    let (database, _) = open(&file)?;
    let mut sources = Sources::default();
    let (mut from, mut exported) = (0, 0);
    let next = |from| guarded(|| row_from(&database.begin_read()?, from));
    let refused = |failure: &Failure| diagnostic(failure, &file);
    while let Some(raw) = next(from).map_err(|failure| refused(&failure))? {
        let Raw { first, .. } = raw;
        let row = raw
            .check()
            .map_err(|damage| refused(&Failure::Corrupt(format!("row {first}: {damage}"))))?;
        for i in (0..row.row.count()).filter(|i| !has_bit(&row.settled, *i)) {
            let event = row
                .row
                .event(i, &mut sources)
                .map_err(|damage| refused(&Failure::Corrupt(format!("row {first}: {damage}"))))?;
            each(Sequence(first + i as u64), event).map_err(|error| {
                Diagnostic::error("export", format!("the events cannot be written: {error}"))
            })?;
            exported += 1;
        }
        from = first + row.row.count() as u64;
    }
    Ok(exported)
}

fn open(path: &Path) -> Result<(Database, Meta), Diagnostic> {
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
        Ok((database, meta))
    };
    guarded(open).map_err(|failure| diagnostic(&failure, path))
}
