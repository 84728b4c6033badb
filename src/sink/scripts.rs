//! Scripts of a sink: their own tests, and others while it runs.

use std::path::Path;
use std::sync::Arc;

use super::builder::no_thread;
use super::{Rules, SinkHandle, on_mapping_stack};
use crate::config::{ConsentConfig, FilterConfig};
use crate::diagnostic::{Diagnostic, Severity};
use crate::filter::Filter;
use crate::mapping::{Mapping, Mappings, Settings, SuiteReport, run_suite};
use crate::operation::grammar::check_root;

/// Runs the tests of scripts in the given files or folders; with none, those in `tests/` beside the
/// scripts.
#[must_use]
pub fn test_mappings(mappings: &Mappings, settings: &Settings, paths: &[&Path]) -> SuiteReport {
    run_suite(mappings, settings, paths, &check_root)
}

/// Logs what is to be said about scripts that are right.
pub(crate) fn warn_about(mapping: &Mapping) {
    for warning in mapping.warnings().iter().filter(|w| w.severity == Severity::Warning) {
        tracing::warn!(code = warning.code, "A script has a warning: {}.", warning.message);
    }
    for note in mapping.notes() {
        tracing::debug!("Events of a script map slower: {note}.");
    }
}

impl SinkHandle {
    /// Compiles scripts and puts them in force, together with the rules for what may be sent.
    /// Batches whose mapping has begun keep the old ones.
    ///
    /// The scripts' own tests are not run; see [`test_mappings`].
    ///
    /// # Errors
    ///
    /// Diagnostics of the scripts. What was in force stays so.
    pub async fn reload(
        &self,
        filter: &FilterConfig,
        consent: &ConsentConfig,
        mappings: Mappings,
        settings: Settings,
    ) -> Result<(), Vec<Diagnostic>> {
        let threads = self.mapping_threads();
        let compile = move || {
            let mapping = Arc::new(Mapping::load(&mappings, &settings)?);
            mapping.prepare(threads);
            Ok::<_, Vec<Diagnostic>>(mapping)
        };
        let mapping =
            on_mapping_stack(compile).await.map_err(|error| vec![no_thread(&error)])??;
        warn_about(&mapping);
        let filter = Arc::new(Filter::new(filter, consent));
        self.put_in_force(Rules { filter, mapping });
        Ok(())
    }
}
