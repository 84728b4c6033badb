//! The half before the buffer: intake, mapping threads, appender.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::account::Account;
use super::append::{Appender, Letters};
use super::rules::Snapshot;
use super::trouble::Trouble;
use super::workers::{self, Busy};
use crate::buffer::Buffer;
use crate::outcome::Ledger;
use crate::source::Intake;

/// How many threads map, how many bytes may be inside, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Width {
    pub(super) threads: usize,
    pub(super) budget: usize,
    pub(super) patience: Duration,
}

/// The running half.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) intake: Intake,
    pub(super) ledger: Arc<Ledger>,
    pub(super) account: Arc<Account>,
    pub(super) trouble: Arc<Trouble>,
    pub(super) busy: Arc<Busy>,
    /// Ends, and closes the buffer, once the intake is closed and everything inside is stored.
    pub(super) appender: JoinHandle<()>,
}

impl Front {
    /// Starts the threads, and the appender on the current runtime.
    pub(super) fn start<S: Snapshot>(
        width: Width,
        rules: &Arc<ArcSwap<S>>,
        buffer: &Arc<dyn Buffer>,
        letters: Arc<dyn Letters>,
    ) -> std::io::Result<Self> {
        Self::start_with(width, rules, buffer, letters, |appender| appender)
    }

    fn start_with<S: Snapshot>(
        width: Width,
        rules: &Arc<ArcSwap<S>>,
        buffer: &Arc<dyn Buffer>,
        letters: Arc<dyn Letters>,
        adjust: impl FnOnce(Appender) -> Appender,
    ) -> std::io::Result<Self> {
        let ledger = Arc::new(Ledger::default());
        ledger.recover(buffer.stats().events);
        let account = Arc::new(Account::new(Arc::clone(&ledger)));
        let trouble = Arc::new(Trouble::default());
        let busy = Arc::new(Busy::default());

        let (intake, jobs) = Intake::with_patience(width.budget, width.patience);
        let (sender, arrivals) = mpsc::unbounded_channel();
        workers::start(width.threads, jobs, rules, &busy, sender)?;

        let buffer = Arc::clone(buffer);
        let appender = adjust(Appender::new(
            Arc::clone(&buffer),
            letters,
            Arc::clone(&account),
            Arc::clone(&trouble),
        ));
        let closing = CloseAtEnd(buffer);
        let appender = tokio::spawn(async move {
            let _closing = closing;
            appender.run(arrivals).await;
        });
        Ok(Self { intake, ledger, account, trouble, busy, appender })
    }
}

/// Closes the buffer however the appender ends: without it, delivery would wait for ever.
struct CloseAtEnd(Arc<dyn Buffer>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests;
