//! Another configuration while events come in: by request, by signal, and when a file changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{AUTH, Answer, Stack, eventually, get, http};

const SCRIPT: &str =
    r#". = {"type": "person", "action": "event", "identifiers": {"id": .userId}, "name": .event}"#;
/// The sandbox takes any key.
const ANY_KEY: (&str, &str) = ("Authorization", "Basic c2l0ZTprZXk=");
const NO_ADS: &str = "consent: { rules: [ { provider: custom, consents: [ ads ] } ] }\n";

/// A stack with one small script, and the file of its configuration.
struct Changing {
    stack: Stack,
    file: PathBuf,
    text: String,
    scripts: tempfile::TempDir,
}

impl Changing {
    fn start(watch: bool) -> Self {
        let scripts = tempfile::tempdir().unwrap();
        fs::write(scripts.path().join("mapping.yaml"), "track: [track.vrl]\n").unwrap();
        fs::write(scripts.path().join("track.vrl"), SCRIPT).unwrap();
        let mapping =
            format!("mapping: {{ dir: \"{}\", watch: {watch} }}", scripts.path().display());
        let stack = Stack::start(&mapping);
        let file = stack.dir.path().join("config.yaml");
        let text = fs::read_to_string(&file).unwrap();
        Self { stack, file, text, scripts }
    }

    /// Saves the configuration with more lines and other words.
    fn save(&self, more: &str, change: Option<(&str, &str)>) {
        let text = change.map_or(self.text.clone(), |(from, to)| self.text.replace(from, to));
        write(&self.file, &(text + more));
    }

    fn post(&self) -> Answer {
        http(self.stack.admin, "POST", "/reload", &[], b"")
    }

    fn status(&self) -> Value {
        get(self.stack.admin, "/status").json()
    }

    /// What browsers are told of the consent rules.
    fn public(&self) -> String {
        http(self.stack.gateway, "GET", "/sourceConfig", &[AUTH], b"").text()
    }

    fn send(&self, n: usize) {
        assert_eq!(self.stack.send(&[event(n, "asked")]).status, 200);
    }

    fn names(&self, person: &str) -> Vec<String> {
        let name = |event: &Value| event["name"].as_str().unwrap().to_owned();
        self.stack.activities(person, "event").iter().map(name).collect()
    }
}

/// An event of somebody who denied `ads`.
fn event(n: usize, person: &str) -> Value {
    json!({
        "type": "track", "userId": person, "event": format!("E{n}"), "messageId": format!("{person}-{n}"),
        "context": { "consentManagement": { "provider": "custom", "deniedConsentIds": ["ads"] } },
    })
}

/// Sends events until it is told to stop, and then tells how many were answered with 200.
struct Load {
    stop: Arc<AtomicBool>,
    client: JoinHandle<usize>,
}

impl Load {
    fn start(stack: &Stack) -> Self {
        Self::of(stack, &["load"])
    }

    /// Each batch has events of all of these people in turn.
    fn of(stack: &Stack, people: &[&'static str]) -> Self {
        let people = people.to_vec();
        let (stop, gateway) = (Arc::new(AtomicBool::new(false)), stack.gateway);
        let stopped = Arc::clone(&stop);
        let client = std::thread::spawn(move || {
            let mut sent = 0;
            while !stopped.load(Ordering::SeqCst) {
                let person = |n: usize| people[n % people.len()];
                let batch: Vec<_> = (sent..sent + 5).map(|n| event(n, person(n))).collect();
                let body = json!({ "batch": batch }).to_string();
                let answer = http(gateway, "POST", "/v1/batch", &[AUTH], body.as_bytes());
                assert_eq!(answer.status, 200, "{}", answer.text());
                sent += 5;
                std::thread::sleep(Duration::from_millis(2));
            }
            sent
        });
        Self { stop, client }
    }

    fn end(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.client.join().unwrap()
    }
}

/// Replaces a file in one step: half of it may be seen else, if the machine stands still.
fn write(file: &Path, text: &str) {
    let beside = file.with_extension("beside");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, file).unwrap();
}

fn script(dir: &Path, name: &str) {
    write(&dir.join("track.vrl"), &SCRIPT.replace(".event", name));
}

#[test]
fn under_load_every_trigger_takes_effect_and_no_event_is_lost_or_doubled() {
    let changing = Changing::start(false);
    let stack = &changing.stack;
    let load = Load::start(stack);
    changing.send(1);

    // By request: an event after the answer obeys the new consent.
    let rate = "customerio:\n  rate_limit: { requests_per_second: 1000 }\n";
    let level = format!("{NO_ADS}log: {{ level: debug }}\n");
    changing.save(&level, Some(("customerio:\n", rate)));
    assert!(!stack.run.said().contains("DEBUG"));
    let answer = changing.post();
    assert_eq!(answer.status, 200);
    let applied = "applied: consent.rules, customerio.rate_limit.requests_per_second, log.level";
    assert!(answer.text().starts_with("loaded, hash "), "{}", answer.text());
    assert_eq!(answer.text().lines().nth(1), Some(applied));
    changing.send(2);
    eventually("the level takes effect", || stack.run.said().contains("DEBUG"));

    // By signal; many of them are no more than one.
    let hash = || changing.status()["scripts"]["hash"].clone();
    let before = hash();
    script(changing.scripts.path(), r#""other " + string!(.event)"#);
    changing.save("log: { level: info }\n", None);
    for _ in 0..30 {
        stack.run.signal("-HUP");
    }
    eventually("the signal takes effect", || hash() != before);
    changing.send(3);

    // When a file changes, after a request to watch.
    changing.save("", Some(("watch: false", "watch: true")));
    // A signal of before may have loaded it already.
    assert_eq!(changing.post().status, 200);
    changing.save(NO_ADS, Some(("watch: false", "watch: true")));
    eventually("the configuration is noticed", || changing.public().contains("ads"));
    changing.send(4);
    let before = hash();
    script(changing.scripts.path(), r#""last " + string!(.event)"#);
    eventually("the script is noticed", || hash() != before);
    changing.save("", Some(("watch: false", "watch: true")));
    eventually("the configuration is noticed", || !changing.public().contains("ads"));
    changing.send(5);

    let sent = load.end() + 5;
    let ledger = stack.settled();
    let count = |name: &str| usize::try_from(ledger[name].as_u64().unwrap()).unwrap();
    assert_eq!(changing.names("asked"), ["E1", "other E3", "last E5"]);
    assert_eq!(count("received"), sent);
    assert_eq!(count("delivered") + count("withheld"), sent, "{ledger}");
    let names = changing.names("load");
    assert_eq!(names.len() + 3, count("delivered"));
    assert_in_order(&names);
}

/// Tells that events arrived in the order in which they were sent, and none of them twice.
fn assert_in_order(names: &[String]) {
    let number = |name: &String| name.rsplit('E').next().unwrap().parse::<usize>().unwrap();
    let numbers: Vec<_> = names.iter().map(number).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

#[test]
fn over_changes_of_rate_batches_and_retries_everybody_keeps_their_order_amid_failures() {
    let changing = Changing::start(false);
    let stack = &changing.stack;
    let faults = json!([
        {"when": {"probability": 0.2}, "do": {"status": 503}},
        {"when": {"every": 15}, "do": {"status": 429}},
        {"when": {"probability": 0.1}, "do": {"status": 400}},
        {"do": {"latency": "2ms"}},
    ]);
    let faults = faults.to_string();
    let rules = http(stack.sandbox, "PUT", "/_sandbox/faults", &[ANY_KEY], faults.as_bytes());
    assert_eq!(rules.status, 200, "{}", rules.text());
    let people = ["ada", "bob", "cyd"];
    let load = Load::of(stack, &people);
    let delivered = || usize::try_from(stack.ledger()["delivered"].as_u64().unwrap()).unwrap();
    for n in 1..=8 {
        // Each set of limits is met by a delivery that goes on.
        let before = delivered();
        eventually("events are delivered", || delivered() > before + 10);
        let limits = format!(
            "customerio:\n  rate_limit: {{ requests_per_second: {} }}\n  batch: {{ max_items: {}, linger: {}ms }}\n",
            200 * n,
            1 + n % 4,
            n % 3,
        );
        let text = changing.text.replace("customerio:\n", &limits);
        let retry = format!("retry: {{ initial: {n}ms, max: {}ms }}", 10 * n);
        let text = text.replace("retry: { initial: 5ms, max: 50ms }", &retry);
        write(&changing.file, &text);
        let answer = changing.post();
        let applied = answer.text();
        for key in ["rate_limit.requests_per_second", "batch.max_items", "retry.max"] {
            assert!(applied.contains(key), "{applied}");
        }
        assert!(!applied.contains("needs restart"), "{applied}");
    }
    let sent = load.end();
    let none = http(stack.sandbox, "PUT", "/_sandbox/faults", &[ANY_KEY], b"[]");
    assert_eq!(none.status, 200);
    let ledger = stack.settled();
    assert_eq!(ledger["received"], json!(sent), "{ledger}");
    let arrived: Vec<_> = people.iter().map(|person| changing.names(person)).collect();
    arrived.iter().for_each(|names| assert_in_order(names));
    assert_eq!(json!(arrived.iter().map(Vec::len).sum::<usize>()), ledger["delivered"]);
    assert!(arrived.iter().all(|names| names.len() > 20), "{ledger}");
}

#[test]
fn a_bad_file_changes_nothing_and_is_told_once_and_what_needs_a_restart_is_named() {
    let changing = Changing::start(true);
    changing.save(&format!("{NO_ADS}drain_timeout: 1h\nadmin_token: s3cret\n"), None);
    let error = || changing.status()["config"]["error"].to_string();
    eventually("the bad file is noticed", || error().contains("admin_token"));
    let refusals = || changing.stack.run.said().matches("The reload is refused").count();
    eventually("the refusal is logged", || refusals() == 1);
    let answer = changing.post();
    assert_eq!(answer.status, 422);
    assert!(answer.text().contains("config.yaml") && !answer.text().contains("s3cret"));
    changing.send(1);

    changing.save(&format!("{NO_ADS}drain_timeout: 1h\n"), None);
    eventually("the mended file is noticed", || changing.public().contains("ads"));
    eventually("the error is gone", || changing.status()["config"]["error"].is_null());
    assert_eq!(changing.status()["config"]["needs_restart"], json!(["drain_timeout"]));
    assert!(changing.post().text().ends_with("\nneeds restart: drain_timeout\n"));
    let warned = || changing.stack.run.said().contains("need a restart");
    eventually("the key is named in the log", warned);
    assert_eq!(refusals(), 2, "one look and one request: {}", changing.stack.run.said());
    changing.send(2);
    let ledger = changing.stack.settled();
    assert_eq!((&ledger["delivered"], &ledger["withheld"]), (&json!(1), &json!(1)));
}
