//! Loads scripts only if they compile and pass their tests, and notices when a folder changes.
//!
//! A folder is looked at instead of asking for file events: that works the same on local disks, in
//! containers, and on mounted config maps, which are swapped by links.

use std::path::PathBuf;
use std::time::Duration;

use super::{Check, Mapping, Mappings, Settings, run_suite};
use crate::diagnostic::{Diagnostic, Diagnostics, Place};

/// How often a folder should be looked at.
pub const PERIOD: Duration = Duration::from_secs(1);

/// How many failed tests are told in full: one mistake can make hundreds fail.
const SHOWN: usize = 3;

/// Compiles scripts and runs their tests.
///
/// # Errors
///
/// Diagnostics of the compiler, or those of the first failed tests and the number of the others.
pub fn accept(
    scripts: &Mappings,
    settings: &Settings,
    check: Check<'_>,
) -> Result<Mapping, Vec<Diagnostic>> {
    let mapping = Mapping::load(scripts, settings)?;
    let report = run_suite(scripts, settings, &[], check);
    let mut faults = report.diagnostics;
    let more = report.failed.len().saturating_sub(SHOWN);
    faults.extend(report.failed.into_iter().take(SHOWN).map(|(file, case, difference)| {
        let message = format!("the test `{case}` fails\n{}", difference.trim_end());
        Diagnostic::error("test_failed", message)
            .at(Place { file: scripts.shown(&file), ..Place::default() })
            .help("mend the script or the test")
    }));
    if more > 0 {
        let message =
            format!("… and {more} more {}", if more == 1 { "test fails" } else { "tests fail" });
        let rest = Diagnostic::error("test_failed", message);
        faults.push(rest.help("run `rudder-customerio test` to see them all"));
    }
    if faults.is_empty() { Ok(mapping) } else { Err(faults) }
}

/// Remembers what a folder of scripts held.
#[derive(Debug)]
pub struct Watcher {
    dir: PathBuf,
    last: Result<Mappings, Diagnostics>,
}

impl Watcher {
    /// Begins with what the folder holds now.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        let last = Mappings::read(&dir);
        Self { dir, last }
    }

    /// Looks at the folder, and tells whether it holds something else than the last time.
    pub fn changed(&mut self) -> bool {
        let now = Mappings::read(&self.dir);
        let changed = now != self.last;
        self.last = now;
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::operation::grammar::check_root;

    const TRACK: &str =
        r#". = { "type": "person", "action": "event", "identifiers": { "id": "u" }, "name": "e" }"#;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tests")).unwrap();
        fs::write(dir.path().join("mapping.yaml"), "track: [track.vrl]\n").unwrap();
        fs::write(dir.path().join("track.vrl"), TRACK).unwrap();
        fs::write(
            dir.path().join("tests/track.yaml"),
            "- name: fixed\n  event: { type: track }\n  operations: [ { type: person, action: event, identifiers: { id: u }, name: e } ]\n",
        )
        .unwrap();
        dir
    }

    fn load(dir: &tempfile::TempDir) -> Result<Mapping, Vec<Diagnostic>> {
        accept(&Mappings::read(dir.path())?, &Settings::default(), &check_root)
    }

    #[test]
    fn scripts_that_break_their_tests_are_refused_with_the_difference() {
        let dir = folder();
        assert!(load(&dir).is_ok());
        fs::write(dir.path().join("track.vrl"), TRACK.replace("\"e\"", "\"other\"")).unwrap();
        let faults = load(&dir).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].code, "test_failed");
        assert!(faults[0].message.contains("+    \"name\": \"other\""), "{}", faults[0]);
    }

    #[test]
    fn many_failed_tests_are_told_by_the_first_and_a_number() {
        let dir = folder();
        let case =
            |n: u32| format!("- {{ name: c{n}, event: {{ type: track }}, outcome: dropped }}\n");
        let cases: String = (0..50).map(case).collect();
        fs::write(dir.path().join("tests/track.yaml"), cases).unwrap();
        let faults = load(&dir).unwrap_err();
        assert_eq!(faults.len(), SHOWN + 1);
        assert!(faults[SHOWN].message.contains("and 47 more tests fail"), "{}", faults[SHOWN]);
    }

    #[test]
    fn a_change_is_noticed_once() {
        let dir = folder();
        let mut watcher = Watcher::new(dir.path().to_owned());
        assert!(!watcher.changed());
        fs::write(dir.path().join("track.vrl"), ". = []").unwrap();
        assert!(watcher.changed());
        assert!(!watcher.changed());
        fs::remove_file(dir.path().join("mapping.yaml")).unwrap();
        assert!(watcher.changed());
        assert!(!watcher.changed());
    }
}
