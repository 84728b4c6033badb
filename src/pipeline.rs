//! The whole machine: sources, sink, and endpoints; start, drain, stop.
//!
//! [`Pipeline::start`] opens everything in an order in which a mistake shows before any event is
//! accepted; [`Pipeline::run_until`] ends everything in the order of the data.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use rudder_customerio::config::{Config, LoadMode};
//! use rudder_customerio::pipeline::{Pipeline, Surroundings, stop};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let load = || Config::load(Path::new("config.yaml"), LoadMode::Full);
//! let (config, _warnings) = load()?;
//! let surroundings = Surroundings { reread: Some(Arc::new(load)), ..Surroundings::default() };
//! let pipeline = Pipeline::start(config, surroundings).await?;
//!
//! let (stopper, stop) = stop::channel();
//! tokio::spawn(async move {
//!     if tokio::signal::ctrl_c().await.is_ok() {
//!         stopper.request();
//!     }
//! });
//! let ended = pipeline.run_until(stop).await;
//! println!("{} events wait for the next start", ended.drained.undelivered);
//! # Ok(()) }
//! ```

mod control;
mod listen;
mod reload;
mod sources;
pub mod stop;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::control::Control;
use self::listen::Listeners;
use self::reload::Reloader;
use self::sources::Sources;
use self::stop::Stop;
use crate::admin::Admin;
use crate::buffer::Buffer;
use crate::config::Config;
use crate::delivery::Destination;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::mapping::Mappings;
use crate::replay::Replays;
use crate::sink::scripts::warn_about;
use crate::sink::{Builder, CustomerIoSink, Drained, Parts, SinkHandle};

pub use crate::admin::Reloaded;
pub use crate::source::stdin::Progress;
pub use control::Render;
pub use reload::{Reloads, Reread, SetLogLevel};

/// A running pipeline.
#[derive(Debug)]
pub struct Pipeline {
    sink: CustomerIoSink,
    sources: Sources,
    control: Arc<Control>,
    reloads: Reloads,
    admin: JoinHandle<()>,
    stop_admin: oneshot::Sender<()>,
    admin_address: std::net::SocketAddr,
    watcher: Option<JoinHandle<()>>,
    drain_timeout: Duration,
}

/// What the surroundings of a pipeline provide, beside its configuration.
#[derive(Default)]
pub struct Surroundings {
    /// Reads the configuration again for reloads; without it they load the scripts alone.
    pub reread: Option<Reread>,
    /// Where the configuration stands; watched, if `mapping.watch` asks for it.
    pub config_file: Option<PathBuf>,
    /// Puts another `log.level` in force, which is the surroundings' own.
    pub set_log_level: Option<SetLogLevel>,
    /// Renders `/metrics`, if the process has a recorder.
    pub render: Option<Render>,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut form = f.debug_struct("Surroundings");
        form.field("reread", &self.reread.is_some()).field("config_file", &self.config_file);
        form.field("set_log_level", &self.set_log_level.is_some());
        form.field("render", &self.render.is_some()).finish()
    }
}

/// What takes the place of parts of a pipeline, for tests.
#[derive(Default)]
struct Substitutes {
    /// For Customer.io.
    destination: Option<Arc<dyn Destination>>,
    /// For the configured buffer.
    store: Option<Arc<dyn Buffer>>,
}

/// How a pipeline ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ended {
    /// How the drain ended, and the final account.
    pub drained: Drained,
    /// Whether standard input was the only source.
    pub stdin_alone: bool,
    /// Sources that ended by an error or a defect; texts for the operator.
    pub broken: Vec<String>,
}

impl Pipeline {
    /// Opens listeners, scripts, buffer, dead letters, and client, and starts every task.
    ///
    /// Customer.io need not be reachable: delivery checks the credentials by itself, and events
    /// are accepted and kept meanwhile.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, at once: addresses in use, scripts that do not compile, a data
    /// directory that cannot be written or belongs to another process.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn start(config: Config, surroundings: Surroundings) -> Result<Self, Diagnostics> {
        Ok(Self::start_with(config, surroundings, Substitutes::default()).await?)
    }

    async fn start_with(
        config: Config,
        surroundings: Surroundings,
        substitutes: Substitutes,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let listeners = Listeners::bind(&config);
        let scripts = reload::scripts(&config.mapping);
        let scripts = scripts.map_err(|more| faults.extend(more)).ok();
        let parts = sink_parts(&config, scripts.clone(), substitutes).await;
        let parts = parts.map_err(|more| faults.extend(more)).ok();
        // Last: if another process has the data directory, it has the addresses too.
        let listeners = listeners.map_err(|more| faults.extend(more)).ok();
        let (Some(listeners), Some(parts), Some(scripts)) = (listeners, parts, scripts) else {
            return Err(faults);
        };
        // Not before everything else is right: delivery asks Customer.io at once.
        let sink = parts.start()?;

        let handle = sink.handle();
        tell_about(&handle, &config);
        announce(&handle, listeners.admin_address);
        let around = reload::Surroundings {
            reread: surroundings.reread,
            file: surroundings.config_file,
            set_log_level: surroundings.set_log_level,
            public: listeners.public,
        };
        let reloader = Reloader::new(config.clone(), scripts, handle.clone(), around);
        let reloader = Arc::new(reloader);
        let watcher = Reloader::watch(&reloader);
        let reloads = Reloads::new(Arc::clone(&reloader));
        let sources = Sources::start(listeners.sources, &handle);
        let replays = Replays::new(&config, &handle).confined();
        let control =
            Control::new(handle, reloader, surroundings.render, sources.gateways(), replays);
        let control = Arc::new(control);

        let (stop_admin, stopped) = oneshot::channel();
        let admin_address = listeners.admin_address;
        let admin = Admin::new(Arc::clone(&control), config.admin.token.clone());
        let admin = tokio::spawn(admin.serve(listeners.admin, stopped.map(|_| ())));
        tracing::info!(address = %admin_address, "Admin endpoints listen.");
        let drain_timeout = config.drain_timeout;
        let all = Self {
            sink,
            sources,
            control,
            reloads,
            admin,
            stop_admin,
            admin_address,
            watcher,
            drain_timeout,
        };
        Ok(all)
    }

    /// Returns access to the running sink.
    #[must_use]
    pub fn handle(&self) -> SinkHandle {
        self.sink.handle()
    }

    /// Returns what asks for reloads, for triggers such as a signal.
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        self.reloads.clone()
    }

    /// Returns the addresses on which sources listen, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[std::net::SocketAddr] {
        self.sources.addresses()
    }

    /// Returns the address of the admin endpoints.
    #[must_use]
    pub fn admin_address(&self) -> std::net::SocketAddr {
        self.admin_address
    }

    /// Returns how far standard input was read, if it is a source.
    #[must_use]
    pub fn stdin_progress(&self) -> Option<Arc<Progress>> {
        self.sources.stdin_progress().map(Arc::clone)
    }

    /// Tells whether standard input is the only source, so that the pipeline ends with it.
    #[must_use]
    pub fn is_stdin_alone(&self) -> bool {
        self.sources.is_stdin_alone()
    }

    /// Runs until the first request to stop, or until all input has ended; then stops in the order
    /// of the data: sources, mapping, buffer, delivery.
    ///
    /// After a request, the stop takes at most `drain_timeout`, and a second request ends it at
    /// once; what is left stays in the buffer. After the end of all input there is no limit until
    /// a request comes.
    pub async fn run_until(mut self, stop: Stop) -> Ended {
        tokio::select! {
            () = stop.requested(1) => {}
            () = self.sources.ended() => tracing::info!("All input has ended."),
        }
        self.control.stopping();
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
        let drain_timeout = self.drain_timeout;
        let patience = async move {
            stop.requested(1).await;
            tracing::info!(?drain_timeout, "Stopping; a second signal does not wait.");
            tokio::select! {
                () = tokio::time::sleep(drain_timeout) => {}
                () = stop.requested(2) => tracing::warn!("Stopping without waiting for deliveries."),
            }
        };
        let patience = patience.boxed().shared();

        self.sources.stop();
        tokio::select! {
            () = self.sources.ended() => {}
            () = patience.clone() => {}
        }
        let (stdin_alone, broken) = (self.sources.is_stdin_alone(), self.sources.abort());
        let drained = self.sink.drain_until(patience).await;

        // Last, so that probes and metrics can follow the drain. Nobody listens if it is gone.
        self.stop_admin.send(()).ok();
        drop(self.admin.await);
        Ended { drained, stdin_alone, broken }
    }
}

async fn sink_parts(
    config: &Config,
    scripts: Option<Mappings>,
    substitutes: Substitutes,
) -> Result<Parts, Vec<Diagnostic>> {
    let Some(customerio) = config.customerio.clone() else {
        return Err(vec![reload::missing_customerio()]);
    };
    // Why there are none is told by whoever read them.
    let Some(scripts) = scripts else { return Err(Vec::new()) };
    let mut builder = Builder::from_config(config, customerio).mappings(scripts);
    if let Some(destination) = substitutes.destination {
        builder = builder.destination(destination);
    }
    if let Some(store) = substitutes.store {
        builder = builder.store(store);
    }
    builder.parts_with_workers().await
}

/// Tells other commands of this machine where to find this process.
fn announce(sink: &SinkHandle, admin: std::net::SocketAddr) {
    let Some(data_dir) = sink.held_dir() else { return };
    if let Err(error) = data_dir.announce(admin) {
        tracing::warn!(%error, "Other commands will not find this process: cannot write the lock file.");
    }
}

/// Says at the start what an operator has to know.
fn tell_about(sink: &SinkHandle, config: &Config) {
    let rules = sink.rules();
    warn_about(&rules.mapping);
    let recovered = sink.ledger().snapshot().recovered;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        scripts = rules.mapping.hash(),
        data_dir = %config.data_dir.display(),
        recovered,
        "Started.",
    );
    if recovered > 0 {
        tracing::info!(
            events = recovered,
            "Events of an earlier run wait, and are delivered first."
        );
    }
    if !sink.is_durable() {
        tracing::warn!(
            max_bytes = config.buffer.max_size,
            "The buffer is in memory: events that were accepted and not yet delivered are lost if \
             the process is killed. A stop by signal delivers them first, within drain_timeout. \
             With `ack: delivered` senders keep their events until these are delivered.",
        );
    }
    if config.customerio.as_ref().is_some_and(|customerio| customerio.allow_insecure) {
        tracing::warn!("`allow_insecure` is set: credentials may travel unencrypted.");
    }
}

#[cfg(test)]
pub(crate) mod tests;
