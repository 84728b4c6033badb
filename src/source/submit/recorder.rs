//! Stands in for the pipeline in tests of sources.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::Notify;

use super::{Acknowledged, Submit};
use crate::config::Ack;
use crate::source::{EventBatch, Refused, Summary};

/// Keeps what was submitted, and answers as told.
#[derive(Clone, Debug)]
pub(in crate::source) struct Recorder {
    /// Type of the sources that submit.
    pub by: &'static str,
    /// How long a submission may wait for room.
    pub patience: Duration,
    pub batches: Arc<Mutex<Vec<EventBatch>>>,
    /// How far the batches were to get.
    pub asked: Arc<Mutex<Vec<Ack>>>,
    /// What the next submissions are refused with, last first.
    pub refuse: Arc<Mutex<Vec<Refused>>>,
    /// What batches that were taken are refused with in the end.
    pub refuse_later: Option<Refused>,
    /// Each end waits to be notified.
    pub hold: Option<Arc<Notify>>,
}

impl Recorder {
    /// Expects batches of sources of the type `by`, which wait for room no longer than `patience`.
    pub fn new(by: &'static str, patience: Duration) -> Self {
        Self {
            by,
            patience,
            batches: Arc::default(),
            asked: Arc::default(),
            refuse: Arc::default(),
            refuse_later: None,
            hold: None,
        }
    }

    /// Tells of no end before it is notified.
    pub fn holding(self) -> Self {
        Self { hold: Some(Arc::default()), ..self }
    }
}

impl Submit for Recorder {
    async fn submit(
        &self,
        batch: EventBatch,
        by: &'static str,
        wait: Duration,
        ack: Ack,
    ) -> Result<Acknowledged, Refused> {
        assert_eq!(by, self.by);
        assert!(wait <= self.patience, "it waits for {wait:?}");
        if let Some(refused) = self.refuse.lock().unwrap().pop() {
            return Err(refused);
        }
        self.batches.lock().unwrap().push(batch);
        self.asked.lock().unwrap().push(ack);
        let (later, hold) = (self.refuse_later.clone(), self.hold.clone());
        let end = async move {
            if let Some(hold) = hold {
                hold.notified().await;
            }
            later.map_or_else(|| Ok(Summary::default()), Err)
        };
        Ok(end.boxed())
    }
}
