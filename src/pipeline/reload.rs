//! Other scripts while running: by `POST /reload`, or when a file changes.
//!
//! New scripts come into force only if they compile and their tests pass; otherwise the old ones
//! stay, and the reasons are logged and shown in `/status`.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

use crate::config::MappingConfig;
use crate::diagnostic::Diagnostic;
use crate::mapping::Scripts;
use crate::mapping::reload::{PERIOD, Watcher, accept};
use crate::operation::grammar::check_root;
use crate::sink::{Rules, SinkHandle, on_mapping_stack};

/// Loads scripts anew and puts them in force.
#[derive(Debug)]
pub(super) struct Reloader {
    config: MappingConfig,
    sink: SinkHandle,
    /// One reload at a time.
    turn: tokio::sync::Mutex<()>,
    error: Mutex<Option<String>>,
}

impl Reloader {
    pub(super) fn new(config: &MappingConfig, sink: SinkHandle) -> Self {
        let (turn, error) = (tokio::sync::Mutex::default(), Mutex::default());
        Self { config: config.clone(), sink, turn, error }
    }

    /// Returns why the last reload was refused, if it was.
    pub(super) fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads the scripts and returns the hash of those in force, or why they are refused.
    pub(super) async fn reload(&self) -> Result<String, String> {
        let _turn = self.turn.lock().await;
        let (dir, settings) = (self.config.dir.clone(), self.config.settings.clone());
        let loaded = on_mapping_stack(move || {
            let scripts = match &dir {
                Some(dir) => Scripts::read(dir).map_err(|faults| text(&faults))?,
                None => Scripts::built_in(),
            };
            accept(&scripts, &settings, &check_root).map_err(|faults| text(&faults))
        });
        let loaded = match loaded.await {
            Ok(loaded) => loaded,
            Err(error) => Err(format!("the scripts could not be loaded: {error}")),
        };
        let refused = loaded.as_ref().err().cloned();
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        match loaded {
            Ok(mapping) => {
                let hash = mapping.hash().to_owned();
                let filter = Arc::clone(&self.sink.rules().filter);
                self.sink.reload(Rules { filter, mapping: Arc::new(mapping) });
                tracing::info!(scripts = hash, "Scripts loaded.");
                Ok(hash)
            }
            Err(reasons) => {
                tracing::error!("New scripts are refused, the old ones stay in force:\n{reasons}");
                crate::telemetry::error("reload", "mapping");
                Err(reasons)
            }
        }
    }

    /// Watches the folder of scripts, if there is one and `watch` asks for it.
    pub(super) fn watch(this: &Arc<Self>, watch: bool) -> Option<JoinHandle<()>> {
        let dir = this.config.dir.clone().filter(|_| watch)?;
        let this = Arc::clone(this);
        Some(tokio::spawn(async move {
            let mut watcher = Watcher::new(dir);
            loop {
                tokio::time::sleep(PERIOD).await;
                let look = tokio::task::spawn_blocking(move || (watcher.changed(), watcher));
                let Ok((changed, back)) = look.await else { return };
                watcher = back;
                if changed {
                    // Why a reload is refused is logged and shown there.
                    drop(this.reload().await);
                }
            }
        }))
    }
}

fn text(faults: &[Diagnostic]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
