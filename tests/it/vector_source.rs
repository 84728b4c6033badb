//! The `vector` source of the real binary, called as Vector calls it.

pub mod client;
pub mod proto;
pub mod tls;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use self::client::{Client, PUSH, Seen, frame, gzip, zstd};
use self::proto::{request, track};
use crate::support::{PATIENCE, Running, Stack, eventually, free_address, get, http};

/// The pipeline with a `vector` source, and a sandbox.
struct Pipeline {
    stack: Stack,
    vector: SocketAddr,
}

impl Pipeline {
    /// `source` holds keys of the source, `more` further sections.
    fn start(source: &str, more: &str) -> Self {
        let vector = free_address();
        let source = format!("  - {{ type: vector, listen: \"{vector}\", {source} }}\n");
        Self { stack: Stack::start_with_source(&source, more), vector }
    }

    fn kill_and_start(&mut self) {
        self.stack.run.kill();
        let config = self.stack.dir.path().join("config.yaml");
        self.stack.run = Running::start(&["run", "-c", &config.display().to_string()]);
        self.stack.wait_ready();
    }

    fn client(&self) -> Client {
        Client::plain(self.vector)
    }

    fn post(&self, path: &str) {
        assert_eq!(http(self.stack.admin, "POST", path, &[], b"").status, 200, "{path}");
    }

    /// Returns the `n` of a person's events in the sandbox.
    fn arrived(&self, person: &str) -> Vec<u64> {
        let activities = self.stack.activities(person, "event");
        let mut found: Vec<_> =
            activities.iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect();
        found.sort_unstable();
        found
    }

    /// Returns the most memory that the process has held, in MiB.
    #[cfg(target_os = "linux")]
    fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.stack.run.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }
}

fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vector-grpc")
}

fn ok() -> Seen {
    Seen { status: 200, code: 0, message: String::new(), body: vec![0; 5] }
}

#[test]
fn every_recorded_request_is_taken_plain_and_compressed() {
    let mut pipeline = Pipeline::start("event_path: null", "");
    let client = pipeline.client();
    assert_eq!(client.call("/vector.Vector/HealthCheck", None, frame(0, b"")), ok());
    let (mut sent, mut requests) = (0, 0);
    for file in fs::read_dir(recorded()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let known: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let encoding = known["grpc_headers"].as_array().unwrap().iter();
        let encoding = encoding.filter(|header| header[0] == "grpc-encoding").map(|h| &h[1]).next();
        // As it was sent where that was kept, else the message in a frame of our own.
        let body = match fs::read(path.with_extension("frame")) {
            Ok(body) => body,
            Err(_) => frame(0, &fs::read(path.with_extension("bin")).unwrap()),
        };
        assert_eq!(client.call(PUSH, encoding.and_then(Value::as_str), body), ok(), "{path:?}");
        sent += known["events"].as_array().unwrap().len();
        requests += 1;
    }
    assert!(requests >= 20 && sent >= 60, "{requests} requests, {sent} events");
    let ledger = pipeline.stack.settled();
    assert_eq!(ledger["received"], sent, "{ledger}");
    assert!(ledger["malformed"].as_u64() >= Some(11), "the metrics at least: {ledger}");
    assert!(ledger["delivered"].as_u64() >= Some(20), "{ledger}");
    assert_eq!(ledger["failed"], 1, "the event whose name is empty: {ledger}");
    let metrics = get(pipeline.stack.admin, "/metrics").text();
    let line = metrics.lines().find(|line| {
        line.starts_with("component_received_events_total") && line.contains(r#"type="vector""#)
    });
    assert!(line.unwrap().ends_with(&format!(" {sent}")), "{line:?}");
    assert_eq!(pipeline.stack.run.stop().code(), Some(0), "{}", pipeline.stack.run.said());
    assert!(client.try_call(PUSH, None, frame(0, b"")).is_err());
    for secret in ["s3cr3t-value", "d3JpdGUta2V5Og"] {
        assert!(!pipeline.stack.run.said().contains(secret) && !metrics.contains(secret));
    }
}

#[test]
fn a_full_buffer_is_unavailable_until_there_is_room_and_nothing_is_lost() {
    let pipeline =
        Pipeline::start("ack: buffered", "buffer: { max_size: 1 MiB, when_full: refuse }");
    let client = pipeline.client();
    pipeline.post("/pause");
    let large = |n: u64| {
        let text = json!({ "n": n, "text": "x".repeat(20_000) });
        frame(0, &request(&[track(&format!("m-{n}"), "u", &text)]))
    };
    let mut n = 0;
    let refused = loop {
        match client.call(PUSH, None, large(n)) {
            taken if taken == ok() => n += 1,
            refused => break refused,
        }
    };
    assert!((10..60).contains(&n), "{n}");
    assert_eq!(refused.code, 14, "{refused:?}");
    assert!(refused.message.contains("repeat after"), "{refused:?}");
    assert_eq!(pipeline.stack.ledger()["received"], n, "what was refused was not received");
    let health = client.call("/vector.Vector/HealthCheck", None, frame(0, b""));
    assert_eq!(health.body, frame(0, &[8, 1]), "not serving");
    pipeline.post("/resume");
    pipeline.stack.settled();
    assert_eq!(client.call(PUSH, None, large(n)), ok());
    assert_eq!(pipeline.stack.settled()["delivered"], n + 1);
    assert_eq!(pipeline.arrived("u"), (0..=n).collect::<Vec<_>>());
}

#[test]
fn a_killed_process_and_repeated_requests_deliver_each_event_once() {
    let mut pipeline = Pipeline::start("ack: buffered", "");
    let batch = |first: u64| {
        let events: Vec<_> = (first..first + 10)
            // Without a `messageId` of its own an event has the one of Vector's source.
            .map(|n| {
                let id = if n % 2 == 0 { format!("m-{n}") } else { String::new() };
                track(&id, "u", &json!({ "n": n }))
            })
            .collect();
        frame(0, &request(&events))
    };
    let client = pipeline.client();
    pipeline.post("/pause");
    for first in [0, 10] {
        assert_eq!(client.call(PUSH, None, batch(first)), ok());
    }
    pipeline.kill_and_start();
    assert!(client.try_call(PUSH, None, batch(20)).is_err(), "the connection is gone");
    let client = pipeline.client();
    for first in [10, 20, 0] {
        assert_eq!(client.call(PUSH, None, batch(first)), ok());
    }
    pipeline.stack.settled();
    assert_eq!(client.call(PUSH, None, batch(20)), ok());
    pipeline.stack.settled();
    assert_eq!(pipeline.arrived("u"), (0..30).collect::<Vec<_>>());
}

#[test]
fn with_ack_delivered_the_answer_waits_and_a_repeat_stores_nothing_again() {
    let pipeline = Pipeline::start("ack: delivered", "");
    let body = frame(0, &request(&[track("m-1", "u", &json!({ "n": 1 }))]));
    pipeline.post("/pause");
    let waiting = pipeline.client();
    let first = waiting.begin(PUSH, None, body.clone());
    eventually("the event is stored", || pipeline.stack.ledger()["buffered"] == 1);
    assert!(!first.is_finished());
    first.abort();
    let client = pipeline.client();
    let again = client.begin(PUSH, None, body);
    // Only something else that goes the same way shows that the repeat was looked at.
    let other =
        client.begin(PUSH, None, frame(0, &request(&[track("m-2", "u", &json!({ "n": 2 }))])));
    eventually("another event is stored", || pipeline.stack.ledger()["buffered"] == 2);
    assert!(!again.is_finished() && !other.is_finished());
    pipeline.post("/resume");
    assert_eq!((client.end(again), client.end(other)), (ok(), ok()));
    let ledger = pipeline.stack.settled();
    assert_eq!((&ledger["received"], &ledger["delivered"]), (&json!(2), &json!(2)), "{ledger}");
}

#[test]
fn only_clients_with_a_certificate_are_served_and_alpn_is_not_needed() {
    let dir = tempfile::tempdir().unwrap();
    let made = tls::make(dir.path());
    let source = format!(
        "tls: {{ cert_file: {}, key_file: {}, client_ca_file: {} }}",
        made.cert.display(),
        made.key.display(),
        made.ca.display()
    );
    let pipeline = Pipeline::start(&source, "");
    let body = frame(0, &request(&[track("m-1", "u", &json!({ "n": 1 }))]));
    for alpn in [&[][..], &[&b"h2"[..]]] {
        let client = Client::tls(pipeline.vector, made.client(true, alpn)).unwrap();
        assert_eq!(client.call(PUSH, None, body.clone()), ok(), "{alpn:?}");
    }
    let stranger = Client::tls(pipeline.vector, made.client(false, &[]));
    assert!(stranger.and_then(|client| client.try_call(PUSH, None, body.clone())).is_err());
    // Plain HTTP/2 at a port with TLS is cut, not answered.
    let mut plain = TcpStream::connect(pipeline.vector).unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    // A reset is an end as well.
    drop(plain.read_to_end(&mut answer));
    assert!(!answer.windows(4).any(|bytes| bytes == b"HTTP"));
    assert_eq!(pipeline.stack.settled()["received"], 2);
}

#[test]
fn what_is_broken_or_too_large_is_refused_and_memory_stays_bounded() {
    let pipeline = Pipeline::start("max_body: 16 MiB", "");
    let client = pipeline.client();
    let event = request(&[track("m-1", "u", &json!({ "n": 1 }))]);
    let bomb = vec![0; 40 << 20];
    for (encoding, body, code) in [
        (None, frame(0, &event[..event.len() - 1]), 3),
        (None, frame(0, b"{\"type\":\"track\"}"), 3),
        (None, frame(0, &event)[..event.len()].to_vec(), 13),
        (None, frame(1, &event), 13),
        (Some("gzip"), frame(1, &event), 3),
        (Some("zstd"), frame(1, &gzip(&event)), 3),
        (Some("br"), frame(1, &event), 12),
        (Some("gzip"), frame(1, &gzip(&bomb)), 3),
        (Some("zstd"), frame(1, &zstd(&bomb)), 3),
        (None, frame(0, &vec![0; 200 << 20]), 3),
        // Half a million places in the list.
        (None, frame(0, &[0x0a, 0].repeat(500_000)), 3),
    ] {
        let seen = client.call(PUSH, encoding, body);
        assert_eq!(seen.code, code, "{seen:?}");
        assert!(!seen.message.is_empty() && seen.body.is_empty(), "{seen:?}");
    }
    assert_eq!(pipeline.stack.ledger()["received"], 0);
    assert_eq!(client.call(PUSH, None, frame(0, &event)), ok());
    assert_eq!(pipeline.stack.settled()["delivered"], 1);
    #[cfg(target_os = "linux")]
    assert!(pipeline.peak_memory() < 250, "{} MiB", pipeline.peak_memory());
    let errors = get(pipeline.stack.admin, "/metrics").text();
    assert!(errors.contains(r#"error_type="too_large""#), "{errors}");
    eventually("the log tells", || pipeline.stack.run.said().contains("Request refused for good"));
}

#[test]
fn a_large_message_is_taken_whole_beside_a_thousand_idle_connections() {
    let pipeline = Pipeline::start("ack: buffered", "");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let idle: Vec<_> = (0..1000)
        .map(|n| {
            let mut stream = TcpStream::connect(pipeline.vector).unwrap();
            // Some say nothing, some half of a preface, some all of it.
            stream.write_all(&preface[..(n % 3) * 16]).unwrap();
            stream
        })
        .collect();
    let large: Vec<_> = (0..500)
        .map(|n| track(&format!("m-{n}"), "u", &json!({ "n": n, "text": "x".repeat(9_000) })))
        .collect();
    let large = request(&large);
    assert!(large.len() > 4 << 20, "what gRPC servers allow by default");
    assert_eq!(pipeline.client().call(PUSH, None, frame(0, &large)), ok());
    assert_eq!(pipeline.stack.settled()["delivered"], 500);
    #[cfg(target_os = "linux")]
    assert!(pipeline.peak_memory() < 300, "{} MiB", pipeline.peak_memory());
    drop(idle);
}
