//! Whether dead letters can be written, as the appender last found.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::telemetry;

/// How long a failure keeps the process from being ready. A sender that sees it goes elsewhere,
/// and without new events nothing would ever show that the folder works again.
const REMEMBERED: Duration = Duration::from_secs(30);

/// The last failure, until a write succeeds.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    last: Mutex<Option<(Instant, String)>>,
}

impl Trouble {
    fn last(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failed(&self, error: &std::io::Error) {
        telemetry::error("dead_letters", "mapping");
        let before = self.last().replace((Instant::now(), error.to_string()));
        if before.is_none() {
            tracing::error!(
                %error,
                "Dead letters cannot be written; batches with failed events are refused.",
            );
        }
    }

    pub(super) fn worked(&self) {
        if self.last().take().is_some() {
            tracing::info!("Dead letters can be written again.");
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.last().is_some()
    }

    /// Returns the trouble for `/readyz`.
    pub(super) fn recent(&self) -> Option<String> {
        let last = self.last();
        let (_, error) = last.as_ref().filter(|(at, _)| at.elapsed() < REMEMBERED)?;
        Some(format!("dead letters cannot be written: {error}"))
    }
}
