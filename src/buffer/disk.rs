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
