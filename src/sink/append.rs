//! The appender: mapped batches into buffer, dead letters, and ledger, in order of arrival.
//!
//! It collects what is mapped already into one append, so that a buffer with an fsync per append
//! is asked once for many small batches. For each group the steps are:
//!
//! 1. Append the ready events. A refusal leaves nothing anywhere, and nothing is counted.
//! 2. Make the dead letters of the failed events durable.
//! 3. Enter everything into the ledger in one step, and answer the receipts. The ledger of all
//!    lives, in the buffer, has it before: what ended beside the events of an append, by that
//!    append; failed events, and batches of which nothing is stored, by a commit of their own.
//!
//! A crash between the steps repeats and never loses: no receipt was answered, the sender repeats,
//! and Customer.io knows the repeated ids. The other order (letters first) would leave a dead
//! letter behind for each refusal of a full buffer, which happens for minutes at a time, while
//! dead letters fail seldom.
//!
//! If the letters fail after the append, they are tried again for as long as the sender waits.
//! Then the batch is refused, and the ledger counts exactly what the buffer took: these events
//! will be delivered, and what the sender repeats counts as further events. From then on letters
//! are written before the append, until that works again, so that a broken folder does not
//! multiply events. The rule in every case: what was made durable is counted, nothing else.
//!
//! A batch whose deadline is over is refused before it is appended, also while it waits behind one
//! that is stuck: its sender has given up or is about to, and will send it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, timeout_at};

use super::account::Account;
use super::group::Pending;
use super::mapped::{Arrival, LATE, LATER, MappedBatch};
use super::reorder::Reorder;
use super::trouble::Trouble;
use crate::buffer::{AppendError, Buffer, Sequence, Stored};
use crate::delivery::{DeadLetter, DeadLetters, Unwritten};
use crate::outcome::Tally;
use crate::source::intake::Refused;
use crate::telemetry;

/// Bytes of events that one append takes at most, beyond its first batch.
const GROUP_BYTES: u64 = 4 * 1024 * 1024;

/// How long failing dead letters are tried again, and a write that hangs is waited for, before the
/// sender is told.
const LETTERS_PATIENCE: Duration = Duration::from_secs(20);

/// Pause before a failed write is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Where failed events go; a seam for tests.
pub(super) trait Letters: Send + Sync + 'static {
    fn write(&self, letters: Vec<DeadLetter>) -> BoxFuture<'_, Result<(), Unwritten>>;
}

impl Letters for DeadLetters {
    fn write(&self, letters: Vec<DeadLetter>) -> BoxFuture<'_, Result<(), Unwritten>> {
        // All who come later wait behind this batch.
        Box::pin(self.write_within(letters, LETTERS_PATIENCE))
    }
}

/// The task that owns the order of appends.
pub(super) struct Appender {
    buffer: Arc<dyn Buffer>,
    letters: Arc<dyn Letters>,
    account: Arc<Account>,
    trouble: Arc<Trouble>,
    /// Whether the last append failed, so that a long failure is told once.
    store_failed: AtomicBool,
    pub(super) letters_patience: Duration,
    pub(super) try_again: Duration,
}

impl Appender {
    pub(super) fn new(
        buffer: Arc<dyn Buffer>,
        letters: Arc<dyn Letters>,
        account: Arc<Account>,
        trouble: Arc<Trouble>,
    ) -> Self {
        let (letters_patience, try_again) = (LETTERS_PATIENCE, TRY_AGAIN);
        let store_failed = AtomicBool::new(false);
        Self { buffer, letters, account, trouble, store_failed, letters_patience, try_again }
    }

    /// Works until every mapping thread has ended and all is stored.
    pub(super) async fn run(self, arrivals: UnboundedReceiver<Arrival>) {
        let mut order = Reorder::new(arrivals);
        while let Some(first) = order.next().await {
            if first.is_late() {
                first.answer.refuse(LATE);
                continue;
            }
            let group = self.collect(*first, &mut order);
            if let Some(refused) = order.refusing_late(self.commit(group)).await {
                self.refuse_those_who_waited(&mut order, &refused).await;
            }
        }
    }

    /// Adds to `first` what is ready behind it and fits.
    fn collect(&self, first: MappedBatch, order: &mut Reorder) -> Vec<Pending> {
        let stats = self.buffer.stats();
        let room = GROUP_BYTES.min(stats.max_bytes.saturating_sub(stats.bytes));
        let (patient, mut bytes) = (first.is_patient(), first.ready_bytes());
        let mut group = vec![Pending::from(first)];
        let mut fits = |batch: &MappedBatch| {
            bytes = bytes.saturating_add(batch.ready_bytes());
            batch.is_patient() == patient && bytes <= room && !batch.is_late()
        };
        while let Some(batch) = order.next_if(&mut fits) {
            group.push(Pending::from(*batch));
        }
        group
    }

    /// A refusal says that the buffer was full for as long as a sender may wait; batches that came
    /// meanwhile are told the same instead of waiting as long again, one group after the other.
    async fn refuse_those_who_waited(&self, order: &mut Reorder, refused: &Refused) {
        while let Some(batch) = order.next_if(|batch| !batch.is_patient()) {
            if batch.ready.is_empty() {
                order.refusing_late(self.commit(vec![Pending::from(*batch)])).await;
            } else {
                batch.answer.refuse(refused.clone());
            }
        }
    }

    /// Makes a group durable, counts it, answers it. Returns why the buffer refused it, if it did.
    async fn commit(&self, mut group: Vec<Pending>) -> Option<Refused> {
        let deadline = group.iter().filter_map(|batch| batch.deadline).min();
        let letters_first = self.trouble.is_known() && deadline.is_some();
        if letters_first {
            self.write_letters(group.iter_mut().collect(), Duration::ZERO).await;
        }

        self.account.begin();
        let storable = |batch: &&mut Pending| !letters_first || batch.lettered;
        let mut storable: Vec<_> = group.iter_mut().filter(storable).collect();
        let events = storable.iter_mut().flat_map(|batch| std::mem::take(&mut batch.ready));
        let events: Vec<_> = events.collect();
        let mut ended = Tally::default();
        storable.iter().for_each(|batch| ended.add(&batch.ended));
        let (end, refusal) = match self.append(events, ended, deadline).await {
            Ok(first) => {
                let end = Pending::place(storable, first);
                if end.is_some() {
                    self.account.stored(first);
                }
                (end, None)
            }
            Err(refused) => (None, Some(refused)),
        };

        if !letters_first {
            let patience = deadline.map_or(Duration::MAX, |deadline| {
                self.letters_patience.min(deadline.saturating_duration_since(Instant::now()))
            });
            let stored = group.iter_mut().filter(|batch| batch.stored.is_some());
            self.write_letters(stored.collect(), patience).await;
        }

        let (mut tally, mut unrecorded) = (Tally::default(), Tally::default());
        for batch in &group {
            batch.count(&mut tally);
            batch.count_unrecorded(&mut unrecorded);
        }
        if !unrecorded.ended.is_empty() {
            self.record(&unrecorded, deadline).await;
        }
        self.account.enter(&tally, end, || {
            let unstored = refusal.as_ref().unwrap_or(&Refused::Unavailable);
            group.into_iter().filter_map(|batch| batch.answer(unstored)).collect()
        });
        refusal
    }

    /// Enters endings that came without an event to store into the ledger of all lives, durably: what
    /// is answered stays counted. Not while nothing can be written, which is no reason to refuse what
    /// has ended.
    async fn record(&self, ended: &Tally, deadline: Option<Instant>) {
        self.buffer.record(ended);
        if self.store_failed.load(Ordering::Relaxed) {
            return;
        }
        match deadline {
            None => self.buffer.flush().await,
            Some(deadline) => {
                // Late or not, nothing of it can be taken back.
                timeout_at(deadline, self.buffer.flush()).await.ok();
            }
        }
    }

    /// Stores events and what ended beside them, or gives up at the deadline; without one again and
    /// again until it works.
    async fn append(
        &self,
        mut events: Vec<Stored>,
        ended: Tally,
        deadline: Option<Instant>,
    ) -> Result<Sequence, Refused> {
        if events.is_empty() {
            return Ok(Sequence(0));
        }
        loop {
            let begin = Instant::now();
            let answer = match deadline {
                None => self.buffer.append_with(events.clone(), ended.clone()).await,
                Some(deadline) => {
                    let append =
                        self.buffer.append_with(std::mem::take(&mut events), ended.clone());
                    timeout_at(deadline, append).await.unwrap_or(Err(AppendError::Full(LATER)))
                }
            };
            let refused = match answer {
                Ok(first) => {
                    if self.store_failed.swap(false, Ordering::Relaxed) {
                        tracing::info!("The buffer stores events again.");
                    }
                    return Ok(first);
                }
                Err(AppendError::Closed) => return Err(Refused::Closed),
                Err(AppendError::Full(after)) => Refused::Full(after),
                Err(AppendError::Failed(error)) => {
                    telemetry::error("buffer", "buffer");
                    if !self.store_failed.swap(true, Ordering::Relaxed) {
                        tracing::error!(
                            %error,
                            "The buffer cannot store events; new ones are refused until it can.",
                        );
                    }
                    Refused::Unavailable
                }
            };
            if deadline.is_some() {
                return Err(refused);
            }
            // A buffer that waits by itself has spent the pause already.
            sleep(self.try_again.saturating_sub(begin.elapsed())).await;
            self.account.begin();
        }
    }

    /// Writes the letters of these batches in one go and marks the batches; tries again until
    /// `patience` is over.
    async fn write_letters(&self, mut group: Vec<&mut Pending>, patience: Duration) {
        group.retain(|batch| !batch.lettered);
        let mut letters: Vec<_> =
            group.iter().flat_map(|batch| batch.failed.iter().cloned()).collect();
        if letters.is_empty() {
            return;
        }
        let begin = Instant::now();
        loop {
            match self.letters.write(letters.clone()).await {
                Ok(()) => break,
                Err(Unwritten { written, error }) => {
                    letters.drain(..written.min(letters.len()));
                    self.trouble.failed(&error);
                }
            }
            if begin.elapsed() >= patience {
                return;
            }
            sleep(self.try_again).await;
        }
        self.trouble.worked();
        group.into_iter().for_each(|batch| batch.lettered = true);
    }
}
