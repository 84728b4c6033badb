//! Replay: dead letters back through today's scripts and rules.
//!
//! Each letter's original event is walked once as a test. One that fails again stays where it is.
//! Every other goes into the sink like a new event, with the ids and times that it had; consent is
//! asked again. Then the letter is marked in a file beside the dead letters. A durable buffer
//! remembers the letter in the commit that stores its event, so an end of the process between
//! commit and mark does not replay it twice. With a buffer in memory a letter is marked when its
//! event has ended; an end of the process before may send it twice, under the same event ids.
//!
//! An event that is rejected again becomes a new dead letter; the old one stays marked.

mod bench;
mod engine;
mod report;
mod shelf;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use self::bench::Bench;
use self::engine::{Engine, Target};
use crate::config::{Config, SourceConfig};
use crate::delivery::dead_letter::read::{self, LetterFile};
use crate::sink::SinkHandle;
#[cfg(feature = "cli")]
use crate::sink::{Parts, Rules};

#[cfg(feature = "cli")]
pub use report::Example;
pub use report::{Ending, Message, Report};

/// Messages that wait for a reader before the replay waits for him.
const MESSAGES: usize = 16;

/// Which letters are replayed, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Files to read; none: every file of the folder, in order.
    pub files: Vec<PathBuf>,
    /// Reason codes; none: every reason.
    pub reasons: Vec<String>,
    /// Only letters that were written at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Tells what would happen, and does nothing.
    pub dry_run: bool,
    /// Events per second at most.
    pub rate: Option<u32>,
}

/// Why a replay does not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another one is under way.
    Busy,
    /// The selection names what is not there or not permitted; a text for the operator.
    Invalid(String),
    /// The dead letters cannot be read; a text for the operator.
    Unreadable(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Busy => f.write_str("another replay is under way"),
            Self::Invalid(why) | Self::Unreadable(why) => f.write_str(why),
        }
    }
}

/// A replay under way. It stops at the next batch once nobody receives its messages.
#[derive(Debug)]
pub struct Running {
    /// Notices, progress, and at last the end.
    pub messages: mpsc::Receiver<Message>,
    /// Gives the report when the replay has ended or stopped.
    #[cfg_attr(
        not(feature = "cli"),
        expect(dead_code, reason = "the endpoint follows a replay by its messages")
    )]
    pub task: JoinHandle<Report>,
}

/// Replays the letters of one data directory, one replay at a time.
#[derive(Debug)]
pub struct Replays {
    target: Target,
    dir: PathBuf,
    source_types: Arc<HashMap<String, Arc<str>>>,
    turn: Arc<Semaphore>,
    /// Whether only files of the folder may be named.
    confined: bool,
}

impl Replays {
    /// Makes replays that go through a running sink.
    #[must_use]
    pub fn new(config: &Config, sink: &SinkHandle) -> Self {
        let rules = sink.clone();
        Self::with(
            config,
            Target {
                rules: Arc::new(move || rules.rules()),
                buffer: Arc::clone(sink.buffer()),
                intake: Some(sink.intake().clone()),
            },
        )
    }

    /// Makes replays that only tell what would happen, from a sink that is not started.
    #[must_use]
    #[cfg(feature = "cli")]
    pub fn dry(config: &Config, parts: &Parts) -> Self {
        let Rules { filter, mapping } = &parts.rules;
        let rules = Arc::new(Rules { filter: Arc::clone(filter), mapping: Arc::clone(mapping) });
        Self::with(
            config,
            Target {
                rules: Arc::new(move || Arc::clone(&rules)),
                buffer: Arc::clone(&parts.buffer),
                intake: None,
            },
        )
    }

    fn with(config: &Config, target: Target) -> Self {
        let mut source_types = HashMap::new();
        for source in &config.sources {
            let SourceConfig::RudderStack(gateway) = source else { continue };
            for key in &gateway.write_keys {
                let name = if key.name.is_empty() { "rudderstack" } else { &*key.name };
                source_types.entry(name.to_owned()).or_insert_with(|| Arc::from(&*key.source_type));
            }
        }
        Self {
            target,
            dir: config.data_dir.join(&config.dead_letters.dir),
            source_types: Arc::new(source_types),
            turn: Arc::new(Semaphore::new(1)),
            confined: false,
        }
    }

    /// Lets requests name files of the folder alone: who may ask for a replay may not read what
    /// the process can read.
    #[must_use]
    pub fn confined(self) -> Self {
        Self { confined: true, ..self }
    }

    /// Begins a replay.
    ///
    /// # Errors
    ///
    /// Why it does not begin; then nothing was done.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[cfg(feature = "cli")]
    pub fn start(&self, selection: Selection) -> Result<Running, Refusal> {
        self.start_with(selection, Vec::new())
    }

    /// As [`Replays::start`], with warnings that stand before everything else.
    ///
    /// # Errors
    ///
    /// As [`Replays::start`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start_with(
        &self,
        selection: Selection,
        warnings: Vec<String>,
    ) -> Result<Running, Refusal> {
        let turn = Arc::clone(&self.turn).try_acquire_owned().map_err(|_| Refusal::Busy)?;
        if selection.rate == Some(0) {
            return Err(Refusal::Invalid("`rate` must be at least 1 event per second".to_owned()));
        }
        let files = self.files(&selection)?;
        let unreadable = |error: io::Error| Refusal::Unreadable(error.to_string());
        let dry_run = selection.dry_run || self.target.intake.is_none();
        let selection = Selection { dry_run, ..selection };
        let of_bytes = files.iter().map(|file| file.bytes).sum();
        let report = Report { of_bytes, dry_run, ..Report::default() };
        let bench = Bench::start(self.dir.clone(), files, selection.clone()).map_err(unreadable)?;
        let (out, messages) = mpsc::channel(MESSAGES);
        let source_types = Arc::clone(&self.source_types);
        let target = self.target.clone();
        let engine = Engine::new(target, selection, bench, report, out, source_types);
        let task = tokio::spawn(async move {
            let _turn = turn;
            engine.run(warnings).await
        });
        Ok(Running { messages, task })
    }

    fn files(&self, selection: &Selection) -> Result<Vec<LetterFile>, Refusal> {
        if selection.files.is_empty() {
            return read::list(&self.dir).map_err(|e| Refusal::Unreadable(e.to_string()));
        }
        let within = self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone());
        let mut files: Vec<LetterFile> = Vec::new();
        for named in &selection.files {
            let invalid = |why: &dyn std::fmt::Display| {
                Refusal::Invalid(format!("{}: {why}", named.display()))
            };
            // Before its content matters: nothing is told of files elsewhere, not even that they
            // are there.
            let path = named.canonicalize();
            if self.confined && !path.as_ref().is_ok_and(|path| path.starts_with(&within)) {
                return Err(invalid(&format_args!(
                    "not a file in {}; a running process replays no other: put it there, or stop \
                     the process",
                    self.dir.display()
                )));
            }
            let path = path.map_err(|error| invalid(&error))?;
            let file = std::fs::metadata(&path).map_err(|error| invalid(&error))?;
            if !file.is_file() {
                return Err(invalid(&"not a file"));
            }
            // Marks name files of the folder as it is named here.
            let path = match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) if parent == within => self.dir.join(name),
                _ => path,
            };
            if files.iter().all(|other| other.path != path) {
                files.push(LetterFile { path, bytes: file.len() });
            }
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests;
