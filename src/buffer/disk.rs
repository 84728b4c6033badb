//! The buffer on disk.

use std::path::PathBuf;

use crate::config::{OnCorruption, WhenFull};
use crate::diagnostic::Diagnostic;

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
#[derive(Debug)]
pub struct DiskBuffer {}

impl DiskBuffer {
    /// Opens the buffer, or creates it.
    ///
    /// # Errors
    ///
    /// Diagnostics with the file and the remedy.
    pub fn open(options: DiskOptions) -> Result<Self, Vec<Diagnostic>> {
        let _ = options;
        Err(vec![Diagnostic::error("buffer", "the buffer on disk is not built yet")])
    }
}

/// What a look into a buffer shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Version of the format.
    pub format: u32,
    /// Events that wait.
    pub events: u64,
    /// Their operations.
    pub operations: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the oldest was received.
    pub oldest: Option<chrono::DateTime<chrono::Utc>>,
    /// When the newest was received.
    pub newest: Option<chrono::DateTime<chrono::Utc>>,
    /// Rows in the database.
    pub rows: u64,
    /// Bytes of the database file.
    pub file_size: u64,
    /// The account of all lives.
    pub ledger: crate::outcome::LedgerSnapshot,
    /// The next event's position.
    pub next: super::Sequence,
}

/// Looks into a buffer.
///
/// # Errors
///
/// A diagnostic.
pub fn inspect(dir: &std::path::Path) -> Result<Inspection, Diagnostic> {
    Err(Diagnostic::error("buffer", format!("{}: not built yet", dir.display())))
}

/// Gives every event that waits.
///
/// # Errors
///
/// A diagnostic.
pub fn export(
    dir: &std::path::Path,
    _each: impl FnMut(super::Sequence, super::Stored) -> std::io::Result<()>,
) -> Result<(), Diagnostic> {
    Err(Diagnostic::error("buffer", format!("{}: not built yet", dir.display())))
}
