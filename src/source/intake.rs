//! The door of the pipeline: bounded by bytes, answered by receipts.
//!
//! Bytes in memory are the budget: a batch takes permits for its size when it enters and gives
//! them back once it is stored, ended, or refused. Behind the budget stands a bounded queue of
//! [`Job`]s, handed out in order of arrival and numbered in that order, so that batches may be
//! mapped in parallel and still be stored in the order in which they came.

mod receipt;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::EventBatch;

pub use receipt::{Answer, Followed, Receipt, Summary};

/// Bytes that all batches between sources and buffer may hold together, unless told otherwise.
pub const DEFAULT_BUDGET: usize = 64 * 1024 * 1024;

/// What an element costs besides its text: its place in the batch and in the queues.
const ELEMENT_OVERHEAD: usize = 96;

/// Batches that may wait for a mapping thread; the budget in bytes is the real bound, this one
/// only keeps a flood of empty batches from growing the queue.
const QUEUE: usize = 4096;

/// What a sender is asked to wait before it repeats a refused batch.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a batch may be inside before it is stored, if its sender does not wait as long as it
/// takes. SDKs give up a request after 30 s and send it again, so the answer has to come before.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Handle by which sources submit batches; cheap to clone.
#[derive(Clone)]
pub struct Intake {
    door: Arc<Door>,
}

struct Door {
    budget: Arc<Semaphore>,
    budget_bytes: u32,
    patience: Duration,
    /// Taken out by [`Intake::close`], so that the queue ends.
    queue: Mutex<Option<mpsc::Sender<Job>>>,
}

/// Why a batch was not taken. Nothing of it was counted or stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The pipeline is shutting down.
    Closed,
    /// There is no room; try again after the duration.
    Full(Duration),
    /// The buffer or the dead letters cannot store (disk full, writer failed).
    Unavailable,
}

impl Refused {
    /// Returns the label of the metric.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Full(_) => "buffer_full",
            Self::Closed => "stopping",
            Self::Unavailable => "buffer_unavailable",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the pipeline is shutting down"),
            Self::Full(after) => write!(f, "no room, try again after {} s", after.as_secs()),
            Self::Unavailable => f.write_str("events cannot be stored now"),
        }
    }
}

impl std::error::Error for Refused {}

/// One batch on its way, with everything that is needed to answer it.
#[derive(Debug)]
pub struct Job {
    /// Place in the order of arrival, from 0 without gaps.
    pub number: u64,
    /// The batch.
    pub batch: EventBatch,
    /// Its receipt's other half.
    pub answer: Answer,
    /// When the sender must have an answer; not stored by then, the batch is refused. `None`: the
    /// sender waits for room as long as it takes.
    pub deadline: Option<Instant>,
    /// Its share of the budget, given back on drop.
    pub permit: Permit,
}

/// A share of the budget of bytes.
#[derive(Debug)]
pub struct Permit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// The inner side of the door: batches in order of arrival.
#[derive(Debug)]
pub struct Jobs {
    queue: mpsc::Receiver<Job>,
    next: u64,
}

impl Jobs {
    /// Waits for the next batch; `None` once the intake is closed and everything was handed out.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    #[cfg(test)]
    pub async fn recv(&mut self) -> Option<Job> {
        let job = self.queue.recv().await;
        self.numbered(job)
    }

    /// As [`Jobs::recv`], for a thread outside of the runtime.
    ///
    /// # Panics
    ///
    /// When called on a thread that drives asynchronous tasks.
    pub fn blocking_recv(&mut self) -> Option<Job> {
        let job = self.queue.blocking_recv();
        self.numbered(job)
    }

    fn numbered(&mut self, job: Option<Job>) -> Option<Job> {
        let mut job = job?;
        job.number = self.next;
        self.next += 1;
        Some(job)
    }
}

impl Intake {
    /// Makes a door with a budget in bytes, and its inner side.
    ///
    /// A batch above the whole budget is taken when nothing else is inside. Budgets above 4 GiB
    /// count as 4 GiB.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn channel(budget_bytes: usize) -> (Self, Jobs) {
        Self::with_patience(budget_bytes, PATIENCE)
    }

    pub(crate) fn with_patience(budget_bytes: usize, patience: Duration) -> (Self, Jobs) {
        let budget_bytes = u32::try_from(budget_bytes.max(1)).unwrap_or(u32::MAX);
        let (sender, queue) = mpsc::channel(QUEUE);
        let door = Door {
            budget: Arc::new(Semaphore::new(budget_bytes as usize)),
            budget_bytes,
            patience,
            queue: Mutex::new(Some(sender)),
        };
        (Self { door: Arc::new(door) }, Jobs { queue, next: 0 })
    }

    /// Takes permits for the batch's size, waiting at most `wait`; then submits the batch.
    ///
    /// Batches enter in the order of the calls. Once inside, a batch is stored within 20 s or its
    /// receipt is refused. With `Duration::MAX` the batch also waits for room in the buffer as
    /// long as it takes, and its receipt is refused only when the pipeline ends: for sources that
    /// can make their input wait and must not get out of order. Such a batch holds up those behind
    /// it; these are refused when their 20 s are over.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why the batch was not taken.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped before it answers, the batch was not taken.
    pub async fn submit(&self, batch: EventBatch, wait: Duration) -> Result<Receipt, Refused> {
        let queue = self.queue().ok_or(Refused::Closed)?;
        let entering = async {
            let permits = self.cost(&batch);
            let budget = Arc::clone(&self.door.budget);
            let permit = budget.acquire_many_owned(permits).await.map_err(|_| Refused::Closed)?;
            let place = queue.reserve().await.map_err(|_| Refused::Closed)?;
            Ok((Permit(permit), place))
        };
        let (permit, place) =
            timeout(wait, entering).await.unwrap_or(Err(Refused::Full(RETRY_AFTER)))?;
        let (answer, receipt) = Answer::pair();
        let deadline = (wait < Duration::MAX).then(|| Instant::now() + self.door.patience);
        place.send(Job { number: 0, batch, answer, deadline, permit });
        Ok(receipt)
    }

    /// Refuses everything from now on; what is inside goes its way.
    pub(crate) fn close(&self) {
        self.door.budget.close();
        self.door.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Tells whether the intake is closed: the sink drains, or was dropped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.door.budget.is_closed()
    }

    /// Returns how many bytes of the budget are taken.
    #[must_use]
    pub(crate) fn bytes_inside(&self) -> u64 {
        (self.door.budget_bytes as usize).saturating_sub(self.door.budget.available_permits())
            as u64
    }

    fn queue(&self) -> Option<mpsc::Sender<Job>> {
        self.door.queue.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn cost(&self, batch: &EventBatch) -> u32 {
        let text = |json: &Result<bytes::Bytes, _>| json.as_ref().map_or(0, bytes::Bytes::len);
        let cost: usize = batch.elements.iter().map(|e| text(&e.json) + ELEMENT_OVERHEAD).sum();
        u32::try_from(cost).unwrap_or(u32::MAX).clamp(1, self.door.budget_bytes)
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut form = f.debug_struct("Intake");
        form.field("bytes_inside", &self.bytes_inside()).field("closed", &self.is_closed());
        form.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::*;
    use crate::source::{Incoming, Origin};

    fn batch(position: u64, bytes: usize) -> EventBatch {
        EventBatch {
            elements: vec![Incoming::new(Ok(Bytes::from(vec![b' '; bytes])), position)],
            set_type: None,
            origin: Origin { source: "test".into(), source_type: "web".into() },
            received_at: chrono::DateTime::UNIX_EPOCH,
            client_ip: None,
        }
    }

    const SIZE: usize = 1000;
    const COST: usize = SIZE + ELEMENT_OVERHEAD;

    #[tokio::test]
    async fn batches_come_out_in_order_with_their_numbers() {
        let (intake, mut jobs) = Intake::channel(10 * COST);
        for position in 0..3 {
            intake.submit(batch(position, SIZE), Duration::ZERO).await.unwrap();
        }
        for n in 0..3 {
            let job = jobs.recv().await.unwrap();
            assert_eq!((job.number, job.batch.elements[0].position), (n, n));
        }
    }

    #[tokio::test]
    async fn without_budget_a_batch_is_refused_until_an_earlier_one_is_done() {
        let (intake, mut jobs) = Intake::channel(COST);
        intake.submit(batch(0, SIZE), Duration::ZERO).await.unwrap();
        let refused = intake.submit(batch(1, SIZE), Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(refused, Refused::Full(RETRY_AFTER));
        let job = jobs.recv().await.unwrap();
        assert_eq!(intake.bytes_inside(), COST as u64, "taken out of the queue is not done");
        drop(job);
        assert_eq!(intake.bytes_inside(), 0);
        intake.submit(batch(1, SIZE), Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn a_batch_above_the_whole_budget_is_taken_alone() {
        let (intake, mut jobs) = Intake::channel(100);
        intake.submit(batch(0, SIZE), Duration::ZERO).await.unwrap();
        assert!(intake.submit(batch(1, 1), Duration::ZERO).await.is_err());
        drop(jobs.recv().await);
        intake.submit(batch(1, 1), Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn closing_refuses_those_who_wait_and_ends_the_queue_after_its_content() {
        let (intake, mut jobs) = Intake::channel(COST);
        intake.submit(batch(0, SIZE), Duration::ZERO).await.unwrap();
        let other = intake.clone();
        let mut waiting = Box::pin(other.submit(batch(1, SIZE), Duration::MAX));
        assert!((&mut waiting).now_or_never().is_none());
        intake.close();
        assert_eq!(waiting.await.unwrap_err(), Refused::Closed);
        assert_eq!(
            intake.submit(batch(2, SIZE), Duration::MAX).await.unwrap_err(),
            Refused::Closed
        );
        assert!(jobs.recv().await.is_some());
        assert!(jobs.recv().await.is_none());
    }

    #[tokio::test]
    async fn every_batch_has_a_deadline_but_one_with_an_endless_wait() {
        let (intake, mut jobs) = Intake::channel(10 * COST);
        intake.submit(batch(0, SIZE), Duration::MAX).await.unwrap();
        intake.submit(batch(1, SIZE), Duration::from_secs(20)).await.unwrap();
        assert_eq!(jobs.recv().await.unwrap().deadline, None);
        let latest = Instant::now() + PATIENCE;
        assert!(jobs.recv().await.unwrap().deadline.unwrap() <= latest);
    }
}
