//! `replay`: dead letters back through the current scripts.
//!
//! If a process holds the data directory, its admin endpoint does the work and this command shows
//! it; otherwise the command delivers by itself, and ends when everything is delivered.

mod alone;
mod arguments;
mod display;
mod through;

use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Utc};

use super::output::{self, Tone};
use super::run::signals;
use super::{Globals, exit};
use crate::config::Config;
use crate::pipeline::stop::{self, Stop};
use crate::replay::Selection;
use crate::telemetry::logging;

/// Options of `replay`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A letter is replayed once: the command can be repeated, and goes on where it was stopped. Events keep \
their ids. A letter whose event fails again stays where it is; an event that is rejected again becomes \
a new letter. Consent is asked again, with today's rules.

An old identify may overwrite newer values of a person. With --dry-run the command tells how many \
letters Customer.io may have applied at the time (unknown): months later these may be doubled.

Examples:
  rudder-customerio replay --dry-run
  rudder-customerio replay --reason script_error --since 7d
  rudder-customerio replay --rate 50/s data/dead-letters/2026-01-31-1.ndjson

Ends with 0 if every selected letter is done with, 1 if some still fail, are rejected again, or cannot \
be read, and if the replay was stopped.")]
pub struct ReplayArgs {
    /// Read these files instead of all in the folder of dead letters
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Replay letters of this reason only; may be repeated
    #[arg(long, value_name = "REASON", value_parser = arguments::reasons(), hide_possible_values = true)]
    reason: Vec<String>,

    /// Replay letters written since then: 2026-01-31, 2026-01-31T12:00:00Z, or 7d, 12h, 30m ago
    #[arg(long, value_name = "TIME", value_parser = arguments::since)]
    since: Option<DateTime<Utc>>,

    /// Tell what would happen, and send nothing
    #[arg(long)]
    dry_run: bool,

    /// Replay at most so many events per second, such as 50/s
    #[arg(long, value_name = "N/s", value_parser = arguments::rate)]
    rate: Option<u32>,
}

/// Runs the command.
pub fn run(args: ReplayArgs, globals: &Globals) -> ExitCode {
    let (config, warnings) = match output::required_config(globals) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let failed = |text: &str| failed(text, globals.color);
    if let Err(error) = logging::init(&config.log, globals.color) {
        return failed(&format!("cannot set up messages: {error}"));
    }
    output::report(&warnings, globals.color);
    let files: std::io::Result<Vec<_>> = args.files.iter().map(std::path::absolute).collect();
    let files = match files {
        Ok(files) => files,
        Err(error) => return failed(&format!("cannot find the working directory: {error}")),
    };
    let ReplayArgs { reason: reasons, since, dry_run, rate, .. } = args;
    let selection = Selection { files, reasons, since, dry_run, rate };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start threads: {error}")),
    };
    let code = runtime.block_on(async {
        let (stopper, stop) = stop::channel();
        match signals::listen(stopper) {
            Ok(()) => replay(&config, selection, stop, globals.color).await,
            Err(error) => failed(&format!("cannot listen to signals: {error}")),
        }
    });
    runtime.shutdown_background();
    code
}

async fn replay(config: &Config, selection: Selection, stop: Stop, color: bool) -> ExitCode {
    match through::holder(config) {
        Ok(Some(admin)) => through::replay(config, admin, &selection, &stop, color).await,
        Ok(None) => alone::replay(config, selection, stop, color).await,
        Err(error) => failed(&error, color),
    }
}

fn failed(text: &str, color: bool) -> ExitCode {
    output::say(format!("{} {text}", output::paint(Tone::Bad, "error:", color)));
    ExitCode::from(exit::FAILURE)
}
