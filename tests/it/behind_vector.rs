//! The real process behind a stand-in for Vector: every event of its inputs arrives exactly once, over
//! both protocols, whatever happens to the process, to Vector, and at Customer.io.
//!
//! The stand-in writes what a real Vector 0.58 wrote, byte for byte (`wire`, `sink`), and repeats and
//! drops as that did. A batch that it drops fails the test at once.

mod sink;
mod traffic;
mod vector;
mod wire;

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rudder_customerio::sandbox::Sandbox;
use serde_json::{Value, json};

use self::sink::{Protocol, TOKEN};
use self::traffic::{Rigour, Traffic, Wanted};
use self::vector::{Settings, Vector};
use self::wire::{Compression, Framing};
use crate::support::lives::Lives;
use crate::support::{eventually, number_from};

/// What happens while events come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// SIGKILL to us, and a new life at once.
    Kill,
    /// SIGKILL to us, and nobody there for some of Vector's seconds.
    Down(u32),
    /// SIGTERM to us, and a new life.
    Stop,
    /// SIGKILL to Vector, and a new life.
    KillVector,
    /// Both.
    KillBoth,
    /// Another configuration of ours, by request.
    Reload,
}

/// One run.
#[derive(Clone)]
struct Scenario {
    protocol: Protocol,
    compression: Compression,
    ack: &'static str,
    adaptive: bool,
    only_json: bool,
    /// Laid over our configuration.
    config: Value,
    faults: Value,
    troubles: &'static [Trouble],
    /// How many of the troubles happen, in turns.
    times: usize,
    /// Lines of the file; the clients of the HTTP input send half as many.
    lines: usize,
    span: Duration,
    /// How long Vector waits for an answer. What it has given up may still be on its way here, and
    /// come after what follows: no less than it takes, unless answers are to be missed.
    timeout: Duration,
    padding: usize,
    max_events: usize,
    built_in_mapping: bool,
    /// Warnings and errors of the log that belong to it.
    expected: &'static [&'static str],
}

/// What the log tells while Customer.io fails.
const AWAY: &[&str] = &[
    "Customer.io takes no requests; delivery waits.",
    // Faults may meet the check of a new life.
    "The credentials could not be checked.",
];

const GRPC: Protocol = Protocol::Grpc;
const HTTP: Protocol = Protocol::Http(Framing::Lines);

impl Default for Scenario {
    fn default() -> Self {
        Self {
            protocol: GRPC,
            compression: Compression::None,
            ack: "buffered",
            adaptive: false,
            only_json: true,
            config: json!({}),
            faults: json!([{"do": {"latency": {"p50": "2ms", "p99": "20ms"}}}]),
            troubles: &[],
            times: 0,
            lines: 600,
            span: Duration::from_millis(700),
            timeout: Duration::from_secs(30),
            padding: 0,
            max_events: 60,
            built_in_mapping: false,
            expected: &[],
        }
    }
}

/// A second of Vector's.
const SECOND: Duration = Duration::from_millis(20);

/// How long a run may take after its troubles; a limit, not a measure.
const PATIENCE: Duration = Duration::from_secs(120);

/// A run that goes on.
struct Run {
    scenario: Scenario,
    lives: Lives,
    vector: Vector,
    wanted: Wanted,
    random: fastrand::Rng,
    said: String,
    reloads: u64,
    read_twice: bool,
}

impl Run {
    fn start(scenario: &Scenario, seed: u64) -> Self {
        let scenario = scenario.clone();
        let lives = Lives::beside(Sandbox::builder().seed(seed), &scenario.config);
        configure(&lives, &scenario);
        let mut traffic = Traffic::new(seed, scenario.protocol == GRPC, scenario.padding);
        let file = traffic.lines("file", scenario.lines);
        let posts = ["web", "app"].map(|client| traffic.lines(client, scenario.lines / 4)).to_vec();
        let settings = Settings {
            protocol: scenario.protocol,
            compression: scenario.compression,
            adaptive: scenario.adaptive,
            second: SECOND,
            timeout: scenario.timeout,
            max_events: scenario.max_events,
            only_json: scenario.only_json,
        };
        let mut lives = lives;
        lives.start();
        lives.set_faults(&scenario.faults);
        let mut vector = Vector::new(settings, lives.gateway, seed, file, posts, scenario.span);
        vector.start();
        let random = fastrand::Rng::with_seed(seed);
        let (said, wanted) = (String::new(), traffic.wanted);
        Self { scenario, lives, vector, wanted, random, said, reloads: 0, read_twice: false }
    }

    fn cause(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Kill => {
                self.kill();
                self.lives.spawn();
                // Some die while they start.
                if self.random.u8(0..4) > 0 {
                    self.lives.wait_ready();
                }
            }
            Trouble::Down(seconds) => {
                self.kill();
                sleep(SECOND * seconds);
                self.lives.start();
            }
            Trouble::Stop => {
                self.lives.wait_ready();
                let (status, said) = self.lives.stop();
                assert_eq!(status.code(), Some(0), "{said}");
                self.said += &said;
                self.lives.start();
            }
            Trouble::KillVector => {
                self.vector.kill();
                sleep(SECOND * self.random.u32(0..3));
                self.read_twice = true;
                self.vector.start();
            }
            Trouble::KillBoth => {
                self.vector.kill();
                self.kill();
                self.read_twice = true;
                self.vector.start();
                self.lives.start();
            }
            Trouble::Reload => {
                self.lives.wait_ready();
                self.reloads += 1;
                let text = fs::read_to_string(self.lives.config()).unwrap();
                let mut config: Value = serde_json::from_str(&text).unwrap();
                config["customerio"]["batch"]["max_items"] = (20 + self.reloads % 40).into();
                config["customerio"]["rate_limit"]["requests_per_second"] =
                    (500 + self.reloads).into();
                fs::write(self.lives.config(), config.to_string()).unwrap();
                self.post("/reload");
            }
        }
    }

    fn post(&self, path: &str) {
        assert_eq!(self.lives.ask("POST", path).expect("it answers").status, 200, "{path}");
    }

    fn kill(&mut self) {
        self.said += &self.lives.run().said();
        self.lives.kill();
    }

    /// The law holds whenever somebody answers.
    fn look(&self) {
        let Ok(answer) = self.lives.ask("GET", "/status") else { return };
        let Ok(status) = serde_json::from_slice::<Value>(&answer.body) else { return };
        assert_eq!(status["ledger"]["gap"], 0, "{status}");
        assert!(status["all_lives"].is_null() || status["all_lives"]["gap"] == 0, "{status}");
    }

    /// Waits until Vector has nothing left to send.
    fn wait_for_vector(&self) {
        let begin = Instant::now();
        while !self.vector.is_done() {
            assert!(
                begin.elapsed() < PATIENCE,
                "Vector is at {:?} with {:?}; we: {}",
                self.vector.place(),
                self.vector.figures(),
                self.lives.ask("GET", "/status").map_or_else(|e| e.to_string(), |a| a.text())
            );
            sleep(Duration::from_millis(5));
        }
    }

    fn finish(mut self) {
        self.lives.wait_ready();
        self.wait_for_vector();
        let status = self.lives.settled();
        let account = &status["all_lives"];
        let (code, said) = self.lives.stop();
        assert_eq!(code.code(), Some(0), "{said}");
        self.said += &said;
        let figures = self.vector.figures();
        let copies = figures.copies.load(SeqCst);
        let stats = self.lives.sandbox.stats();
        println!(
            "{} lines; {} requests in {} attempts with {} events, retries {:?}; Customer.io: {:?} \
             answers, {} operations, {} events again; {account}",
            self.wanted.lines,
            figures.requests.load(SeqCst),
            figures.attempts.load(SeqCst),
            copies,
            figures.retries.lock().unwrap(),
            stats.statuses,
            stats.accepted,
            stats.workspace.duplicates_ignored,
        );
        let ordered = !self.scenario.adaptive;
        let rigour = Rigour { ordered, read_twice: self.read_twice };
        self.wanted.check(&self.lives.sandbox, rigour);
        self.wanted.check_account(account, copies);
        assert_eq!(self.lives.letters(), Vec::<Value>::new(), "dead letters");
        self.check_log();
    }

    /// No warning and no error but those that belong to the scenario.
    fn check_log(&self) {
        let bad = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
        let expected = |line: &str| self.scenario.expected.iter().any(|text| line.contains(text));
        let lines = self.said.lines().filter(bad).filter(|line| !expected(line));
        // Without the time.
        let lines: BTreeSet<_> =
            lines.filter_map(|line| line.split_once(' ')).map(|l| l.1).collect();
        assert!(lines.is_empty(), "the log tells: {lines:#?}");
        assert!(!self.said.contains(TOKEN), "the log tells a secret");
    }
}

/// Puts the source into the configuration, and scripts for more types into its folder.
fn configure(lives: &Lives, scenario: &Scenario) {
    let text = fs::read_to_string(lives.config()).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let (kind, token) = match scenario.protocol {
        Protocol::Grpc => ("vector", None),
        Protocol::Http(_) => ("http", Some(TOKEN)),
    };
    let mut source = json!({"type": kind, "listen": lives.gateway, "ack": scenario.ack});
    if let Some(token) = token {
        source["token"] = token.into();
    }
    config["sources"] = json!([source]);
    config["customerio"]["merge_settle"] = "10ms".into();
    if scenario.built_in_mapping {
        config["mapping"]["dir"] = Value::Null;
    }
    fs::write(lives.config(), config.to_string()).unwrap();
    let scripts = lives.dir.path().join("vrl");
    let list =
        "identify: [identify.vrl]\ntrack: [track.vrl]\nalias: [alias.vrl]\ngroup: [group.vrl]\n";
    let alias = ". = { \"type\": \"person\", \"action\": \"merge\", \
                 \"primary\": { \"id\": string!(.userId) }, \
                 \"secondary\": { \"id\": string!(.previousId) } }\n";
    let group = ". = { \"type\": \"object\", \"action\": \"identify\", \
                 \"identifiers\": { \"object_id\": string!(.groupId), \"object_type_id\": \"1\" }, \
                 \"attributes\": object(.traits) ?? {}, \
                 \"cio_relationships\": [{ \"identifiers\": { \"id\": string!(.userId) } }] }\n";
    for (file, text) in [("mapping.yaml", list), ("alias.vrl", alias), ("group.vrl", group)] {
        fs::write(scripts.join(file), text).unwrap();
    }
}

/// Returns what a run depends on, as far as it is not left to the machine.
fn seed() -> u64 {
    let seed = number_from("VECTOR_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("again with VECTOR_SEED={seed}");
    seed
}

/// Runs a scenario to its end, and checks everything.
fn run(scenario: &Scenario) {
    let begin = Instant::now();
    let mut run = Run::start(scenario, seed());
    for trouble in scenario.troubles.iter().cycle().take(scenario.times) {
        sleep(Duration::from_millis(run.random.u64(0..120)));
        run.look();
        run.cause(*trouble);
    }
    run.look();
    run.finish();
    println!("{:?}", begin.elapsed());
}

/// Runs a scenario over both protocols, with both kinds of acknowledgement.
fn run_each(scenario: &Scenario) {
    for (protocol, compression, ack) in [
        (GRPC, Compression::None, "buffered"),
        (HTTP, Compression::Zstd, "buffered"),
        (GRPC, Compression::Zstd, "delivered"),
        (Protocol::Http(Framing::Array), Compression::Gzip, "delivered"),
    ] {
        println!("{protocol:?} {compression:?} {ack}");
        let only_json = protocol != GRPC;
        run(&Scenario { protocol, compression, ack, only_json, ..scenario.clone() });
    }
}

#[test]
fn without_trouble_each_event_is_sent_once() {
    run_each(&Scenario { span: Duration::ZERO, ..Scenario::default() });
}

#[test]
fn with_the_built_in_mapping_and_many_requests_in_flight() {
    for protocol in [GRPC, HTTP] {
        let scenario = Scenario { protocol, built_in_mapping: true, ..Scenario::default() };
        run(&Scenario { adaptive: true, span: Duration::ZERO, ..scenario });
    }
}

#[test]
fn amid_faults_of_customer_io() {
    let faults = json!([
        {"when": {"probability": 0.1}, "do": {"status": 503}},
        {"when": {"probability": 0.1}, "do": {"status": 500}},
        {"when": {"every": 40, "times": 2}, "do": {"status": 429, "retry_after": 1}},
        {"when": {"probability": 0.1}, "do": {"items": {"probability": 0.3}}},
        {"when": {"probability": 0.1}, "do": {"reset": "after_request"}},
        {"when": {"probability": 0.05}, "do": {"reset": "mid_response"}},
        {"when": {"probability": 0.05}, "do": {"reset": "accept"}},
        {"when": {"probability": 0.05}, "do": {"bad_errors": "cut"}},
        {"do": {"latency": "2ms"}},
    ]);
    // In one batch what is refused alone would be overtaken by what follows it.
    let config =
        json!({"customerio": {"ordering": "strict", "retry": {"item_reasons": ["invalid"]}}});
    run_each(&Scenario { faults, config, expected: AWAY, ..Scenario::default() });
}

#[test]
fn while_customer_io_is_away_for_longer_than_vector_waits_for_an_answer() {
    let faults = json!([
        {"when": {"after": "50ms", "for": "1700ms"}, "do": {"status": 503}},
        {"do": {"latency": "2ms"}},
    ]);
    let timeout = 60 * SECOND;
    run_each(&Scenario { faults, expected: AWAY, lines: 300, timeout, ..Scenario::default() });
}

#[test]
fn while_the_buffer_is_full() {
    for (protocol, when_full, why) in [
        (GRPC, "refuse", "no room for the events"),
        (HTTP, "wait", "timeout"),
        (HTTP, "refuse", "HTTP 503"),
    ] {
        let scenario = Scenario {
            protocol,
            config: json!({"buffer": {"max_size": "1 MiB", "when_full": when_full}}),
            padding: 3_000,
            timeout: 60 * SECOND,
            expected: &["Delivery is paused."],
            ..Scenario::default()
        };
        let run = Run::start(&scenario, seed());
        run.post("/pause");
        eventually("Vector is told to wait", || {
            run.vector.figures().retries.lock().unwrap().keys().any(|text| text.contains(why))
        });
        run.look();
        run.post("/resume");
        run.finish();
    }
}

#[test]
fn over_kills_of_the_process() {
    run_each(&Scenario { troubles: &[Trouble::Kill], times: 4, ..Scenario::default() });
}

#[test]
fn over_kills_of_the_process_with_many_requests_in_flight() {
    let troubles = &[Trouble::Kill, Trouble::Down(5)];
    for (protocol, ack) in [(GRPC, "delivered"), (HTTP, "buffered")] {
        let scenario = Scenario { protocol, ack, troubles, times: 3, ..Scenario::default() };
        run(&Scenario { adaptive: true, ..scenario });
    }
}

#[test]
fn while_the_process_is_down_for_a_minute() {
    run_each(&Scenario { troubles: &[Trouble::Down(60)], times: 1, ..Scenario::default() });
}

#[test]
fn over_kills_of_vector_and_of_both() {
    let troubles = &[Trouble::KillVector, Trouble::KillBoth];
    run_each(&Scenario { troubles, times: 4, ..Scenario::default() });
}

#[test]
fn over_stops_and_reloads_under_load() {
    let troubles = &[Trouble::Reload, Trouble::Stop, Trouble::Reload];
    run_each(&Scenario { troubles, times: 5, ..Scenario::default() });
}

/// The long run: two hundred kills, stops, and reloads amid faults, in both orders of sending.
///
/// ```text
/// cargo test --test it -- --ignored --nocapture behind_vector
/// ```
///
/// The same again with `VECTOR_SEED` as printed, more with `VECTOR_TROUBLES`.
#[test]
#[ignore = "takes minutes; see the command above"]
fn over_two_hundred_troubles_of_all_kinds() {
    let times = usize::try_from(number_from("VECTOR_TROUBLES").unwrap_or(200)).unwrap() / 8;
    let faults = json!([
        {"when": {"probability": 0.05}, "do": {"status": 503}},
        {"when": {"probability": 0.05}, "do": {"status": 500}},
        {"when": {"probability": 0.02}, "do": {"status": 429, "retry_after": 1}},
        {"when": {"probability": 0.05}, "do": {"reset": "after_request"}},
        {"when": {"probability": 0.05}, "do": {"reset": "mid_response"}},
        {"when": {"probability": 0.05}, "do": {"reset": "accept"}},
        {"when": {"probability": 0.05}, "do": {"bad_errors": "cut"}},
        {"do": {"latency": {"p50": "4ms", "p99": "60ms"}}},
    ]);
    let troubles = &[
        Trouble::Kill,
        Trouble::KillVector,
        Trouble::Kill,
        Trouble::Down(20),
        Trouble::Kill,
        Trouble::Reload,
        Trouble::KillBoth,
        Trouble::Stop,
        Trouble::Kill,
    ];
    for adaptive in [false, true] {
        run_each(&Scenario {
            faults: faults.clone(),
            troubles,
            times,
            lines: 150 * times,
            span: Duration::from_millis(250) * u32::try_from(times).unwrap(),
            adaptive,
            expected: AWAY,
            ..Scenario::default()
        });
    }
}
