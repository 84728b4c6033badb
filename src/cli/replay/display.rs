//! What a replay shows: progress and notices on standard error, the account on standard output.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::replay::{Ending, Example, Message, Report};

use crate::cli::exit;
use crate::cli::output::{self, Tone};

/// Pause between two lines of progress where nobody sees them replaced.
const LINES: Duration = Duration::from_secs(10);
/// Pause between two changes of the line on a terminal.
const CHANGES: Duration = Duration::from_millis(200);

/// The display of one replay.
#[derive(Debug)]
pub struct Display {
    color: bool,
    terminal: bool,
    shown: Instant,
    /// Whether a line of progress stands on the terminal.
    open: bool,
    report: Report,
    ending: Option<Ending>,
}

impl Display {
    pub fn new(color: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let (shown, report) = (Instant::now(), Report::default());
        Self { color, terminal, shown, open: false, report, ending: None }
    }

    /// Shows a message.
    pub fn show(&mut self, message: Message) {
        match message {
            Message::Warning { text } => self.remark("warning:", &text),
            Message::Notice { text } => self.remark("notice:", &text),
            Message::Progress { report } => {
                self.report = report;
                if self.shown.elapsed() >= if self.terminal { CHANGES } else { LINES } {
                    self.shown = Instant::now();
                    self.line(&progress(&self.report));
                }
            }
            Message::End { report, ending } => {
                self.report = report;
                self.ending = Some(ending);
            }
        }
    }

    fn remark(&mut self, word: &str, text: &str) {
        self.clear();
        output::say(format!("{} {text}", output::paint(Tone::Warning, word, self.color)));
    }

    /// Shows a line that the next one replaces on a terminal.
    pub fn line(&mut self, text: &str) {
        if self.terminal {
            let mut err = std::io::stderr().lock();
            drop(write!(err, "\r\u{1b}[2K{text}").and_then(|()| err.flush()));
            self.open = true;
        } else {
            output::say(text);
        }
    }

    /// Removes the line of progress.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.open) {
            self.line("");
            self.open = false;
        }
    }

    /// Notes that the replay was left, after the last counts that were seen.
    pub fn stopped(&mut self) {
        self.ending.get_or_insert(Ending::Stopped);
    }

    /// Shows a line on a terminal each time, and elsewhere every tenth time.
    pub fn now_and_then(&mut self, n: u32, text: &str) {
        if self.terminal || n.is_multiple_of(10) {
            self.line(text);
        }
    }

    /// Takes the counts of a replay that was left before its end.
    pub fn left(&mut self, report: Report) {
        self.report = report;
        self.stopped();
    }

    /// Shows the account and gives the exit code.
    pub fn end(mut self) -> ExitCode {
        self.clear();
        let printed = output::print(&account(&self.report, self.ending.as_ref()));
        let complete = match &self.ending {
            Some(Ending::Done) => true,
            Some(Ending::Failed(why)) => {
                let error = output::paint(Tone::Bad, "error:", self.color);
                output::say(format!("{error} {why}; the same command goes on with the rest"));
                false
            }
            Some(Ending::Stopped) => {
                output::say("stopped; the same command goes on with the rest");
                false
            }
            None => {
                let error = output::paint(Tone::Bad, "error:", self.color);
                output::say(format!(
                    "{error} the process went away; the same command goes on with the rest"
                ));
                false
            }
        };
        if complete && self.report.is_clean() { printed } else { ExitCode::from(exit::FAILURE) }
    }
}

fn progress(report: &Report) -> String {
    let percent = report.bytes.saturating_mul(100).checked_div(report.of_bytes).unwrap_or(100);
    let letters = letters(report.letters);
    let mut text = format!("{percent} %: {} {letters}, {}", report.letters, replayed(report));
    if let Some(why) = &report.waiting {
        write!(text, "; waiting: {why}").ok();
    }
    text
}

fn replayed(report: &Report) -> String {
    let done = if report.dry_run { "would be replayed" } else { "replayed" };
    format!("{} {done}", report.replayed)
}

fn letters(n: u64) -> &'static str {
    if n == 1 { "letter read" } else { "letters read" }
}

/// Tells the counts; those of a replay whose end was not told are the last that were.
fn account(report: &Report, ending: Option<&Ending>) -> String {
    let mut text = String::new();
    let mut line = |n: u64, what: &str| {
        if n > 0 {
            writeln!(text, "{n:>8} {what}").ok();
        }
    };
    let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    let Report { dry_run, .. } = *report;
    line(report.letters, letters(report.letters));
    line(report.done_before, "replayed before");
    line(sum(&report.selected), &format!("selected: {}", counts(&report.selected)));
    line(report.replayed, if dry_run { "would be replayed" } else { "replayed" });
    line(report.unknown, "of these unknown: Customer.io may have applied them at the time");
    let ends = if dry_run { "would be kept back by" } else { "kept back by" };
    line(sum(&report.kept_back), &format!("{ends} today's rules: {}", counts(&report.kept_back)));
    let stay = format!("still fail and stay dead letters: {}", counts(&report.still_failing));
    line(sum(&report.still_failing), &stay);
    for Example { failure, detail, letters } in &report.examples {
        line(*letters, &format!("of these {failure}: {detail}"));
    }
    line(report.failed_again, "became dead letters again");
    line(report.unreadable, "cannot be read");
    match (text.is_empty(), ending) {
        (true, Some(Ending::Done)) => text.push_str("no dead letters\n"),
        (false, None) => text.insert_str(0, "before the process went away:\n"),
        _ => {}
    }
    text
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_names_every_fate_that_occurred() {
        let account = |report: &Report| account(report, Some(&Ending::Done));
        assert_eq!(account(&Report::default()), "no dead letters\n");
        assert_eq!(account(&Report { letters: 1, ..Report::default() }).trim(), "1 letter read");
        let counted = |name: &str, n| BTreeMap::from([(name.to_owned(), n)]);
        let report = Report {
            letters: 12,
            selected: counted("rejected refused", 9),
            replayed: 5,
            unknown: 2,
            kept_back: counted("withheld generic_denied", 1),
            still_failing: counted("failed script_error", 3),
            unreadable: 1,
            examples: vec![Example {
                failure: "failed script_error".to_owned(),
                detail: "track.vrl:1:1: not yet".to_owned(),
                letters: 2,
            }],
            ..Report::default()
        };
        let text = account(&report);
        let lines: Vec<_> = text.lines().map(str::trim_start).collect();
        assert_eq!(
            lines,
            [
                "12 letters read",
                "9 selected: rejected refused 9",
                "5 replayed",
                "2 of these unknown: Customer.io may have applied them at the time",
                "1 kept back by today's rules: withheld generic_denied 1",
                "3 still fail and stay dead letters: failed script_error 3",
                "2 of these failed script_error: track.vrl:1:1: not yet",
                "1 cannot be read",
            ]
        );
        assert!(account(&Report { dry_run: true, ..report }).contains("5 would be replayed"));
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        for ending in [None, Some(Ending::Stopped), Some(Ending::Failed(String::new()))] {
            assert_eq!(account(&Report::default(), ending.as_ref()), "");
        }
        let report = Report { letters: 3, ..Report::default() };
        let text = account(&report, None);
        assert_eq!(text, "before the process went away:\n       3 letters read\n");
    }

    #[test]
    fn progress_tells_why_it_waits() {
        let waiting = Some("no room".to_owned());
        let report = Report { bytes: 50, of_bytes: 200, waiting, ..Report::default() };
        assert_eq!(progress(&report), "25 %: 0 letters read, 0 replayed; waiting: no room");
    }
}
