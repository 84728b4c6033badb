//! Access to a running sink: what it is made of, seen from outside.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use tokio::task::AbortHandle;

use super::Rules;
use super::account::Account;
use super::notice::Notice;
use super::stats::{SinkStats, with_damage};
use super::trouble::Trouble;
use super::workers::Busy;
use crate::buffer::{Buffer, BufferStats};
use crate::data_dir::DataDir;
use crate::delivery::DeliveryHandle;
#[cfg(feature = "pipeline")]
use crate::delivery::{DeadLetters, Destination};
use crate::outcome::Ledger;
use crate::source::Intake;
use crate::source::intake::RoomWait;

/// Access to a running sink; cheap to clone.
///
/// It is a [`tower_service::Service`] of [`EventBatch`](super::EventBatch), for a router that is made
/// of those.
#[derive(Clone, Debug)]
pub struct SinkHandle {
    pub(super) shared: Arc<Shared>,
    /// Where [`tower_service::Service::poll_ready`] of this very handle waits.
    pub(super) room: RoomWait,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) intake: Intake,
    pub(super) ledger: Arc<Ledger>,
    pub(super) account: Arc<Account>,
    pub(super) trouble: Arc<Trouble>,
    pub(super) busy: Arc<Busy>,
    pub(super) threads: usize,
    pub(super) rules: Arc<ArcSwap<Rules>>,
    pub(super) loaded_at: ArcSwap<DateTime<Utc>>,
    pub(super) buffer: Arc<dyn Buffer>,
    pub(super) data_dir: Option<Arc<DataDir>>,
    #[cfg(feature = "pipeline")]
    pub(super) destination: Arc<dyn Destination>,
    pub(super) delivery: DeliveryHandle,
    #[cfg(feature = "pipeline")]
    pub(super) dead_letters: Arc<DeadLetters>,
    /// Appender and delivery, which end after the intake only.
    pub(super) stages: [AbortHandle; 2],
    pub(super) notice: Notice,
}

impl SinkHandle {
    /// Returns the door for sources, which can also limit their wait.
    #[must_use]
    pub fn intake(&self) -> &Intake {
        &self.shared.intake
    }

    /// Returns the account of all events.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.shared.ledger
    }

    /// Returns what is in force now.
    #[cfg(feature = "pipeline")]
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.shared.rules.load_full()
    }

    /// Puts other rules in force. Batches whose mapping has begun keep the old ones.
    ///
    /// Each mapping thread takes a worker of [`Mapping::prepare`](crate::mapping::Mapping::prepare);
    /// for what is not prepared, its next batch waits while it compiles.
    pub(crate) fn put_in_force(&self, rules: Rules) {
        let scripts = Arc::clone(&rules.mapping);
        let old = self.shared.rules.swap(Arc::new(rules));
        if !Arc::ptr_eq(&old.mapping, &scripts) {
            self.shared.loaded_at.store(Arc::new(Utc::now()));
        }
    }

    /// Returns how many threads map.
    pub(crate) fn mapping_threads(&self) -> usize {
        self.shared.threads
    }

    /// Returns the control of the delivery.
    #[must_use]
    pub fn delivery(&self) -> &DeliveryHandle {
        &self.shared.delivery
    }

    /// Returns the writer of dead letters.
    #[cfg(feature = "pipeline")]
    pub(crate) fn dead_letters(&self) -> &Arc<DeadLetters> {
        &self.shared.dead_letters
    }

    /// Returns where events wait.
    #[must_use]
    #[cfg(feature = "pipeline")]
    pub(crate) fn buffer(&self) -> &Arc<dyn Buffer> {
        &self.shared.buffer
    }

    /// Returns where events are sent to.
    #[must_use]
    #[cfg(feature = "pipeline")]
    pub(crate) fn destination(&self) -> &Arc<dyn Destination> {
        &self.shared.destination
    }

    /// Returns the directory in which everything is stored, if the sink was built with one.
    #[must_use]
    pub fn data_dir(&self) -> Option<&Path> {
        self.shared.data_dir.as_deref().map(DataDir::path)
    }

    /// Returns the hold on that directory.
    #[cfg(feature = "pipeline")]
    pub(crate) fn held_dir(&self) -> Option<&Arc<DataDir>> {
        self.shared.data_dir.as_ref()
    }

    /// Tells whether what waits in the buffer survives the end of the process.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.shared.buffer.durable()
    }

    /// Returns why new events cannot be accepted; empty when they can.
    #[must_use]
    pub fn unavailable(&self) -> Vec<String> {
        self.unavailable_with(&self.shared.buffer.stats())
    }

    fn unavailable_with(&self, buffer: &BufferStats) -> Vec<String> {
        let shared = &*self.shared;
        let closing = shared.intake.is_closed();
        let broken = !closing && shared.stages.iter().any(AbortHandle::is_finished);
        let reasons = [
            closing.then(|| "shutting down".to_owned()),
            buffer.unavailable.clone(),
            shared.trouble.recent(),
            broken.then(|| "a stage has ended unexpectedly; restart the process".to_owned()),
        ];
        reasons.into_iter().flatten().collect()
    }

    /// Returns what metrics and endpoints show.
    #[must_use]
    pub fn stats(&self) -> SinkStats {
        let shared = &*self.shared;
        let buffer = shared.buffer.stats();
        let damaged = buffer.damaged;
        SinkStats {
            ledger: shared.ledger.snapshot(),
            all_lives: shared.buffer.all_lives(),
            unavailable: self.unavailable_with(&buffer),
            buffer,
            delivery: with_damage(shared.delivery.status(), damaged),
            mapping_worked: shared.busy.total(),
            mapping_threads: shared.threads,
            script_hash: Arc::from(shared.rules.load().mapping.hash()),
            scripts_loaded_at: **shared.loaded_at.load(),
        }
    }
}
