//! Dead letters: failed and rejected events in plain text files, one JSON object a line.
//!
//! Files are named `<date>-<n>.ndjson` (UTC) and can be read by their owner alone. A life of the
//! process begins files of its own, so that a line which a crash tore off is the last of its file.
//! A letter is durable before its event is settled. [`marks`] says which were replayed. Files past
//! `dead_letters.max_age` go when [`DeadLetters::prune`] is called, replayed or not.

mod files;
mod folder;
mod line;
pub mod marks;
pub mod read;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::{JoinError, JoinHandle};

use super::Refusal;
use crate::config::DeadLettersConfig;
use crate::event::Original;
use crate::event::identity::IdInput;
use crate::operation::Operations;
use crate::outcome::Outcome;

/// One failed or rejected event.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// `Failed` or `Rejected`.
    pub outcome: Outcome,
    /// Customer.io's words, for a rejected event.
    pub refusal: Refusal,
    /// How often it was sent in this life of the process. A request that Customer.io asked to hold
    /// back (429, or 503 with `Retry-After`) does not count.
    pub attempts: u32,
    /// Whether Customer.io may have applied it all the same: an answer got lost, or the event was
    /// in a durable buffer when the process began, so that an earlier life may have sent it.
    pub unknown: bool,
    /// The source event.
    pub original: Original,
    /// Input of the event ids.
    pub id_input: IdInput,
    /// Its operations, if mapping gave any.
    pub operations: Operations,
    /// When it was received.
    pub received_at: DateTime<Utc>,
    /// Label of its source.
    pub source: Arc<str>,
}

/// Why letters were not written, or not all of them.
#[derive(Debug)]
pub struct Unwritten {
    /// So many of them, the first ones, are durable.
    pub written: usize,
    /// Why the next one is not.
    pub error: std::io::Error,
}

impl From<std::io::Error> for Unwritten {
    fn from(error: std::io::Error) -> Self {
        Self { written: 0, error }
    }
}

/// Writer of dead-letter files; at most one writes at a time.
#[derive(Debug)]
pub struct DeadLetters {
    files: Arc<Mutex<files::Files>>,
    /// Bounds of size and age that hold from the next write, apart from what a write locks.
    bounds: Mutex<(u64, Duration)>,
    /// The write for which its caller has not waited to the end.
    late: Mutex<Option<JoinHandle<Result<(), Unwritten>>>>,
}

impl DeadLetters {
    /// Opens the folder (created with mode 0700), relative to `data_dir`.
    ///
    /// # Errors
    ///
    /// I/O errors of creating or listing the folder.
    pub fn open(data_dir: &Path, config: &DeadLettersConfig) -> std::io::Result<Self> {
        let files = files::Files::open(data_dir.join(&config.dir), config)?;
        let bounds = Mutex::new((config.max_size, config.max_age));
        Ok(Self { files: Arc::new(Mutex::new(files)), bounds, late: Mutex::default() })
    }

    /// Takes over `max_size` and `max_age`, from the next write. Folder and `when_full` stay.
    #[cfg(feature = "pipeline")]
    pub fn retune(&self, config: &DeadLettersConfig) {
        *self.bounds.lock().unwrap_or_else(PoisonError::into_inner) =
            (config.max_size, config.max_age);
    }

    /// Writes letters and returns when they are durable.
    ///
    /// # Errors
    ///
    /// I/O errors, or the bound is reached with `when_full: hold`. The letters before that are
    /// durable; the others were not written.
    ///
    /// # Cancel safety
    ///
    /// Once begun, the write goes on even if the returned future is dropped; the letters may then
    /// be written a second time.
    pub async fn write(&self, letters: Vec<DeadLetter>) -> Result<(), Unwritten> {
        self.begin(letters).await.map_err(panicked)?
    }

    /// As [`DeadLetters::write`], but waits for `limit` at most. While a write for which nobody
    /// waits any more has not ended, further ones are refused at once: each would take a thread,
    /// and then wait behind it.
    ///
    /// # Errors
    ///
    /// As [`DeadLetters::write`], and [`TimedOut`](std::io::ErrorKind::TimedOut): then these letters
    /// may become durable all the same.
    pub async fn write_within(
        &self,
        letters: Vec<DeadLetter>,
        limit: Duration,
    ) -> Result<(), Unwritten> {
        let late = || self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let hangs = || {
            let text = "writing dead letters takes too long: check the disk of `dead_letters.dir`";
            std::io::Error::new(std::io::ErrorKind::TimedOut, text)
        };
        if late().as_ref().is_some_and(|write| !write.is_finished()) {
            return Err(hangs().into());
        }
        let mut write = self.begin(letters);
        if let Ok(written) = tokio::time::timeout(limit, &mut write).await {
            return written.map_err(panicked)?;
        }
        *late() = Some(write);
        Err(hangs().into())
    }

    fn begin(&self, letters: Vec<DeadLetter>) -> JoinHandle<Result<(), Unwritten>> {
        let files = Arc::clone(&self.files);
        let (max_size, max_age) = *self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        tokio::task::spawn_blocking(move || {
            let now = Utc::now();
            let (mut text, mut ends) = (Vec::new(), Vec::with_capacity(letters.len()));
            for letter in &letters {
                line::write(&mut text, letter, now);
                ends.push(text.len());
            }
            let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
            files.set_bounds(max_size, max_age);
            let mut durable = 0;
            while let Some(rest) = text.get(durable..).filter(|rest| !rest.is_empty()) {
                durable += files.append(rest, now).map_err(|error| {
                    let written = ends.iter().take_while(|end| **end <= durable).count();
                    Unwritten { written, error }
                })?;
            }
            Ok(())
        })
    }

    /// Removes what is past `dead_letters.max_age`. Letters that were not replayed are counted.
    pub async fn prune(&self) {
        let files = Arc::clone(&self.files);
        let (max_size, max_age) = *self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        let prune = move || {
            let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
            files.set_bounds(max_size, max_age);
            files.prune(Utc::now());
        };
        if tokio::task::spawn_blocking(prune).await.is_err() {
            tracing::error!("Removing old dead letters ended in a defect.");
        }
    }
}

/// The text of a panic may hold what is in a letter.
fn panicked(_: JoinError) -> std::io::Error {
    std::io::Error::other("writing dead letters ended in a defect")
}

#[cfg(test)]
pub(crate) mod tests;
