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
use tokio::sync::mpsc::UnboundedSender;

use super::mapped::{Arrival, MappedBatch};
use super::rules::{Snapshot, Walk as _};
use super::threads::STACK_BYTES;
use crate::outcome::{Outcome, ReasonCode, Tally};
use crate::source::intake::{Job, Jobs};
use crate::source::{EventBatch, Incoming};
use crate::stage::Walked;
use crate::telemetry;

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
