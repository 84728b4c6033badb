//! What metrics and endpoints show of a sink.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::buffer::BufferStats;
use crate::delivery::DeliveryStatus;
use crate::outcome::LedgerSnapshot;

/// Everything that metrics, `/status`, and `/readyz` show of a sink.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SinkStats {
    /// The account of all events of this life of the process.
    pub ledger: LedgerSnapshot,
    /// The account of all lives of the buffer, if it keeps one.
    pub all_lives: Option<LedgerSnapshot>,
    /// Fill level of the buffer.
    pub buffer: BufferStats,
    /// State of the delivery.
    pub delivery: DeliveryStatus,
    /// Working time of all mapping threads together.
    pub mapping_worked: Duration,
    /// Number of mapping threads.
    pub mapping_threads: usize,
    /// Hash of the scripts in force.
    pub script_hash: Arc<str>,
    /// Since when they are in force.
    pub scripts_loaded_at: DateTime<Utc>,
    /// Why new events cannot be accepted; empty when they can.
    pub unavailable: Vec<String>,
}

impl Default for SinkStats {
    fn default() -> Self {
        Self {
            ledger: LedgerSnapshot::default(),
            all_lives: None,
            buffer: BufferStats::default(),
            delivery: DeliveryStatus::default(),
            mapping_worked: Duration::ZERO,
            mapping_threads: 1,
            script_hash: Arc::from(""),
            scripts_loaded_at: DateTime::UNIX_EPOCH,
            unavailable: Vec::new(),
        }
    }
}

/// Delivery that has nothing to send since the buffer cannot be read is held.
pub(super) fn with_damage(status: DeliveryStatus, damaged: bool) -> DeliveryStatus {
    if damaged && status.state == "sending" {
        return DeliveryStatus {
            state: "held",
            reason: Some("buffer_damaged".to_owned()),
            ..status
        };
    }
    status
}
