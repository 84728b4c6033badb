//! The door of the pipeline: bounded by bytes, answered by receipts.
//!
//! (skeleton)

use std::time::Duration;

use super::Batch;

/// Handle by which sources submit batches.
#[derive(Clone, Debug)]
pub struct Intake {}

/// Why a batch was not taken. Nothing of it was counted or stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The pipeline is shutting down.
    Closed,
    /// There is no room; try again after the duration.
    Full(Duration),
    /// The buffer cannot store (disk full, writer failed).
    Unavailable,
}

/// How many events of a batch ended in which way so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events of the batch.
    pub received: u64,
    /// Events that are stored and wait for delivery (0 once settled).
    pub buffered: u64,
    /// Events that failed in mapping or were malformed.
    pub failed: u64,
    /// Events that were rejected.
    pub rejected: u64,
}

/// The promise of an answer to one batch.
#[derive(Debug)]
pub struct Receipt {}

impl Intake {
    /// Takes permits for `bytes` of memory, waiting at most `wait`; then submits the batch.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why the batch was not taken.
    pub async fn submit(&self, batch: Batch, wait: Duration) -> Result<Receipt, Refused> {
        let _ = (batch, wait);
        todo!()
    }
}

impl Receipt {
    /// Waits until every event of the batch has ended or is safe in the buffer.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the buffer did not take the batch; then nothing of it was counted.
    pub async fn buffered(&mut self) -> Result<Summary, Refused> {
        todo!()
    }

    /// Waits until every event of the batch has ended.
    ///
    /// # Errors
    ///
    /// [`Refused`] as for [`Receipt::buffered`].
    pub async fn settled(self) -> Result<Summary, Refused> {
        todo!()
    }
}
