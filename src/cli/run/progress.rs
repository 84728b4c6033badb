//! A line that tells how far a long input is, for people who wait at a terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at};

use crate::outcome::OutcomeKind;
use crate::pipeline::Pipeline;

/// Pause between two lines; inputs that end within it show none.
const PAUSE: Duration = Duration::from_secs(1);

/// A running display.
pub struct Progress {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Progress {
    /// Ends the display and clears its line.
    pub async fn end(self) {
        drop(self.end);
        drop(self.task.await);
    }
}

/// Starts the display if standard input is the only source and a person watches.
pub fn show(pipeline: &Pipeline) -> Option<Progress> {
    let watched = std::io::stderr().is_terminal() && !std::io::stdin().is_terminal();
    let read = pipeline.stdin_progress().filter(|_| watched && pipeline.is_stdin_alone())?;
    let sink = pipeline.handle();
    let (end, mut ended) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let mut ticks = interval_at(Instant::now() + PAUSE, PAUSE);
        loop {
            tokio::select! {
                _ = &mut ended => break,
                _ = ticks.tick() => {}
            }
            let now = sink.ledger().snapshot();
            rewrite(&format!(
                "{} lines read, {} delivered, {} wait for delivery",
                read.lines(),
                now.total(OutcomeKind::Delivered),
                now.buffered,
            ));
        }
        rewrite("");
    });
    Some(Progress { end, task })
}

/// Replaces the current line of the terminal.
fn rewrite(text: &str) {
    let mut err = std::io::stderr().lock();
    drop(write!(err, "\r\u{1b}[2K{text}").and_then(|()| err.flush()));
}
