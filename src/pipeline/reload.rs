//! Another configuration and other scripts while running: by a request, or when a file changes.
//!
//! Everything is read and checked before anything changes: if anything is wrong, all stays as it
//! was, and the reasons are logged, shown in `/status`, and returned. What takes effect is told at
//! [`Changes`](crate::config::Changes).

mod candidate;
mod watch;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};

pub(super) use self::candidate::{Part, missing_customerio, scripts};

use self::candidate::{Candidate, Refused};
use crate::admin::Reloaded;
use crate::config::{Config, CustomerIoConfig, LogLevel};
use crate::delivery::Tuning;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::filter::Filter;
use crate::mapping::{Mapping, Mappings};
use crate::sink::scripts::warn_about;
use crate::sink::{Rules, SinkHandle, on_mapping_stack};
use crate::source::rudderstack::SourceConfigView;

/// Reads the configuration again: what is checked and right, with its warnings, or every mistake.
pub type Reread = Arc<dyn Fn() -> Result<(Config, Vec<Diagnostic>), Diagnostics> + Send + Sync>;

/// Puts another level of messages in force.
pub type SetLogLevel = Arc<dyn Fn(LogLevel) + Send + Sync>;

/// Asks a running pipeline to reload; cheap to clone.
#[derive(Clone, Debug)]
pub struct Reloads {
    reloader: Arc<Reloader>,
}

impl Reloads {
    pub(super) fn new(reloader: Arc<Reloader>) -> Self {
        Self { reloader }
    }

    /// Loads configuration and scripts anew, after every reload that is under way.
    ///
    /// # Errors
    ///
    /// Text for the operator with everything for which the reload is refused; then nothing has
    /// changed.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// A reload that has begun is finished when the future is dropped.
    pub async fn reload(&self) -> Result<Reloaded, String> {
        let reloader = Arc::clone(&self.reloader);
        let reload = tokio::spawn(async move { reloader.reload(Trigger::Request).await });
        reload.await.unwrap_or_else(|_| Err("the reload was not finished".to_owned()))
    }
}

/// What makes a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    /// Somebody who wants to know how it went, whatever came of it.
    Request,
    /// A look at the files, which may see the same mistake again.
    Look,
}

/// Where a pipeline's configuration came from, and who else has to know of another one.
pub(super) struct Surroundings {
    pub(super) reread: Option<Reread>,
    pub(super) file: Option<PathBuf>,
    pub(super) set_log_level: Option<SetLogLevel>,
    pub(super) public: SourceConfigView,
}

/// What is in force.
struct InForce {
    /// What the process started with, with the keys that took effect since.
    config: Config,
    scripts: Mappings,
    loaded_at: DateTime<Utc>,
    needs_restart: Vec<String>,
}

/// Loads configuration and scripts anew and puts them in force.
pub(super) struct Reloader {
    started: Arc<Config>,
    sink: SinkHandle,
    surroundings: Surroundings,
    /// One reload at a time.
    turn: tokio::sync::Mutex<()>,
    in_force: ArcSwap<InForce>,
    /// Why the last reload was refused, if it was, and on account of what.
    error: Mutex<Option<(Part, String)>>,
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").field("sink", &self.sink).finish_non_exhaustive()
    }
}

impl Reloader {
    /// Begins with what the pipeline was started with.
    pub(super) fn new(
        started: Config,
        scripts: Mappings,
        sink: SinkHandle,
        surroundings: Surroundings,
    ) -> Self {
        let in_force = InForce {
            config: started.clone(),
            scripts,
            loaded_at: Utc::now(),
            needs_restart: Vec::new(),
        };
        Self {
            started: Arc::new(started),
            sink,
            surroundings,
            turn: tokio::sync::Mutex::default(),
            in_force: ArcSwap::from_pointee(in_force),
            error: Mutex::default(),
        }
    }

    /// Returns why the last reload was refused, if it was on account of this part.
    pub(super) fn error(&self, of: Part) -> Option<String> {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        error.as_ref().filter(|(part, _)| *part == of).map(|(_, reasons)| reasons.clone())
    }

    /// Returns since when the configuration is as it is, and which keys wait for a restart.
    pub(super) fn state(&self) -> (DateTime<Utc>, Vec<String>) {
        let in_force = self.in_force.load();
        (in_force.loaded_at, in_force.needs_restart.clone())
    }

    async fn reload(&self, trigger: Trigger) -> Result<Reloaded, String> {
        let _turn = self.turn.lock().await;
        let now = self.in_force.load_full();
        let (reread, started) = (self.surroundings.reread.clone(), Arc::clone(&self.started));
        let (known, rules) = (Arc::clone(&now), self.sink.rules());
        let threads = self.sink.mapping_threads();
        let read = on_mapping_stack(move || {
            let read = Candidate::read(reread.as_ref(), &started, &known, rules.mapping.hash())?;
            if let Some(mapping) = &read.mapping {
                mapping.prepare(threads);
            }
            Ok(read)
        });
        let read = read.await;
        // From here to the end nothing waits, so that nothing is applied by half.
        let outcome = match read {
            Ok(Ok(candidate)) => {
                let applied = self.apply(candidate, &now, trigger);
                applied.map_err(|faults| (Part::Configuration, text(&faults)))
            }
            Ok(Err(Refused { part, faults })) => Err((part, text(&faults))),
            Err(error) => Err((Part::Mappings, format!("nothing could be loaded: {error}"))),
        };
        let refused = outcome.as_ref().err().cloned();
        let before = std::mem::replace(
            &mut *self.error.lock().unwrap_or_else(PoisonError::into_inner),
            refused.clone(),
        );
        match refused {
            Some(refused) if trigger == Trigger::Request || before.as_ref() != Some(&refused) => {
                let (part, reasons) = refused;
                tracing::error!(
                    "The reload is refused, and everything stays as it was:\n{reasons}"
                );
                crate::telemetry::error("reload", part.stage());
            }
            None if before.is_some() => {
                tracing::info!("What a reload was refused for before is mended.");
            }
            _ => {}
        }
        outcome.map_err(|(_, reasons)| reasons)
    }

    /// Puts in force what was read. Only the first step can fail.
    fn apply(
        &self,
        read: Candidate,
        now: &InForce,
        trigger: Trigger,
    ) -> Result<Reloaded, Vec<Diagnostic>> {
        let Candidate { config, changes, warnings, scripts, mapping } = read;
        let changed = |key: &str| changes.applied.iter().any(|path| path.starts_with(key));
        let destination = changed("customerio.site_id")
            || changed("customerio.api_key")
            || changed("customerio.retry");
        if let (Some(customerio), true) = (&config.customerio, destination) {
            self.sink.destination().reconfigure(customerio)?;
        }
        let hash = self.sink.rules().mapping.hash().to_owned();
        let filter = changed("filter") || changed("consent");
        self.swap_rules(&config, filter, mapping);
        if let Some(customerio) = &config.customerio {
            self.retune(customerio, now.config.customerio.as_ref(), destination);
        }
        if changed("dead_letters") {
            self.sink.dead_letters().retune(&config.dead_letters);
        }
        if let (Some(set), true) = (&self.surroundings.set_log_level, changed("log.level")) {
            set(config.log.level);
        }
        let rules = self.sink.rules();
        let reloaded = Reloaded {
            hash: rules.mapping.hash().to_owned(),
            scripts: rules.mapping.hash() != hash,
            applied: changes.applied,
            needs_restart: changes.needs_restart,
        };
        let told = trigger == Trigger::Request || reloaded.is_change();
        if told {
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        tell(&reloaded, &now.needs_restart, trigger);
        let loaded_at = if reloaded.is_change() { Utc::now() } else { now.loaded_at };
        let needs_restart = reloaded.needs_restart.clone();
        self.in_force.store(Arc::new(InForce { config, scripts, loaded_at, needs_restart }));
        Ok(reloaded)
    }

    /// Swaps filter and mapping in one step, if one of them is another.
    fn swap_rules(&self, config: &Config, filter: bool, mapping: Option<Arc<Mapping>>) {
        if !filter && mapping.is_none() {
            return;
        }
        let old = self.sink.rules();
        let filter = match filter {
            true => Arc::new(Filter::new(&config.filter, &config.consent)),
            false => Arc::clone(&old.filter),
        };
        if let Some(mapping) = &mapping {
            warn_about(mapping);
        }
        let mapping = mapping.unwrap_or_else(|| Arc::clone(&old.mapping));
        self.sink.put_in_force(Rules { filter, mapping });
        self.surroundings.public.replace(&config.filter, &config.consent);
    }

    fn retune(&self, new: &CustomerIoConfig, old: Option<&CustomerIoConfig>, destination: bool) {
        let tuning = Tuning::from(new);
        if old.map(Tuning::from).as_ref() != Some(&tuning) {
            self.sink.delivery().retune(tuning);
        }
        if destination {
            self.sink.delivery().try_again();
        }
    }
}

/// Logs what a reload did; one that nobody asked for and that did nothing goes without a word.
fn tell(reloaded: &Reloaded, waiting_before: &[String], trigger: Trigger) {
    let hash = &reloaded.hash;
    if reloaded.is_change() {
        tracing::info!(scripts = hash, applied = reloaded.effects(), "Reloaded.");
    } else if trigger == Trigger::Request {
        tracing::info!(scripts = hash, "Reloaded: nothing that takes effect now has changed.");
    }
    let new = reloaded.needs_restart != waiting_before || trigger == Trigger::Request;
    if new && !reloaded.needs_restart.is_empty() {
        tracing::warn!(
            keys = reloaded.needs_restart.join(", "),
            "Some keys of the configuration need a restart to take effect.",
        );
    }
}

fn text(faults: &[Diagnostic]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
