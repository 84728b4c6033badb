//! A replay without a running process: the sink in this one, without sources.

use std::process::ExitCode;

use futures_util::FutureExt;
use tokio::time::{Duration, interval, sleep};

use super::display::Display;
use super::failed;
use crate::cli::exit;
use crate::cli::output::{self, count};
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::mapping::Mappings;
use crate::outcome::OutcomeKind;
use crate::pipeline::stop::Stop;
use crate::replay::{Replays, Running, Selection};
use crate::sink::{Builder, CustomerIoSink, Drained, SinkHandle};

/// Pause between two lines about what waits.
const PAUSE: Duration = Duration::from_secs(1);

/// Replays, delivers everything that waits, and ends.
pub async fn replay(config: &Config, selection: Selection, stop: Stop, color: bool) -> ExitCode {
    let builder = match builder(config) {
        Ok(builder) => builder,
        Err(faults) => return invalid(&faults, color),
    };
    if selection.dry_run {
        let parts = match builder.parts().await {
            Ok(parts) => parts,
            Err(faults) => return invalid(&faults, color),
        };
        return match Replays::dry(config, &parts).start(selection) {
            Ok(running) => follow(running, &stop, color).await.end(),
            Err(refusal) => failed(&refusal.to_string(), color),
        };
    }
    let sink = match builder.build().await {
        Ok(sink) => sink,
        Err(faults) => return invalid(&faults, color),
    };
    let running = match Replays::new(config, &sink.handle()).start(selection) {
        Ok(running) => running,
        Err(refusal) => {
            // What waited before waits on; this command was not asked to deliver it.
            sink.drain(Duration::ZERO).await;
            return failed(&refusal.to_string(), color);
        }
    };
    let mut display = follow(running, &stop, color).await;
    let drained = drain(sink, config.drain_timeout, stop, &mut display).await;
    let code = display.end();
    if tell(&drained) { code } else { ExitCode::from(exit::FAILURE) }
}

fn builder(config: &Config) -> Result<Builder, Vec<Diagnostic>> {
    let Some(customerio) = config.customerio.clone() else {
        let missing = Diagnostic::error("missing_section", "the section `customerio` is missing");
        return Err(vec![missing.help("add it with `site_id` and `api_key` of the workspace")]);
    };
    let scripts = match &config.mapping.dir {
        Some(dir) => Mappings::read(dir)?,
        None => Mappings::built_in(),
    };
    Ok(Builder::from_config(config, customerio).mappings(scripts))
}

fn invalid(faults: &[Diagnostic], color: bool) -> ExitCode {
    output::report(faults, color);
    ExitCode::from(crate::cli::run::start_code(faults))
}

/// Shows a replay until its end, or until a signal; then it stops after the batch under way.
async fn follow(running: Running, stop: &Stop, color: bool) -> Display {
    let Running { mut messages, task } = running;
    let mut display = Display::new(color);
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Some(message) => display.show(message),
                None => return display,
            },
            () = stop.requested(1) => break,
        }
    }
    drop(messages);
    if let Ok(report) = task.await {
        display.left(report);
    }
    display
}

/// Delivers what waits. Without a signal there is no limit; the first one limits it.
async fn drain(
    sink: CustomerIoSink,
    timeout: Duration,
    stop: Stop,
    display: &mut Display,
) -> Drained {
    let stopped = stop.requested(1).now_or_never().is_some();
    let enough = async {
        if stopped {
            tokio::select! {
                () = sleep(timeout) => {}
                () = stop.requested(2) => {}
            }
        } else {
            stop.requested(1).await;
        }
    };
    let handle = sink.handle();
    let mut drained = std::pin::pin!(sink.drain_until(enough));
    let mut ticks = interval(PAUSE);
    ticks.tick().await;
    let mut n = 0_u32;
    loop {
        tokio::select! {
            drained = &mut drained => {
                display.clear();
                return drained;
            }
            _ = ticks.tick() => {
                n += 1;
                display.now_and_then(n, &waits(&handle));
            }
        }
    }
}

fn waits(sink: &SinkHandle) -> String {
    let stats = sink.stats();
    let delivery = stats.delivery;
    let why = delivery.reason.map(|reason| format!(" ({}: {reason})", delivery.state));
    format!("{} wait for delivery{}", stats.buffer.events, why.unwrap_or_default())
}

/// Tells how delivery ended, and whether all of it went well.
fn tell(drained: &Drained) -> bool {
    let total = |kind| drained.ledger.total(kind);
    let (delivered, rejected) = (total(OutcomeKind::Delivered), total(OutcomeKind::Rejected));
    let failed = total(OutcomeKind::Failed);
    let mut text = format!("delivered {delivered}");
    for (n, what) in [(rejected, "rejected"), (failed, "failed")] {
        if n > 0 {
            text.push_str(&format!(", {what} {n}"));
        }
    }
    if drained.ledger.recovered > 0 {
        text.push_str(&format!("; {} of all waited before", drained.ledger.recovered));
    }
    output::say(text);
    if drained.undelivered > 0 {
        let events = count(usize::try_from(drained.undelivered).unwrap_or(usize::MAX), "event");
        let fate = if drained.durable { "stay in the buffer for the next start" } else { "lost" };
        output::say(format!("{events} {fate}"));
    }
    rejected + failed + drained.undelivered == 0
}
