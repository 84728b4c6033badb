//! The mapping's own tests: events in, operations out, a difference per failing case.
//!
//! A file is a list of `{name, event, settings?, operations: […]}` or `{name, event, settings?,
//! outcome: dropped|failed, reason?: text}`. Operations are compared as JSON values, without the
//! event ids that are added later. Every case runs twice, once on the whole event and once on what
//! the script is known to read, so that the proof of pruning is tested by everybody's tests.

mod case;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use serde_json::Value as Json;
use similar::TextDiff;
use vrl::value::Value;

use self::case::{Case, Expected};
use super::{Mapped, Mapper, Mapping, Mappings, STACK_BYTES, Settings};
use crate::diagnostic::{Diagnostic, Place};
use crate::event::Plan;
use crate::event::decode::decode;

/// Checks the value that a script returned; the text names the script and the member.
pub type Check<'a> = &'a (dyn Fn(&Value, &str) -> Result<(), String> + Sync);

/// Result of the mapping's own tests.
#[derive(Debug, Default)]
#[non_exhaustive]
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
pub fn run_suite(
    scripts: &Mappings,
    settings: &Settings,
    paths: &[&Path],
    check: Check<'_>,
) -> SuiteReport {
    thread::scope(|scope| {
        let work = || run_here(scripts, settings, paths, check);
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
        match thread.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(report)) => report,
            Ok(Err(_)) => broken("the tests ended in a panic".to_owned()),
            Err(error) => broken(format!("no thread to run the tests on: {error}")),
        }
    })
}

fn broken(message: String) -> SuiteReport {
    let diagnostics = vec![Diagnostic::error("tests", message)];
    SuiteReport { diagnostics, ..SuiteReport::default() }
}

fn run_here(
    scripts: &Mappings,
    settings: &Settings,
    paths: &[&Path],
    check: Check<'_>,
) -> SuiteReport {
    let mut report = SuiteReport::default();
    let mapping = match Mapping::load(scripts, settings) {
        Ok(mapping) => Arc::new(mapping),
        Err(diagnostics) => return SuiteReport { diagnostics, ..report },
    };
    let files =
        if paths.is_empty() { scripts.tests.clone() } else { read(paths, &mut report.diagnostics) };
    let types: Vec<&str> = mapping.plan().types().map(|(name, _)| name).collect();
    let whole = Plan::everything(&types);
    let mut runner = Runner { mapper: mapping.worker(), mapping: &mapping, whole, settings, check };
    let mut events = Vec::new();
    for (file, text) in &files {
        let cases = case::parse(text, &scripts.shown(file), &mut report.diagnostics);
        for case in cases {
            match runner.run(&case) {
                Ok(()) => report.passed += 1,
                Err(difference) => report.failed.push((file.clone(), case.name, difference)),
            }
            events.push(case.event);
        }
    }
    if paths.is_empty() {
        report.notes = coverage(&mapping, &events);
    }
    report
}

fn read(paths: &[&Path], faults: &mut Vec<Diagnostic>) -> Vec<(String, String)> {
    let mut names: Vec<PathBuf> = Vec::new();
    for path in paths {
        match fs::read_dir(path) {
            Ok(entries) => {
                let yaml = |p: &PathBuf| p.extension().is_some_and(|e| e == "yaml" || e == "yml");
                let mut found: Vec<_> = entries.flatten().map(|e| e.path()).filter(yaml).collect();
                found.sort();
                names.extend(found);
            }
            Err(_) => names.push(path.to_path_buf()),
        }
    }
    let mut files = Vec::new();
    for name in names {
        let file = name.display().to_string();
        match fs::read_to_string(&name) {
            Ok(text) => files.push((file, text)),
            Err(error) => faults.push(
                Diagnostic::error("unreadable", format!("cannot read the file: {error}"))
                    .at(Place { file, ..Place::default() }),
            ),
        }
    }
    files
}

struct Runner<'a> {
    mapper: Mapper,
    mapping: &'a Mapping,
    whole: Plan,
    settings: &'a Settings,
    check: Check<'a>,
}

impl Runner<'_> {
    fn run(&mut self, case: &Case) -> Result<(), String> {
        self.mapper.set(case.settings.as_ref().unwrap_or(self.settings));
        let raw = Bytes::from(case.event.to_string());
        let whole = self.whole.clone();
        let on_whole = self.map(&raw, &whole)?;
        let plan = Arc::clone(self.mapping.plan());
        let on_pruned = self.map(&raw, &plan)?;
        if on_whole != on_pruned {
            let difference = difference(&on_whole.to_json(), &on_pruned.to_json());
            return Err(format!(
                "the result depends on members that the script does not read:\n{difference}"
            ));
        }
        compare(&case.expected, &on_whole)
    }

    fn map(&mut self, raw: &Bytes, plan: &Plan) -> Result<Got, String> {
        let event = decode(raw, plan).map_err(|reason| {
            format!("the event is malformed: {} {}", reason.code, reason.detail.unwrap_or_default())
        })?;
        let Some(index) = event.index else {
            return Err(format!("no script is listed for the type `{}`", event.type_name));
        };
        let ended = |outcome: &'static str, reason: crate::outcome::Reason| Got::Ended {
            outcome,
            code: reason.code.as_str(),
            detail: reason.detail.map(String::from).unwrap_or_default(),
        };
        Ok(match self.mapper.map(index, event.body) {
            Mapped::Dropped(reason) => ended("dropped", reason),
            Mapped::Failed(reason) => ended("failed", reason),
            Mapped::Root(root) => match (self.check)(&root, self.mapping.file(index)) {
                Err(detail) => Got::Ended { outcome: "failed", code: "invalid_operation", detail },
                Ok(()) => match root {
                    Value::Array(items) if items.is_empty() => Got::Ended {
                        outcome: "dropped",
                        code: "no_operations",
                        detail: String::new(),
                    },
                    Value::Array(items) => Got::Operations(items.iter().map(json).collect()),
                    one => Got::Operations(vec![json(&one)]),
                },
            },
        })
    }
}

/// What a run gave, ready to be compared.
#[derive(Debug, PartialEq)]
enum Got {
    Operations(Vec<Json>),
    Ended { outcome: &'static str, code: &'static str, detail: String },
}

impl Got {
    fn to_json(&self) -> Json {
        match self {
            Self::Operations(operations) => Json::from(operations.clone()),
            Self::Ended { outcome, code, detail } => {
                serde_json::json!({ "outcome": outcome, "reason": code, "detail": detail })
            }
        }
    }
}

fn compare(expected: &Expected, got: &Got) -> Result<(), String> {
    match (expected, got) {
        (Expected::Operations(wanted), Got::Operations(operations)) => {
            let wanted: Vec<Json> = wanted.iter().map(normal).collect();
            if wanted == *operations {
                return Ok(());
            }
            Err(difference(&Json::from(wanted), &got.to_json()))
        }
        (Expected::Ended { outcome, reason }, Got::Ended { outcome: o, code, detail }) => {
            let told = reason.as_ref().is_none_or(|r| r == detail || r == code);
            if outcome == o && told {
                return Ok(());
            }
            let mut wanted =
                serde_json::json!({ "outcome": outcome, "reason": code, "detail": detail });
            if let (Some(reason), Some(members)) = (reason, wanted.as_object_mut()) {
                members.insert("detail".to_owned(), Json::from(reason.as_str()));
            }
            Err(difference(&wanted, &got.to_json()))
        }
        (Expected::Operations(wanted), Got::Ended { .. }) => {
            Err(difference(&Json::from(wanted.clone()), &got.to_json()))
        }
        (Expected::Ended { outcome, reason }, Got::Operations(_)) => {
            let wanted = serde_json::json!({ "outcome": outcome, "detail": reason });
            Err(difference(&wanted, &got.to_json()))
        }
    }
}

fn json(value: &Value) -> Json {
    normal(&serde_json::to_value(value).unwrap_or_default())
}

/// Writes numbers with a whole value in one way, so that `1` equals `1.0`.
fn normal(value: &Json) -> Json {
    match value {
        Json::Number(number) => match number.as_f64() {
            Some(float)
                if number.as_i64().is_none() && float.fract() == 0.0 && float.abs() < 9e15 =>
            {
                #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
                Json::from(float as i64)
            }
            _ => value.clone(),
        },
        Json::Array(items) => items.iter().map(normal).collect(),
        Json::Object(members) => {
            Json::Object(members.iter().map(|(k, v)| (k.clone(), normal(v))).collect())
        }
        _ => value.clone(),
    }
}

fn difference(wanted: &Json, got: &Json) -> String {
    let pretty = |value: &Json| serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
    let (wanted, got) = (pretty(wanted), pretty(got));
    let diff = TextDiff::from_lines(&wanted, &got);
    diff.unified_diff().context_radius(3).header("expected", "got").to_string()
}

/// Tells which scripts and paths no test event touches.
fn coverage(mapping: &Mapping, events: &[Json]) -> Vec<String> {
    let mut notes = Vec::new();
    for script in &mapping.types {
        let own: Vec<&Json> = events
            .iter()
            .filter(|e| e["type"].as_str().is_some_and(|t| t.to_lowercase() == script.name))
            .collect();
        if own.is_empty() {
            notes.push(format!(
                "{}: no test has an event of the type `{}`",
                script.file, script.name
            ));
            continue;
        }
        let missed: BTreeSet<String> = script
            .proof
            .reads
            .iter()
            .filter(|path| !own.iter().any(|event| has(event, path)))
            .map(|path| format!(".{}", path.join(".")))
            .collect();
        if !missed.is_empty() {
            let missed: Vec<_> = missed.into_iter().collect();
            notes.push(format!("{}: no test event has {}", script.file, missed.join(", ")));
        }
    }
    notes
}

fn has(event: &Json, path: &[String]) -> bool {
    let mut at = event;
    for step in path {
        match at.get(step) {
            Some(next) => at = next,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = r#"if .a == "drop" { abort "not wanted" }
if .a == "none" { . = [] } else {
    . = { "type": "person", "action": string(.a) ?? "event", "n": .n, "object": %customerio.record_object }
}"#;

    fn suite(tests: &str) -> SuiteReport {
        suite_of(SCRIPT, tests)
    }

    fn suite_of(script: &str, tests: &str) -> SuiteReport {
        let scripts = Mappings {
            list: vec![("track".into(), vec!["track.vrl".into()])],
            list_text: String::new(),
            files: vec![("track.vrl".into(), script.into())],
            tests: vec![("tests/track.yaml".into(), tests.into())],
            dir: None,
        };
        let check: Check<'_> = &|root, script| match root.as_object().and_then(|o| o.get("action"))
        {
            Some(action) if *action == Value::from("bad") => Err(format!("{script}: bad action")),
            _ => Ok(()),
        };
        run_suite(&scripts, &Settings::default(), &[], check)
    }

    #[test]
    fn values_are_compared_as_json() {
        let report = suite(
            "- name: numbers and order\n  event: { type: Track, n: 2.0 }\n  operations: [ { object: person, n: 2, action: event, type: person } ]\n\
             - name: settings\n  event: { type: track, n: 1 }\n  settings: { record_object: event }\n  operations: [ { object: event, n: 1.0, action: event, type: person } ]\n",
        );
        assert_eq!((report.passed, report.failed), (2, Vec::new()));
    }

    #[test]
    fn endings_are_compared_by_outcome_and_reason() {
        let report = suite(
            "- { name: a, event: { type: track, a: drop }, outcome: dropped, reason: not wanted }\n\
             - { name: b, event: { type: track, a: none }, outcome: dropped, reason: no_operations }\n\
             - { name: c, event: { type: track, a: bad }, outcome: failed, reason: \"track.vrl: bad action\" }\n\
             - { name: d, event: { type: track, a: bad }, outcome: failed }\n",
        );
        assert_eq!((report.passed, report.failed), (4, Vec::new()));
    }

    #[test]
    fn every_failing_case_is_told_with_a_difference() {
        let report = suite(
            "- { name: a, event: { type: track, n: 1 }, operations: [ { type: person, action: event, object: person, n: 2 } ] }\n\
             - { name: b, event: { type: track, a: drop }, outcome: dropped, reason: other }\n\
             - { name: c, event: { type: track }, outcome: failed }\n\
             - { name: d, event: { type: track, a: drop }, operations: [] }\n\
             - { name: e, event: { type: page }, operations: [] }\n",
        );
        let names: Vec<_> = report.failed.iter().map(|(_, name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d", "e"]);
        assert!(
            report.failed[0].2.contains("-    \"n\": 2")
                && report.failed[0].2.contains("+    \"n\": 1")
        );
        assert!(
            report.failed[1].2.contains("+  \"detail\": \"not wanted\""),
            "{}",
            report.failed[1].2
        );
        assert!(report.failed[4].2.contains("`page`"), "{}", report.failed[4].2);
    }

    #[test]
    fn what_is_no_case_is_told_with_its_place_and_the_others_run() {
        let report = suite(
            "- { name: good, event: { type: track, a: drop }, outcome: dropped }\n\
             - { event: { type: track }, operations: [] }\n\
             - { name: x, event: 5, operations: [] }\n\
             - { name: x, event: { type: track }, expected: [] }\n\
             - { name: x, event: { type: track }, outcome: lost }\n\
             - 7\n",
        );
        assert_eq!(report.passed, 1);
        let lines: BTreeSet<u32> =
            report.diagnostics.iter().map(|d| d.place.as_ref().unwrap().line).collect();
        assert_eq!(lines, BTreeSet::from([2, 3, 4, 5, 6]));
        assert_eq!(suite("- [").diagnostics.len(), 1);
        assert_eq!(suite("a: 1").diagnostics[0].code, "test_case");
    }

    #[test]
    fn paths_without_an_event_and_scripts_without_a_case_are_remarked() {
        let report = suite(
            "- { name: a, event: { type: track, n: 1 }, operations: [ { type: person, action: event, object: person, n: 1 } ] }\n",
        );
        assert_eq!(report.notes, ["track.vrl: no test event has .a"]);
        let report = suite("");
        assert_eq!(report.notes.len(), 1);
        assert!(report.notes[0].contains("no test"), "{}", report.notes[0]);
    }

    #[test]
    fn scripts_that_do_not_compile_are_diagnostics() {
        let report = suite_of(". =", "");
        assert_eq!(report.diagnostics.len(), 1);
        assert_eq!(report.passed, 0);
    }
}
