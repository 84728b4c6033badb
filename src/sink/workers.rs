//! Mapping threads: batches from the intake to events that are ready for the buffer.
//!
//! Each thread takes the next batch, walks its elements over the snapshot that is current at that
//! moment, and hands the result on under the batch's number. Every number is handed on exactly
//! once, whatever happens to the batch; the appender behind restores the order of arrival.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use super::rules::{Snapshot, Walk as _};
use crate::buffer::Stored;
use crate::delivery::{DeadLetter, Refusal};
use crate::outcome::{Outcome, ReasonCode, Tally};
use crate::source::intake::{Answer, Job, Jobs, Permit};
use crate::source::{EventBatch, Incoming};
use crate::stage::{Prepared, Walked};
use crate::telemetry;

/// Scripts recurse over nested values; depth is limited, and this is enough for the limit.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Runs something that compiles or runs scripts on a thread with enough stack.
///
/// # Errors
///
/// When the thread cannot be started, or panics.
pub async fn on_mapping_stack<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    thread::Builder::new().name("mapping-load".to_owned()).stack_size(STACK_BYTES).spawn(
        move || {
            // Nobody waits any more if the receiver is gone.
            drop(done.send(work()));
        },
    )?;
    result.await.map_err(|_| std::io::Error::other("the thread panicked"))
}

/// A batch after mapping.
#[derive(Debug)]
pub(super) struct MappedBatch {
    pub(super) answer: Answer,
    /// When its sender must have an answer, unless it waits as long as it takes.
    pub(super) deadline: Option<tokio::time::Instant>,
    /// Events that ended and of which nothing is kept.
    pub(super) tally: Tally,
    /// Events that failed and belong to the dead letters.
    pub(super) failed: Vec<DeadLetter>,
    /// Events for the buffer, in order.
    pub(super) ready: Vec<Stored>,
    /// Given back when the batch is done with.
    pub(super) permit: Permit,
}

/// What the threads hand on, in any order.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) number: u64,
    /// `None` if the batch was lost to a defect; its receipt is refused already.
    pub(super) batch: Option<Box<MappedBatch>>,
}

/// How much the threads have worked, for `utilization`.
#[derive(Debug, Default)]
pub(super) struct Busy {
    nanos: AtomicU64,
    batches: AtomicU64,
}

impl Busy {
    fn add(&self, worked: Duration) {
        let nanos = u64::try_from(worked.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn handed_on(&self) {
        self.batches.fetch_add(1, Ordering::Release);
    }

    #[cfg(test)]
    pub(super) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Acquire)
    }

    pub(super) fn total(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}

/// Starts `count` threads, which end when the intake is closed and empty.
pub(super) fn start<S: Snapshot>(
    count: usize,
    jobs: Jobs,
    rules: &Arc<ArcSwap<S>>,
    busy: &Arc<Busy>,
    arrivals: UnboundedSender<Arrival>,
) -> std::io::Result<()> {
    let jobs = Arc::new(Mutex::new(jobs));
    for n in 0..count.max(1) {
        let (jobs, rules, busy) = (Arc::clone(&jobs), Arc::clone(rules), Arc::clone(busy));
        let arrivals = arrivals.clone();
        thread::Builder::new()
            .name(format!("mapping-{n}"))
            .stack_size(STACK_BYTES)
            .spawn(move || work(&jobs, &rules, &busy, &arrivals))?;
    }
    Ok(())
}

fn work<S: Snapshot>(
    jobs: &Mutex<Jobs>,
    rules: &ArcSwap<S>,
    busy: &Busy,
    arrivals: &UnboundedSender<Arrival>,
) {
    let mut worker = Worker { rules, current: None };
    worker.prepare();
    loop {
        // The thread that waits for the next batch holds the lock; the others queue behind it.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = job else { return };
        let (number, begin) = (job.number, Instant::now());
        let batch = catch_unwind(AssertUnwindSafe(|| worker.map(job))).ok();
        if batch.is_none() {
            worker.current = None;
            telemetry::error("panic", "mapping");
            tracing::error!("A batch was refused because of a defect.");
        }
        busy.add(begin.elapsed());
        if arrivals.send(Arrival { number, batch }).is_err() {
            return;
        }
        busy.handed_on();
    }
}

struct Worker<'a, S: Snapshot> {
    rules: &'a ArcSwap<S>,
    /// The walk and the snapshot from which it was made.
    current: Option<(Arc<S>, S::Walk)>,
}

impl<S: Snapshot> Worker<'_, S> {
    /// Takes a walk now, so that the first batch waits for nothing.
    fn prepare(&mut self) {
        let snapshot = self.rules.load_full();
        let walker = catch_unwind(AssertUnwindSafe(|| snapshot.walker()));
        self.current = walker.ok().map(|walk| (snapshot, walk));
    }

    fn map(&mut self, job: Job) -> Box<MappedBatch> {
        let Job { batch, answer, deadline, permit, .. } = job;
        let snapshot = self.rules.load_full();
        let mut mapped = MappedBatch {
            answer,
            deadline,
            tally: Tally::default(),
            failed: Vec::new(),
            ready: Vec::with_capacity(batch.elements.len()),
            permit,
        };
        for element in &batch.elements {
            let walked = self.walk(&snapshot, element, &batch);
            mapped.add(walked, element, &batch);
        }
        Box::new(mapped)
    }

    /// Walks one element; a panic ends this event alone.
    fn walk(&mut self, snapshot: &Arc<S>, element: &Incoming, batch: &EventBatch) -> Walked {
        let mut walk = match self.current.take() {
            Some((of, walk)) if Arc::ptr_eq(&of, snapshot) => walk,
            Some((_, earlier)) => snapshot.walker_after(earlier),
            None => snapshot.walker(),
        };
        let walked = catch_unwind(AssertUnwindSafe(|| walk.walk(element, batch)));
        walked.map_or_else(
            |_panic| {
                // The walk is not used again, as its state is unknown. Neither is the event kept:
                // nobody knows whether the panic came before consent was asked.
                telemetry::error("panic", "mapping");
                tracing::error!(
                    component_id = %batch.origin.source,
                    position = element.position,
                    "Mapping an event panicked; the event is counted as failed and not kept.",
                );
                Walked::Ended(Outcome::Failed(ReasonCode::ScriptPanic.into()))
            },
            |walked| {
                self.current = Some((Arc::clone(snapshot), walk));
                walked
            },
        )
    }
}

impl Prepared {
    /// Copies the event out of the request or block of which it is a slice.
    ///
    /// An event waits for hours during an outage. As a slice it would keep everything that was
    /// received with it, refused and withheld events too, while the bounds count its own length.
    fn detached(mut self: Box<Self>) -> Self {
        self.original.raw = Bytes::copy_from_slice(&self.original.raw);
        *self
    }
}

impl MappedBatch {
    fn add(&mut self, walked: Walked, element: &Incoming, batch: &EventBatch) {
        let replay = element.replay.as_deref();
        let received_at = replay.map_or(batch.received_at, |replay| replay.received_at);
        match walked {
            Walked::Ended(outcome) => self.tally.end(&outcome),
            Walked::Failed(outcome, prepared) => {
                let Prepared { operations, original, id_input } = prepared.detached();
                self.failed.push(DeadLetter {
                    outcome,
                    refusal: Refusal::default(),
                    attempts: 0,
                    unknown: false,
                    original,
                    id_input,
                    operations,
                    received_at,
                    source: Arc::clone(&batch.origin.source),
                });
            }
            Walked::Ready(prepared) => {
                let Prepared { operations, original, id_input } = prepared.detached();
                self.ready.push(Stored {
                    operations,
                    original,
                    id_input,
                    received_at,
                    source: Arc::clone(&batch.origin.source),
                    letter: replay.map(|replay| replay.letter),
                });
            }
        }
    }

    /// Tells whether its sender waits as long as it takes.
    pub(super) fn is_patient(&self) -> bool {
        self.deadline.is_none()
    }

    /// Tells whether its sender may have given up.
    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= tokio::time::Instant::now())
    }

    /// Returns the size of the events for the buffer.
    pub(super) fn ready_bytes(&self) -> u64 {
        self.ready.iter().map(Stored::bytes).sum()
    }
}
