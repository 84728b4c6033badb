//! Dead letters: failed and rejected events in plain text files (skeleton).

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};

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
    /// How often it was sent.
    pub attempts: u32,
    /// Whether Customer.io may have applied it all the same.
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

/// Writer of dead-letter files.
#[derive(Debug)]
pub struct DeadLetters {}

impl DeadLetters {
    /// Opens the folder (created with mode 0700), relative to `data_dir`.
    ///
    /// # Errors
    ///
    /// I/O errors of creating or listing the folder.
    pub fn open(data_dir: &Path, config: &DeadLettersConfig) -> std::io::Result<Self> {
        let _ = (data_dir, config);
        todo!()
    }

    /// Writes letters and returns when they are durable.
    ///
    /// # Errors
    ///
    /// I/O errors, or the bound is reached with `when_full: hold`; then nothing is settled.
    pub async fn write(&self, letters: Vec<DeadLetter>) -> std::io::Result<()> {
        let _ = letters;
        todo!()
    }
}
