//! The door of the pipeline: bounded by bytes, answered by receipts.
//!
//! Bytes in memory are the budget: a batch takes permits for its size when it enters and gives
//! them back once it is stored, ended, or refused. Behind the budget stands a queue of [`Job`]s,
//! handed out in order of arrival and numbered in that order, so that batches may be mapped in
//! parallel and still be stored in the order in which they came.

mod receipt;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::EventBatch;

pub use receipt::{Answer, Followed, Receipt, Summary};

/// Bytes that all batches between sources and buffer may hold together, unless told otherwise.
pub const DEFAULT_BUDGET: usize = 64 * 1024 * 1024;

/// What an element costs besides its text: its place in the batch and in the queues.
const ELEMENT_OVERHEAD: usize = 96;

/// What a batch costs besides its elements, so that empty ones are bounded too.
const BATCH_OVERHEAD: usize = 512;

/// What a sender is asked to wait before it repeats a refused batch.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a batch may be inside before it is stored, if its sender does not wait as long as it
/// takes. SDKs give up a request after 30 s and send it again, so the answer has to come before.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Handle by which sources submit batches and limit their own wait; cheap to clone.
///
/// For a program that answers requests, which must not hang until there is room:
///
/// ```
/// # use std::time::Duration;
/// # use rudder_customerio::sink::{EventBatch, Refused, SinkHandle};
/// # async fn example(handle: SinkHandle, batch: EventBatch) -> (u16, Option<u64>) {
/// let taken = handle.intake().submit(batch, Duration::from_secs(5)).await;
/// let safe = match taken {
///     Ok(mut receipt) => receipt.buffered().await,
///     Err(refused) => Err(refused),
/// };
/// match safe {
///     Ok(_) => (200, None),
///     Err(Refused::Full(after)) => (503, Some(after.as_secs())),
///     Err(_) => (503, None),
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Intake {
    door: Arc<Door>,
}

struct Door {
    budget: Arc<Semaphore>,
    budget_bytes: u32,
    patience: Duration,
    /// Taken out by [`Intake::close`], so that the queue ends. The budget bounds it.
    queue: Mutex<Option<mpsc::UnboundedSender<Job>>>,
    /// Told to those who wait for room without a place in the line.
    room: Arc<Notify>,
    closing: Notify,
}

/// Why a batch was not taken. Nothing of it was counted or stored, so its sender keeps it and may
/// hand it in again. [`Receipt::buffered`] and [`Receipt::settled`] name one exception each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The pipeline is shutting down; it takes nothing any more.
    Closed,
    /// There is no room; try again after the duration.
    Full(Duration),
    /// The buffer or the dead letters cannot store (disk full, writer failed). It goes on by itself
    /// once they can; [`SinkHandle::unavailable`](crate::sink::SinkHandle::unavailable) says why.
    Unavailable,
}

impl Refused {
    /// Returns the value of `error_type` in `component_errors_total`.
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
pub struct Permit {
    #[expect(dead_code, reason = "held for its drop")]
    bytes: Share,
    // Behind the bytes: fields are dropped in this order.
    #[expect(dead_code, reason = "held for its drop")]
    room: TellsRoom,
}

#[expect(dead_code, reason = "held for its drop")]
enum Share {
    Taken(OwnedSemaphorePermit),
    /// A place in the line, polled once and never again: what others give back is assigned to it
    /// first, so that nobody has room before it has its share.
    Owed(BoxFuture<'static, Result<OwnedSemaphorePermit, AcquireError>>),
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(permit) => f.debug_tuple("Taken").field(&permit.num_permits()).finish(),
            Self::Owed(_) => f.write_str("Owed"),
        }
    }
}

/// Tells on its drop that there may be room.
#[derive(Debug)]
struct TellsRoom(Arc<Notify>);

impl Drop for TellsRoom {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

/// The wait for room of one who polls, apart from the line of those who submit.
///
/// It holds nothing: one who polled once and never again keeps no room from others. A clone does
/// not wait.
#[derive(Default)]
pub(crate) struct RoomWait {
    told: Option<Pin<Box<OwnedNotified>>>,
    ready: bool,
}

impl RoomWait {
    /// Tells whether there was room since the last time that this was asked.
    pub(crate) fn take_turn(&mut self) -> bool {
        std::mem::take(&mut self.ready)
    }
}

impl Clone for RoomWait {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// The inner side of the door: batches in order of arrival.
#[derive(Debug)]
pub struct Jobs {
    queue: mpsc::UnboundedReceiver<Job>,
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
        let (sender, queue) = mpsc::unbounded_channel();
        let door = Door {
            budget: Arc::new(Semaphore::new(budget_bytes as usize)),
            budget_bytes,
            patience,
            queue: Mutex::new(Some(sender)),
            room: Arc::default(),
            closing: Notify::new(),
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
        let (answer, receipt) = Answer::pair();
        self.enter(batch, answer, wait).await?;
        Ok(receipt)
    }

    /// As [`Intake::submit`], with the answer that is to be given.
    pub(crate) async fn enter(
        &self,
        batch: EventBatch,
        answer: Answer,
        wait: Duration,
    ) -> Result<(), Refused> {
        let taking = self.take(self.cost(&batch));
        let (permit, deadline) = if wait == Duration::MAX {
            // Without a timer, so that any executor will do.
            (taking.await?, None)
        } else {
            let taken = timeout(wait, taking).await.unwrap_or(Err(Refused::Full(RETRY_AFTER)));
            (taken?, Some(Instant::now() + self.door.patience))
        };
        self.send(batch, answer, deadline, permit)
    }

    async fn take(&self, bytes: u32) -> Result<Permit, Refused> {
        // Before the wait: who gives it up gives back what it had got already.
        let room = TellsRoom(Arc::clone(&self.door.room));
        let budget = Arc::clone(&self.door.budget);
        let bytes = budget.acquire_many_owned(bytes).await.map_err(|_| Refused::Closed)?;
        Ok(Permit { bytes: Share::Taken(bytes), room })
    }

    /// Lets a batch in at once, for one who was told that there is room. What others were quicker
    /// to take it owes, so that at most one batch per such promise is inside beyond the budget.
    pub(crate) fn enter_now(&self, batch: EventBatch, answer: Answer) -> Result<(), Refused> {
        let room = TellsRoom(Arc::clone(&self.door.room));
        let taking = Arc::clone(&self.door.budget).acquire_many_owned(self.cost(&batch));
        // A task that has used up its share of time would otherwise get no place in the line.
        let mut taking = tokio::task::unconstrained(taking).boxed();
        let bytes = match (&mut taking).now_or_never() {
            Some(taken) => Share::Taken(taken.map_err(|_| Refused::Closed)?),
            None => Share::Owed(taking),
        };
        self.send(batch, answer, None, Permit { bytes, room })
    }

    fn send(
        &self,
        batch: EventBatch,
        answer: Answer,
        deadline: Option<Instant>,
        permit: Permit,
    ) -> Result<(), Refused> {
        let queue = self.queue();
        let queue = queue.as_ref().ok_or(Refused::Closed)?;
        queue.send(Job { number: 0, batch, answer, deadline, permit }).map_err(|_| Refused::Closed)
    }

    /// Waits for room without taking any. Nobody has room while somebody waits for it in line.
    pub(crate) fn poll_room(
        &self,
        wait: &mut RoomWait,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refused>> {
        loop {
            if let Some(room) = self.room() {
                wait.told = None;
                wait.ready = room.is_ok();
                return Poll::Ready(room);
            }
            let told = wait
                .told
                .get_or_insert_with(|| Box::pin(Arc::clone(&self.door.room).notified_owned()));
            // There may be room since before the wait began.
            if told.as_mut().poll(cx).is_pending() && self.room().is_none() {
                return Poll::Pending;
            }
            wait.told = None;
        }
    }

    /// Whether a batch would find room now, if that is known.
    fn room(&self) -> Option<Result<(), Refused>> {
        if self.queue().as_ref().is_none_or(mpsc::UnboundedSender::is_closed) {
            return Some(Err(Refused::Closed));
        }
        (self.door.budget.available_permits() > 0).then_some(Ok(()))
    }

    /// Refuses everything from now on; what is inside goes its way.
    pub(crate) fn close(&self) {
        self.door.budget.close();
        self.queue().take();
        self.door.closing.notify_waiters();
        self.door.room.notify_waiters();
    }

    /// Waits until [`Intake::close`] is called.
    pub(crate) async fn closed(&self) {
        loop {
            let closing = self.door.closing.notified();
            if self.is_closed() {
                return;
            }
            closing.await;
        }
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

    fn queue(&self) -> MutexGuard<'_, Option<mpsc::UnboundedSender<Job>>> {
        self.door.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cost(&self, batch: &EventBatch) -> u32 {
        let text = |json: &Result<bytes::Bytes, _>| json.as_ref().map_or(0, bytes::Bytes::len);
        let elements: usize = batch.elements.iter().map(|e| text(&e.json) + ELEMENT_OVERHEAD).sum();
        u32::try_from(BATCH_OVERHEAD + elements).unwrap_or(u32::MAX).min(self.door.budget_bytes)
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut form = f.debug_struct("Intake");
        form.field("bytes_inside", &self.bytes_inside()).field("closed", &self.is_closed());
        form.finish_non_exhaustive()
    }
}

impl fmt::Debug for RoomWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RoomWait").field(&self.ready).finish()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::source::Incoming;

    fn batch(position: u64, bytes: usize) -> EventBatch {
        let mut batch = EventBatch::new();
        batch.elements.push(Incoming::new(Ok(Bytes::from(vec![b' '; bytes])), position));
        batch
    }

    const SIZE: usize = 1000;
    const COST: usize = SIZE + ELEMENT_OVERHEAD + BATCH_OVERHEAD;

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

    fn poll(intake: &Intake) -> Poll<Result<(), Refused>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        intake.poll_room(&mut RoomWait::default(), &mut cx)
    }

    #[tokio::test]
    async fn what_is_let_in_beyond_the_budget_is_paid_before_anybody_has_room() {
        let (intake, mut jobs) = Intake::channel(COST);
        for position in 0..2 {
            intake.enter_now(batch(position, SIZE), Answer::pair().0).unwrap();
        }
        assert!(poll(&intake).is_pending());
        drop(jobs.recv().await);
        assert!(poll(&intake).is_pending(), "the first one's share goes to the second");
        assert!(intake.submit(batch(2, 1), Duration::ZERO).await.is_err());
        drop(jobs.recv().await);
        assert_eq!(poll(&intake), Poll::Ready(Ok(())));
    }

    #[tokio::test]
    async fn empty_batches_use_up_the_budget_too() {
        let (intake, _jobs) = Intake::channel(2 * BATCH_OVERHEAD);
        for _ in 0..2 {
            intake.submit(EventBatch::new(), Duration::ZERO).await.unwrap();
        }
        assert!(intake.submit(EventBatch::new(), Duration::ZERO).await.is_err());
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
