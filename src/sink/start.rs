//! The beginning of a sink: from its parts to running stages.

use std::sync::Arc;

use arc_swap::ArcSwap;
use chrono::Utc;

use super::account::Account;
use super::front::{Front, Width};
use super::handle::Shared;
use super::notice::Notice;
use super::threads::cores;
use super::{CustomerIoSink, Parts, SinkHandle};
use crate::delivery;
use crate::source::intake::{PATIENCE, RoomWait};

impl CustomerIoSink {
    /// Starts all stages on the current runtime.
    ///
    /// # Errors
    ///
    /// When the operating system refuses a thread.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(crate) fn start(parts: Parts) -> std::io::Result<Self> {
        let Parts { rules, buffer, destination, customerio, dead_letters, threads, .. } = parts;
        let threads = threads.unwrap_or_else(cores).max(1);
        let width = Width { threads, budget: parts.intake_bytes, patience: PATIENCE };
        let rules = Arc::new(ArcSwap::from_pointee(rules));
        let front = Front::start(width, &rules, &buffer, dead_letters.clone())?;
        let account = Arc::clone(&front.account);
        let data_dir = parts.data_dir;
        // Delivery ends last of all tasks, also of a sink that is only dropped. However it ends,
        // nothing settles any more.
        let held = (data_dir.clone(), AbandonAtEnd(Arc::clone(&account)));
        #[cfg(feature = "pipeline")]
        let letters = Arc::clone(&dead_letters);
        let (delivery, task) = delivery::start_paced(
            Arc::clone(&buffer),
            Arc::clone(&destination),
            &customerio,
            dead_letters,
            Arc::new(move |sequence, outcome| {
                let _held = &held;
                account.settle(sequence, outcome);
            }),
            parts.pace,
        );
        let shared = Shared {
            intake: front.intake,
            notice: Notice::start(Arc::clone(&front.ledger)),
            ledger: front.ledger,
            account: front.account,
            trouble: front.trouble,
            busy: front.busy,
            threads,
            rules,
            loaded_at: ArcSwap::from_pointee(Utc::now()),
            buffer,
            data_dir,
            #[cfg(feature = "pipeline")]
            destination,
            delivery,
            #[cfg(feature = "pipeline")]
            dead_letters: letters,
            stages: [front.appender.abort_handle(), task.abort_handle()],
        };
        let handle = SinkHandle { shared: Arc::new(shared), room: RoomWait::default() };
        Ok(Self { handle, appender: front.appender, delivery: task })
    }
}

/// Ends the wait of all receipts.
struct AbandonAtEnd(Arc<Account>);

impl Drop for AbandonAtEnd {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
