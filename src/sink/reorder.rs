//! Batches in order of arrival, out of results that come in any order.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::mapped::{Arrival, LATE, MappedBatch};

/// How often those who wait behind a stuck append are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Unbounded in itself; the intake's budget of bytes bounds what can be inside.
#[derive(Debug)]
pub(super) struct Reorder {
    arrivals: UnboundedReceiver<Arrival>,
    next: u64,
    waiting: BTreeMap<u64, Option<Box<MappedBatch>>>,
}

impl Reorder {
    pub(super) fn new(arrivals: UnboundedReceiver<Arrival>) -> Self {
        Self { arrivals, next: 0, waiting: BTreeMap::new() }
    }

    /// Waits for the next batch in order; `None` when no more will come.
    pub(super) async fn next(&mut self) -> Option<Box<MappedBatch>> {
        loop {
            if let Some(batch) = self.next_if(|_| true) {
                return Some(batch);
            }
            let arrival = self.arrivals.recv().await?;
            self.waiting.insert(arrival.number, arrival.batch);
        }
    }

    /// Takes the next batch in order, without waiting, if it is there and `take` agrees.
    pub(super) fn next_if(
        &mut self,
        mut take: impl FnMut(&MappedBatch) -> bool,
    ) -> Option<Box<MappedBatch>> {
        self.take_arrivals();
        loop {
            let entry = self.waiting.first_entry().filter(|entry| *entry.key() == self.next)?;
            if entry.get().as_deref().is_some_and(|batch| !take(batch)) {
                return None;
            }
            self.next += 1;
            // A lost batch leaves its number behind, and nothing else.
            if let Some(batch) = entry.remove() {
                return Some(batch);
            }
        }
    }

    /// Does `work`, and meanwhile refuses the batches that wait behind it past their deadline.
    pub(super) async fn refusing_late<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match timeout(LOOK, work.as_mut()).await {
                Ok(done) => return done,
                Err(_) => self.refuse_late(),
            }
        }
    }

    fn refuse_late(&mut self) {
        self.take_arrivals();
        for waiting in self.waiting.values_mut() {
            if let Some(late) = waiting.take_if(|batch| batch.is_late()) {
                late.answer.refuse(LATE);
            }
        }
    }

    fn take_arrivals(&mut self) {
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.waiting.insert(arrival.number, arrival.batch);
        }
    }
}
