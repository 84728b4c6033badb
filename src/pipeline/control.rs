//! What the admin endpoints see of the pipeline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::reload::{Part, Reloader, Reloads};
use crate::admin::status::{Configuration, Status};
use crate::admin::{Process, Reloaded};
use crate::replay::{Message, Refusal, Replays, Selection};
use crate::sink::SinkHandle;
use crate::telemetry::Exporter;

/// Renders all metrics of the process.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Joins sink, scripts, and metrics for the endpoints.
pub(super) struct Control {
    sink: SinkHandle,
    reloader: Arc<Reloader>,
    render: Option<Render>,
    exporter: Exporter,
    started: Instant,
    stopping: AtomicBool,
    gateways: Vec<AbortHandle>,
    replays: Replays,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("sink", &self.sink).finish_non_exhaustive()
    }
}

impl Control {
    pub(super) fn new(
        sink: SinkHandle,
        reloader: Arc<Reloader>,
        render: Option<Render>,
        gateways: Vec<AbortHandle>,
        replays: Replays,
    ) -> Self {
        let (started, stopping) = (Instant::now(), AtomicBool::new(false));
        let exporter = Exporter::default();
        Self { sink, reloader, render, exporter, started, stopping, gateways, replays }
    }

    /// Makes the process unready: senders are to go elsewhere.
    pub(super) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

impl Process for Control {
    fn unready(&self) -> Vec<String> {
        if self.stopping.load(Ordering::Relaxed) {
            return vec!["shutting down".to_owned()];
        }
        let mut reasons = self.sink.unavailable();
        if self.gateways.iter().any(AbortHandle::is_finished) {
            reasons.push("a source has ended unexpectedly; restart the process".to_owned());
        }
        reasons
    }

    fn metrics(&self) -> Option<String> {
        let render = self.render.as_ref()?;
        self.exporter.export(&self.sink.stats());
        Some(render())
    }

    fn status(&self) -> Status {
        let (loaded_at, needs_restart) = self.reloader.state();
        let error = self.reloader.error(Part::Configuration);
        let config = Configuration::new(loaded_at, needs_restart, error);
        let script_error = self.reloader.error(Part::Mappings);
        Status::new(&self.sink.stats(), self.started.elapsed(), script_error, config)
    }

    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, String>> {
        let reloads = Reloads::new(Arc::clone(&self.reloader));
        async move { reloads.reload().await }.boxed()
    }

    fn pause(&self) {
        tracing::info!("Delivery is paused by the operator.");
        self.sink.delivery().pause();
    }

    fn resume(&self) {
        tracing::info!("Delivery goes on by the operator.");
        self.sink.delivery().resume();
    }

    fn replay(&self, selection: Selection) -> Result<mpsc::Receiver<Message>, Refusal> {
        let refused = [Part::Configuration, Part::Mappings].map(|part| self.reloader.error(part));
        let warnings = refused.into_iter().flatten().map(|reasons| {
            format!(
                "the last reload was refused: letters go through the scripts and rules that were \
                 in force before:\n{reasons}"
            )
        });
        self.replays.start_with(selection, warnings.collect()).map(|running| running.messages)
    }
}
