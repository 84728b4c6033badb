//! The end of a sink: what is inside is stored and delivered as far as patience goes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::FusedFuture;
use tokio::task::AbortHandle;

use super::CustomerIoSink;
use crate::outcome::LedgerSnapshot;

/// How long a drain waits for the buffer to write what ended last. A disk that works needs a
/// moment; one that hangs must not keep the process from leaving.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// How a drain ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Drained {
    /// Whether everything that had been accepted was mapped and stored. False also when the time
    /// was over before that was known.
    pub stored: bool,
    /// Events that are still in the buffer.
    pub undelivered: u64,
    /// Whether these survive the end of the process.
    pub durable: bool,
    /// What is wrong with the buffer, if so and the next start will not deliver them by itself.
    pub trouble: Option<String>,
    /// The final account.
    pub ledger: LedgerSnapshot,
}

impl Drained {
    /// Tells whether nothing was lost with the process. Events that were never acknowledged are
    /// their senders' and no loss.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.undelivered == 0 || self.durable
    }
}

impl CustomerIoSink {
    /// Closes the intake, maps and stores what is inside, and delivers until everything is
    /// delivered or `timeout` is over. What is left then stays in the buffer.
    ///
    /// Receipts of what is left are refused with [`Refused::Closed`](super::Refused::Closed).
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the sink is as if it were dropped: closed, and still at work.
    pub async fn drain(self, timeout: Duration) -> Drained {
        self.drain_until(tokio::time::sleep(timeout)).await
    }

    /// As [`CustomerIoSink::drain`], with any event as the end of patience, such as a second
    /// signal.
    pub async fn drain_until(self, enough: impl Future<Output = ()>) -> Drained {
        self.drain_and_flush(enough, FLUSH_PATIENCE).await
    }

    pub(super) async fn drain_and_flush(
        mut self,
        enough: impl Future<Output = ()>,
        flush_patience: Duration,
    ) -> Drained {
        let shared = Arc::clone(&self.handle.shared);
        shared.intake.close();
        let mut stored = false;
        let mut appender = (&mut self.appender).fuse();
        let mut delivery = (&mut self.delivery).fuse();
        let all = async {
            stored = note_panic((&mut appender).await);
            note_panic((&mut delivery).await);
        };
        tokio::select! {
            // An end that is there already counts before an end of patience.
            biased;
            () = all => {}
            () = enough => {}
        }
        shared.stages.iter().for_each(AbortHandle::abort);
        // A stage may be in the midst of its work; what it does until it stops is to be seen below.
        if !appender.is_terminated() {
            stored = note_panic(appender.await);
        }
        if !delivery.is_terminated() {
            note_panic(delivery.await);
        }
        shared.account.abandon();
        // What was delivered is not to be sent again after the next start.
        if tokio::time::timeout(flush_patience, shared.buffer.flush()).await.is_err() {
            tracing::warn!(
                "The buffer could not write in time what ended last; these events are sent again, \
                 with the same ids, after the next start.",
            );
            // Its drop would wait for the same write.
            std::mem::forget(Arc::clone(&shared.buffer));
        }
        shared.notice.tell();
        let (stats, durable) = (shared.buffer.stats(), shared.buffer.durable());
        // A ledger of all lives is kept where events should survive.
        let kept = durable || shared.buffer.all_lives().is_none();
        let trouble = stats.unavailable.filter(|_| stats.damaged || !kept);
        Drained {
            stored,
            undelivered: stats.events,
            durable,
            trouble,
            ledger: shared.ledger.snapshot(),
        }
    }
}

/// Tells whether a stage ended by itself; a panic is logged.
fn note_panic(end: Result<(), tokio::task::JoinError>) -> bool {
    if end.as_ref().is_err_and(tokio::task::JoinError::is_panic) {
        crate::telemetry::error("panic", "sink");
        tracing::error!("A stage of the sink panicked; what it had not finished is not settled.");
    }
    end.is_ok()
}
