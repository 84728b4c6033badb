//! `run`: the pipeline, from its start to the last line.

mod progress;
pub(super) mod signals;
mod voice;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use futures_util::FutureExt;

use self::voice::{Voice, Why};
use super::output::{self, Tone};
use super::{Globals, exit};
use crate::config::{Config, LogFormat, LogLevel};
use crate::diagnostic::Diagnostic;
use crate::outcome::OutcomeKind;
use crate::pipeline::{Ended, Pipeline, Reread, Surroundings, stop};
use crate::telemetry::{logging, recorder};

/// Options of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The first SIGTERM or SIGINT stops the sources and delivers what waits, for at most \
`drain_timeout`; the second one stops at once. What is left stays in the buffer and is delivered at \
the next start.

Examples:
  rudder-customerio run
  rudder-customerio -c production.yaml run
  rudder-customerio -c stdin.yaml run < events.ndjson

SIGHUP reads configuration and scripts again, as POST /reload does at the admin endpoints.

Ends with 0 after a clean stop, 1 if the start failed, if events are lost with the process or stay \
behind damage in the buffer, or if events of standard input as the only source failed or were rejected.")]
pub struct RunArgs {}

/// Codes of diagnostics that tell of the machine and not of the configuration.
const WORLD: [&str; 4] = ["buffer", "data_dir", "listen", "threads"];

/// Runs the command.
pub fn run(_args: RunArgs, globals: &Globals) -> ExitCode {
    let (config, warnings) = match output::config_to_run(globals) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let levels = match logging::init(&config.log, globals.color) {
        Ok(levels) => levels,
        Err(error) => {
            let error_word = output::paint(Tone::Bad, "error:", globals.color);
            output::say(format!("{error_word} cannot set up messages: {error}"));
            return ExitCode::from(exit::FAILURE);
        }
    };
    let voice = Voice { json: config.log.format == LogFormat::Json, color: globals.color };
    voice.report(&warnings);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return voice.failed(&format!("cannot start threads: {error}")),
    };
    let render = match recorder::install() {
        Ok(metrics) => Arc::new(move || metrics.render()),
        Err(error) => return voice.failed(&format!("cannot set up metrics: {error}")),
    };
    let set_log_level = move |level: LogLevel| {
        if let Err(error) = levels.set(level) {
            tracing::warn!(%error, "The level of messages could not be changed.");
        }
    };
    let config_file = globals.config_file();
    let surroundings = Surroundings {
        render: Some(render),
        reread: config_file.clone().map(reread),
        config_file,
        set_log_level: Some(Arc::new(set_log_level)),
    };
    let code = runtime.block_on(until_the_end(config, surroundings, voice));
    // A read of standard input cannot be interrupted; do not wait for it.
    runtime.shutdown_background();
    code
}

/// Reads the configuration as the start did.
fn reread(path: PathBuf) -> Reread {
    Arc::new(move || output::load_to_run(&path))
}

async fn until_the_end(config: Config, surroundings: Surroundings, voice: Voice) -> ExitCode {
    let (stopper, stop) = stop::channel();
    // Before the start, so that a signal during it is not lost.
    if let Err(error) = signals::listen(stopper) {
        return voice.failed(&format!("cannot listen to signals: {error}"));
    }
    let hangups = match signals::Hangups::catch() {
        Ok(hangups) => hangups,
        Err(error) => return voice.failed(&format!("cannot listen to signals: {error}")),
    };
    let pipeline = match Pipeline::start(config, surroundings).await {
        Ok(pipeline) => pipeline,
        Err(faults) => {
            voice.report(&faults);
            return ExitCode::from(start_code(&faults));
        }
    };
    hangups.reload(pipeline.reloads());
    let progress = progress::show(&pipeline);
    let sink = pipeline.handle();
    let ended = pipeline.run_until(stop.clone()).await;
    if let Some(progress) = progress {
        progress.end().await;
    }
    let at_once = stop.requested(2).now_or_never().is_some();
    voice.tell(&ended, &Why { at_once, delivery: sink.stats().delivery });
    ExitCode::from(end_code(&ended))
}

pub(super) fn start_code(faults: &[Diagnostic]) -> u8 {
    let of_the_world = |fault: &Diagnostic| WORLD.contains(&fault.code.as_str());
    if faults.iter().all(of_the_world) { exit::FAILURE } else { exit::CONFIG }
}

fn end_code(ended: &Ended) -> u8 {
    let ledger = &ended.drained.ledger;
    let failures = ledger.total(OutcomeKind::Failed) + ledger.total(OutcomeKind::Rejected);
    let stuck = ended.drained.undelivered > 0 && ended.drained.trouble.is_some();
    let clean = ended.drained.is_clean() && !stuck && ended.broken.is_empty();
    if clean && !(ended.stdin_alone && failures > 0) { exit::SUCCESS } else { exit::FAILURE }
}

#[cfg(test)]
mod tests {
    use crate::diagnostic::Severity;
    use crate::outcome::{Ledger, Outcome, ReasonCode, Tally};
    use crate::sink::Drained;

    use super::*;

    fn ended(outcomes: &[Outcome], undelivered: u64, stdin_alone: bool) -> Ended {
        let ledger = Ledger::default();
        let mut tally = Tally::default();
        outcomes.iter().for_each(|outcome| tally.end(outcome));
        (0..undelivered).for_each(|_| tally.buffer());
        ledger.enter(&tally);
        let ledger = ledger.snapshot();
        let drained = Drained { stored: true, undelivered, durable: false, trouble: None, ledger };
        Ended { drained, stdin_alone, broken: Vec::new() }
    }

    #[test]
    fn failures_matter_to_the_exit_code_on_standard_input_alone() {
        let rejected = [Outcome::Delivered, Outcome::Rejected(ReasonCode::Refused.into())];
        let withheld = [Outcome::Delivered, Outcome::Withheld(ReasonCode::KetchDenied.into())];
        assert_eq!(end_code(&ended(&rejected, 0, false)), exit::SUCCESS);
        assert_eq!(end_code(&ended(&rejected, 0, true)), exit::FAILURE);
        assert_eq!(end_code(&ended(&withheld, 0, true)), exit::SUCCESS);
    }

    #[test]
    fn what_is_lost_with_the_process_is_a_failure() {
        let mut lost = ended(&[], 1, false);
        assert_eq!(end_code(&lost), exit::FAILURE);
        lost.drained.durable = true;
        assert_eq!(end_code(&lost), exit::SUCCESS);
        lost.drained.trouble = Some("row 7 is damaged".to_owned());
        assert_eq!(end_code(&lost), exit::FAILURE, "nobody would look after it");
    }

    #[test]
    fn what_cannot_be_started_cannot_be_reloaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        let read_again = |sources: &str| {
            let text = format!("sources: {sources}\ncustomerio: {{ site_id: a, api_key: b }}\n");
            std::fs::write(&path, text).unwrap();
            reread(path.clone())()
        };
        assert!(read_again("[ { type: stdin } ]").is_ok());
        let faults = read_again("[]").unwrap_err();
        assert_eq!((&*faults[0].code, faults[0].severity), ("no_source", Severity::Error));
    }

    #[test]
    fn a_port_in_use_is_no_mistake_of_the_configuration() {
        let port = Diagnostic::error("listen", "");
        let script = Diagnostic::error("E103", "");
        assert_eq!(start_code(std::slice::from_ref(&port)), exit::FAILURE);
        assert_eq!(start_code(&[port, script]), exit::CONFIG);
    }
}
