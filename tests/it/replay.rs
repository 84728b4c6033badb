//! Dead letters and `replay`, with the real binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{Running, Stack, binary, eventually, http};

const BROKEN: &str = r#"if .event == "Bad" { assert!(false, message: "not yet") }
"#;
const SCRIPT: &str = r#". = {"type": "person", "action": "event", "identifiers": {"id": string(.userId) ?? ""}, "name": .event}
"#;

struct Scene {
    stack: Stack,
    scripts: tempfile::TempDir,
}

impl Scene {
    /// A pipeline whose script fails for events named `Bad`, and a sandbox that refuses events of
    /// the person `refused`.
    fn new(more: &str) -> Self {
        let scripts = tempfile::tempdir().unwrap();
        let vrl = scripts.path().join("vrl");
        fs::create_dir(&vrl).unwrap();
        fs::write(vrl.join("mapping.yaml"), "track: [track.vrl]\n").unwrap();
        fs::write(vrl.join("track.vrl"), format!("{BROKEN}{SCRIPT}")).unwrap();
        let mapping = format!("mapping: {{ dir: '{}', watch: false }}\n{more}", vrl.display());
        let scene = Self { stack: Stack::start(&mapping), scripts };
        scene.faults(&json!([{ "do": {
            "items": { "person": "refused" },
            "error": { "reason": "invalid", "field": "name", "message": "not today" },
        } }]));
        scene
    }

    fn faults(&self, rules: &Value) {
        let body = rules.to_string();
        let answer = http(self.stack.sandbox, "PUT", "/_sandbox/faults", &[], body.as_bytes());
        assert!(answer.status < 300, "{}", answer.text());
    }

    /// Mends the script on disk and makes the sandbox take everything.
    fn mend(&self) {
        fs::write(self.scripts.path().join("vrl/track.vrl"), SCRIPT).unwrap();
        self.faults(&json!([]));
    }

    /// Sends an event that fails, one that is refused, and one that is neither.
    fn send(&self) {
        let track = |person: &str, event: &str| {
            json!({ "type": "track", "userId": person, "event": event, "messageId": format!("m-{person}"),
                "context": { "consentManagement": { "deniedConsentIds": [ "C4" ] } } })
        };
        let events = [track("failed", "Bad"), track("fine", "Good"), track("refused", "Good")];
        assert_eq!(self.stack.send(&events).status, 200);
        let ledger = self.stack.settled();
        assert_eq!((&ledger["failed"], &ledger["rejected"]), (&json!(1), &json!(1)), "{ledger}");
        assert_eq!(self.arrived(), [0, 1, 0]);
    }

    /// How many events each of the three people has.
    fn arrived(&self) -> [usize; 3] {
        ["failed", "fine", "refused"].map(|person| self.stack.activities(person, "event").len())
    }

    fn config(&self) -> PathBuf {
        self.stack.dir.path().join("config.yaml")
    }

    fn letters(&self) -> Vec<Value> {
        letters(&self.stack.dir.path().join("data/dead-letters"))
    }

    fn replay(&self, args: &[&str]) -> (i32, String) {
        let output = binary().arg("replay").arg("-c").arg(self.config()).args(args).output();
        ended(&output.unwrap())
    }
}

fn letters(folder: &Path) -> Vec<Value> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "ndjson"));
    files.sort();
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ended(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn letters_are_replayed_without_a_running_process_once_and_under_their_ids() {
    let mut scene = Scene::new("");
    scene.send();
    assert_eq!(scene.stack.run.stop().code(), Some(0));
    let (code, text) = scene.replay(&["--reason", "script_error"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("1 still fail and stay dead letters: failed script_error 1"), "{text}");

    scene.mend();
    let (code, text) = scene.replay(&["--dry-run"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("2 selected: failed script_error 1, rejected refused 1"), "{text}");
    assert!(text.contains("2 would be replayed"), "{text}");
    assert_eq!(scene.arrived(), [0, 1, 0], "a dry run sends nothing");

    let (code, text) = scene.replay(&["--since", "2100-01-01"]);
    assert!(code == 0 && !text.contains("replayed\n"), "{text}");
    let (code, text) = scene.replay(&["--reason", "refused", "--rate", "100/s"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("1 replayed\n") && text.contains("delivered 1"), "{text}");
    assert!(text.contains("may overwrite newer values"), "{text}");
    assert_eq!(scene.arrived(), [0, 1, 1]);
    for (before, arrived) in [(1, [1, 1, 1]), (2, [1, 1, 1])] {
        let (code, text) = scene.replay(&[]);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains(&format!("{before} replayed before")), "{text}");
        assert_eq!(scene.arrived(), arrived);
    }
    let refused = scene.letters().into_iter().find(|l| l["outcome"] == "rejected").unwrap();
    let arrived = &scene.stack.activities("refused", "event")[0];
    assert_eq!(arrived["id"], refused["operations"][0]["id"]);
    assert_eq!(scene.letters().len(), 2);
}

#[test]
fn letters_are_replayed_through_the_running_process() {
    let scene = Scene::new("");
    scene.send();
    scene.mend();
    assert_eq!(http(scene.stack.admin, "POST", "/reload", &[], b"").status, 200);
    let (code, text) = scene.replay(&["--dry-run"]);
    assert!(code == 0 && text.contains("2 would be replayed"), "{text}");
    assert_eq!(scene.stack.ledger()["received"], 3);

    let elsewhere = scene.stack.dir.path().join("copy.ndjson");
    fs::write(&elsewhere, "").unwrap();
    let (code, text) = scene.replay(&[&elsewhere.display().to_string()]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("put it there, or stop the process"), "{text}");

    let (code, text) = scene.replay(&[]);
    assert_eq!(code, 0, "{text}");
    let ledger = scene.stack.settled();
    assert_eq!((&ledger["received"], &ledger["delivered"]), (&json!(5), &json!(3)), "{ledger}");
    assert_eq!(scene.arrived(), [1, 1, 1]);
    let (code, text) = scene.replay(&[]);
    assert!(code == 0 && text.contains("2 replayed before"), "{text}");
    assert_eq!(scene.stack.ledger()["received"], 5);
}

#[test]
fn a_replay_through_a_process_that_refused_the_mended_scripts_says_so_and_what_still_fails() {
    let scene = Scene::new("");
    scene.send();
    fs::write(scene.scripts.path().join("vrl/track.vrl"), ". = nonsense(").unwrap();
    assert_eq!(http(scene.stack.admin, "POST", "/reload", &[], b"").status, 422);
    let (_, text) = scene.replay(&["--dry-run", "--reason", "script_error"]);
    assert!(text.contains("warning: the last reload was refused"), "{text}");
    assert!(text.contains("track.vrl:1"), "{text}");
    assert!(text.contains("1 of these failed script_error: not yet"), "{text}");
    assert!(!text.contains("may overwrite"), "{text}");
}

#[test]
fn consent_that_was_withdrawn_by_todays_rules_keeps_an_event_back() {
    let mut scene = Scene::new("");
    scene.send();
    assert_eq!(scene.stack.run.stop().code(), Some(0));
    scene.mend();
    let config = fs::read_to_string(scene.config()).unwrap();
    let rule = "consent: { rules: [ { provider: custom, consents: [ C4 ] } ], onetrust_categories: [ C4 ] }";
    fs::write(scene.config(), format!("{config}{rule}\n")).unwrap();
    let (code, text) = scene.replay(&[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("2 kept back by today's rules: withheld"), "{text}");
    assert_eq!(scene.arrived(), [0, 1, 0]);
    let (_, text) = scene.replay(&[]);
    assert!(text.contains("2 replayed before"), "{text}");
}

#[test]
fn a_replay_that_is_killed_goes_on_and_doubles_nothing() {
    let mut scene = Scene::new("");
    let track = |n: usize| json!({ "type": "track", "userId": format!("p-{n}"), "event": "Bad" });
    let events: Vec<_> = (0..60).map(track).collect();
    assert_eq!(scene.stack.send(&events).status, 200);
    assert_eq!(scene.stack.settled()["failed"], 60);
    assert_eq!(scene.stack.run.stop().code(), Some(0));
    scene.mend();
    let config = scene.config().display().to_string();
    let marks = scene.stack.dir.path().join("data/dead-letters/replayed");
    let marked = || fs::read_to_string(&marks).map_or(0, |text| text.lines().count());
    for at_least in [10, 20] {
        let replay = Running::start(&["replay", "-c", &config, "--rate", "10/s"]);
        eventually("letters are marked", || marked() >= at_least);
        replay.signal("-KILL");
    }
    let (code, text) = scene.replay(&[]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = scene.replay(&[]);
    assert!(code == 0 && text.contains("60 replayed before"), "{text}");
    for n in 0..60 {
        assert_eq!(scene.stack.activities(&format!("p-{n}"), "event").len(), 1, "p-{n}");
    }
}

#[test]
fn a_signal_stops_a_replay_between_portions() {
    let mut scene = Scene::new("");
    let track = |n: usize| json!({ "type": "track", "userId": format!("p-{n}"), "event": "Bad" });
    let events: Vec<_> = (0..20).map(track).collect();
    assert_eq!(scene.stack.send(&events).status, 200);
    assert_eq!(scene.stack.settled()["failed"], 20);
    assert_eq!(scene.stack.run.stop().code(), Some(0));
    scene.mend();
    let config = scene.config().display().to_string();
    let marks = scene.stack.dir.path().join("data/dead-letters/replayed");
    let mut replay = Running::start(&["replay", "-c", &config, "--rate", "1/s"]);
    eventually("a letter is marked", || marks.metadata().is_ok_and(|marks| marks.len() > 0));
    replay.signal("-INT");
    assert_eq!(replay.wait().code(), Some(1), "{}", replay.said());
    eventually("it says how to go on", || replay.said().contains("the same command goes on"));
    let (code, text) = scene.replay(&[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("20 letters read") && text.contains("replayed before"), "{text}");
    for n in 0..20 {
        assert_eq!(scene.stack.activities(&format!("p-{n}"), "event").len(), 1, "p-{n}");
    }
}
