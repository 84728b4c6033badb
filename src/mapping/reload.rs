//! Loads changed scripts while the pipeline runs, if they compile and pass their tests.
//!
//! A folder is looked at every second instead of by file events: that works the same on local
//! disks, in containers, and on mounted config maps, which are swapped by links.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Check, Mapping, Scripts, Settings, run_suite};
use crate::diagnostic::{Diagnostic, Place};

/// How often a folder is looked at.
pub const PERIOD: Duration = Duration::from_secs(1);

/// A folder of scripts whose changes are loaded.
#[derive(Debug)]
pub struct Watcher {
    dir: PathBuf,
    settings: Settings,
    /// What was looked at last, in force or refused.
    last: Option<Result<Scripts, Vec<Diagnostic>>>,
}

impl Watcher {
    /// Watches `dir`, whose present content is in force.
    #[must_use]
    pub fn new(dir: PathBuf, settings: Settings) -> Self {
        let last = Some(Scripts::read(&dir));
        Self { dir, settings, last }
    }

    /// Looks at the folder; returns nothing if it is as it was. Blocks while it compiles and tests.
    pub fn look(&mut self, check: Check<'_>) -> Option<Result<Arc<Mapping>, Vec<Diagnostic>>> {
        let read = Scripts::read(&self.dir);
        if self.last.as_ref() == Some(&read) {
            return None;
        }
        let loaded = match &read {
            Ok(scripts) => accept(scripts, &self.settings, check),
            Err(faults) => Err(faults.clone()),
        };
        self.last = Some(read);
        Some(loaded)
    }

    /// Loads the folder whether it changed or not.
    ///
    /// # Errors
    ///
    /// As [`accept`], and what cannot be read.
    pub fn load(&mut self, check: Check<'_>) -> Result<Arc<Mapping>, Vec<Diagnostic>> {
        let read = Scripts::read(&self.dir);
        let loaded = match &read {
            Ok(scripts) => accept(scripts, &self.settings, check),
            Err(faults) => Err(faults.clone()),
        };
        self.last = Some(read);
        loaded
    }
}

/// Compiles scripts and runs their tests.
///
/// # Errors
///
/// Diagnostics of the compiler, and one per failed test.
pub fn accept(
    scripts: &Scripts,
    settings: &Settings,
    check: Check<'_>,
) -> Result<Arc<Mapping>, Vec<Diagnostic>> {
    let mapping = Mapping::load(scripts, settings)?;
    let report = run_suite(scripts, settings, &[], check);
    let mut faults = report.diagnostics;
    faults.extend(report.failed.into_iter().map(|(file, case, text)| {
        Diagnostic::error("test_failed", format!("the test `{case}` fails: {}", text.trim()))
            .at(Place { file: scripts.shown(&file), ..Place::default() })
            .help("mend the script or the test; the scripts in force stay until then")
    }));
    if faults.is_empty() { Ok(Arc::new(mapping)) } else { Err(faults) }
}
