//! From event to operations by VRL scripts: compile, run, reload, test.
//!
//! The only place that knows VRL's compiler.

pub mod scripts;

use std::path::Path;
use std::sync::Arc;

use vrl::value::Value;

use crate::diagnostic::Diagnostic;
use crate::event::{Plan, TypeIndex};
use crate::outcome::Reason;

pub use scripts::Scripts;

/// Values that scripts see as `%customerio.<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of one more track event that registers a device token; empty names none.
    pub device_token_event_name: String,
    /// What a `record` event describes: `person` or `event`.
    pub record_object: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { device_token_event_name: String::new(), record_object: "person".to_owned() }
    }
}

/// Compiled scripts: an immutable snapshot, swapped whole on reload.
#[derive(Debug)]
pub struct Mapping {}

impl Mapping {
    /// Compiles every listed script and proves what may be pruned.
    ///
    /// # Errors
    ///
    /// All diagnostics of all scripts, with file, line, and column.
    pub fn load(scripts: &Scripts, settings: &Settings) -> Result<Self, Vec<Diagnostic>> {
        let _ = (scripts, settings);
        todo!()
    }

    /// Returns what the decoder has to build per type.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        todo!()
    }

    /// Returns warnings of the compilation.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        todo!()
    }

    /// Returns the SHA-256 (hex, first 16 digits) of the scripts and their list.
    #[must_use]
    pub fn hash(&self) -> &str {
        todo!()
    }

    /// Returns the name of the last file of the type's list, such as `track.vrl`.
    #[must_use]
    pub fn file(&self, index: TypeIndex) -> &str {
        let _ = index;
        todo!()
    }

    /// Makes a worker; every thread has its own (programs are compiled once per worker, so that
    /// reference counts are not shared between cores). Run it on a thread with a 16 MiB stack.
    #[must_use]
    pub fn worker(self: &Arc<Self>) -> Mapper {
        todo!()
    }
}

/// Runs scripts on one thread.
#[derive(Debug)]
pub struct Mapper {}

/// What a run gave.
#[derive(Debug)]
pub enum Mapped {
    /// The value of `.` at the end, not checked yet.
    Root(Value),
    /// The script called `abort`.
    Dropped(Reason),
    /// The script failed, used up its budget, or panicked.
    Failed(Reason),
}

impl Mapper {
    /// Runs the type's script on the event's value.
    pub fn map(&mut self, index: TypeIndex, event: Value) -> Mapped {
        let _ = (index, event);
        todo!()
    }
}

/// Result of the mapping's own tests.
#[derive(Debug, Default)]
pub struct SuiteReport {
    /// Cases that passed.
    pub passed: usize,
    /// Failed cases: file, case name, and text with the difference.
    pub failed: Vec<(String, String, String)>,
    /// Files that could not be read as tests.
    pub diagnostics: Vec<Diagnostic>,
    /// Remarks on coverage: scripts without a case, paths that no test event contains.
    pub notes: Vec<String>,
}

/// Runs the tests in the given files or folders (default: `tests/` beside the scripts).
#[must_use]
pub fn run_suite(scripts: &Scripts, settings: &Settings, paths: &[&Path]) -> SuiteReport {
    let _ = (scripts, settings, paths);
    todo!()
}
