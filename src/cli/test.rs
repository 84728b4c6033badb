//! `test`: the unit tests of the mapping scripts.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::mapping::{self, SuiteReport};
use crate::operation::grammar::check_root;

use super::output::{self, Tone};
use super::{Globals, exit, validate};

/// Options of `test`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  rudder-customerio test
  rudder-customerio test vrl/tests/track.yaml

A test file is a list of cases:
  - name: a track event becomes an event of the person
    event: { type: track, event: Signed Up, userId: u1 }
    operations:
      - { type: person, action: event, identifiers: { id: u1 }, name: Signed Up, attributes: {} }

`event` is the RudderStack event itself, also where a source has an `event_path`.

Ends with 0 if all cases passed, 1 if one failed, 78 if configuration, scripts, or a test file \
are invalid.")]
pub struct TestArgs {
    /// Test files, or folders of them [default: tests/ beside the scripts]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Tell of the built-in scripts too what no test covers
    #[arg(short, long)]
    verbose: bool,
}

/// Runs the tests.
pub fn run(args: TestArgs, globals: &Globals) -> ExitCode {
    let config = match output::optional_config(globals) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let scripts = match validate::scripts_of(&config) {
        Ok(scripts) => scripts,
        Err(faults) => {
            output::report(&faults, globals.color);
            return ExitCode::from(exit::CONFIG);
        }
    };
    let paths: Vec<&Path> = args.paths.iter().map(PathBuf::as_path).collect();
    let report = mapping::run_suite(&scripts, &config.mapping.settings, &paths, &check_root);
    let told = args.verbose || validate::are_edited(&scripts);
    show(&report, told, globals.color)
}

/// Failed cases and the summary are what this command is asked for, so they are data.
fn show(report: &SuiteReport, with_notes: bool, color: bool) -> ExitCode {
    output::report(&report.diagnostics, color);
    for note in report.notes.iter().filter(|_| with_notes) {
        output::say(format!("{} {note}", output::paint(Tone::Hint, "note:", color)));
    }
    let printed = output::print(&text(report));
    if !report.diagnostics.is_empty() {
        ExitCode::from(exit::CONFIG)
    } else if !report.failed.is_empty() {
        ExitCode::from(exit::FAILURE)
    } else {
        printed
    }
}

fn text(report: &SuiteReport) -> String {
    let mut text = String::new();
    for (file, case, difference) in &report.failed {
        text.push_str(&format!("FAILED {file}: {case}\n"));
        for line in difference.lines() {
            text.push_str(&format!("    {line}\n"));
        }
        text.push('\n');
    }
    text.push_str(&format!("{} passed, {} failed\n", report.passed, report.failed.len()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_cases_come_with_their_difference_and_a_summary() {
        let report = SuiteReport {
            passed: 3,
            failed: vec![("track.yaml".into(), "a case".into(), "-old\n+new".into())],
            ..SuiteReport::default()
        };
        insta::assert_snapshot!(text(&report), @r"
        FAILED track.yaml: a case
            -old
            +new

        3 passed, 1 failed
        ");
    }
}
