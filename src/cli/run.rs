//! `run`: the pipeline, from its start to the last line.

mod progress;
pub(super) mod signals;

use std::process::ExitCode;
use std::sync::Arc;

use rudder_customerio::config::Config;
use rudder_customerio::diagnostic::Diagnostic;
use rudder_customerio::outcome::{LedgerSnapshot, OutcomeKind};
use rudder_customerio::pipeline::{Ended, Pipeline, Surroundings, stop};
use rudder_customerio::telemetry::{logging, recorder};

use super::output::{self, Tone, count};
use super::{Globals, exit};

/// Options of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The first SIGTERM or SIGINT stops the sources and delivers what waits, for at most `drain_timeout`;
the second one stops at once.

Examples:
  rudder-customerio run
  rudder-customerio -c production.yaml run
  rudder-customerio -c stdin.yaml run < events.ndjson

Ends with 0 after a clean stop, 1 if events that were only in memory are lost with the process, or if
events of standard input as the only source failed or were rejected.")]
pub struct RunArgs {}

/// Codes of diagnostics that tell of the machine and not of the configuration.
const WORLD: [&str; 3] = ["data_dir", "listen", "threads"];

/// Runs the command.
pub fn run(_args: RunArgs, globals: &Globals) -> ExitCode {
    let config = match output::required_config(globals) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(globals, &format!("cannot start threads: {error}")),
    };
    if let Err(error) = logging::init(&config.log, globals.color) {
        return failed(globals, &format!("cannot set up messages: {error}"));
    }
    let render = match recorder::install() {
        Ok(metrics) => Arc::new(move || metrics.render()),
        Err(error) => return failed(globals, &format!("cannot set up metrics: {error}")),
    };
    let surroundings = Surroundings { render: Some(render), ..Surroundings::default() };
    let code = runtime.block_on(until_the_end(config, surroundings, globals));
    // A read of standard input cannot be interrupted; do not wait for it.
    runtime.shutdown_background();
    code
}

async fn until_the_end(config: Config, surroundings: Surroundings, globals: &Globals) -> ExitCode {
    let (stopper, stop) = stop::channel();
    // Before the start, so that a signal during it is not lost.
    if let Err(error) = signals::listen(stopper) {
        return failed(globals, &format!("cannot listen to signals: {error}"));
    }
    let pipeline = match Pipeline::start(config, surroundings).await {
        Ok(pipeline) => pipeline,
        Err(faults) => {
            output::report(&faults, globals.color);
            return ExitCode::from(start_code(&faults));
        }
    };
    let progress = progress::show(&pipeline);
    let ended = pipeline.run_until(stop).await;
    if let Some(progress) = progress {
        progress.end().await;
    }
    tell(&ended, globals);
    ExitCode::from(end_code(&ended))
}

fn failed(globals: &Globals, text: &str) -> ExitCode {
    output::say(format!("{} {text}", output::paint(Tone::Bad, "error:", globals.color)));
    ExitCode::from(exit::FAILURE)
}

fn start_code(faults: &[Diagnostic]) -> u8 {
    let of_the_world = |fault: &Diagnostic| WORLD.contains(&fault.code.as_str());
    if faults.iter().all(of_the_world) { exit::FAILURE } else { exit::CONFIG }
}

fn end_code(ended: &Ended) -> u8 {
    let ledger = &ended.drained.ledger;
    let failures = ledger.total(OutcomeKind::Failed) + ledger.total(OutcomeKind::Rejected);
    let clean = ended.drained.is_clean() && ended.broken.is_empty();
    if clean && !(ended.stdin_alone && failures > 0) { exit::SUCCESS } else { exit::FAILURE }
}

/// Shows the account, and what is left.
fn tell(ended: &Ended, globals: &Globals) {
    output::say(account(&ended.drained.ledger));
    let left = ended.drained.undelivered;
    if left > 0 {
        let left = count(usize::try_from(left).unwrap_or(usize::MAX), "event");
        output::say(if ended.drained.durable {
            format!("{left} stay in the buffer for the next start")
        } else {
            let error = output::paint(Tone::Bad, "error:", globals.color);
            format!(
                "{error} lost {left} that waited in memory; a longer drain_timeout waits longer"
            )
        });
    }
}

/// Writes the ledger as one line, without what is zero.
fn account(ledger: &LedgerSnapshot) -> String {
    let mut parts = vec![format!("received {}", ledger.received)];
    let mut add = |name: &str, n: u64| {
        if n > 0 {
            parts.push(format!("{name} {n}"));
        }
    };
    add("recovered", ledger.recovered);
    for kind in OutcomeKind::ALL {
        add(kind.as_str(), ledger.total(kind));
    }
    add("buffered", ledger.buffered);
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use rudder_customerio::outcome::{Ledger, Outcome, ReasonCode, Tally};
    use rudder_customerio::sink::Drained;

    use super::*;

    fn ended(outcomes: &[Outcome], undelivered: u64, stdin_alone: bool) -> Ended {
        let ledger = Ledger::default();
        let mut tally = Tally::default();
        outcomes.iter().for_each(|outcome| tally.end(outcome));
        (0..undelivered).for_each(|_| tally.buffer());
        ledger.enter(&tally);
        let ledger = ledger.snapshot();
        let drained = Drained { stored: true, undelivered, durable: false, ledger };
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
    }

    #[test]
    fn a_port_in_use_is_no_mistake_of_the_configuration() {
        let port = Diagnostic::error("listen", "");
        let script = Diagnostic::error("E103", "");
        assert_eq!(start_code(std::slice::from_ref(&port)), exit::FAILURE);
        assert_eq!(start_code(&[port, script]), exit::CONFIG);
    }

    #[test]
    fn the_last_line_shows_what_is_not_zero_in_the_order_of_the_pipeline() {
        let outcomes = [
            Outcome::Delivered,
            Outcome::Failed(ReasonCode::ScriptError.into()),
            Outcome::Delivered,
        ];
        let ended = ended(&outcomes, 1, true);
        assert_eq!(account(&ended.drained.ledger), "received 4, failed 1, delivered 2, buffered 1");
    }
}
