//! The source `http`: real binary, real sockets, every encoding, hostile senders.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use serde_json::{Value, json};

use crate::support::{
    Answer, PATIENCE, Running, Stack, eventually, exchange, free_address, get, http,
};

const TOKEN: (&str, &str) = ("Authorization", "Bearer token-of-the-test");

/// A pipeline with a source of type http, which more keys are given for.
fn start(keys: &str, more: &str) -> (Stack, SocketAddr) {
    let address = free_address();
    let source =
        format!("  - {{ type: http, listen: \"{address}\", token: token-of-the-test{keys} }}\n");
    (Stack::start_with_source(&source, more), address)
}

fn identify(id: &str) -> Value {
    json!({ "type": "identify", "userId": id, "messageId": format!("m-{id}"),
        "traits": { "email": format!("{id}@example.com") } })
}

fn post(address: SocketAddr, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut all = vec![TOKEN];
    all.extend_from_slice(headers);
    http(address, "POST", "/in", &all, body)
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_encoding_and_framing_is_delivered_before_the_answer_if_asked_for() {
    let (stack, address) = start(", ack: delivered", "");
    let events: Vec<_> = (0..7).map(|n| identify(&format!("p{n}")).to_string()).collect();
    let e = |n: usize| events[n].as_bytes();
    let array = format!("[{}]", events[1]);
    let batch = format!("{{\"batch\":[{}],\"sentAt\":\"2026-01-01T00:00:00.000Z\"}}", events[2]);
    let zstd = zstd::encode_all(e(4), 1).unwrap();
    let snappy = snap::raw::Encoder::new().compress_vec(e(5)).unwrap();
    for (coding, body) in [
        ("identity", e(0)),
        ("identity", array.as_bytes()),
        ("gzip", &gzip(batch.as_bytes())),
        ("deflate", &zlib(e(3))),
        ("zstd", &zstd),
        ("snappy", &snappy),
        ("gzip, gzip", &gzip(&gzip(e(6)))),
    ] {
        let answer = post(address, &[("Content-Encoding", coding)], body);
        assert_eq!((answer.status, answer.text().as_str()), (200, "{}\n"), "{coding}");
    }
    // The answers were to wait for the deliveries.
    let ledger = stack.ledger();
    assert_eq!((&ledger["received"], &ledger["delivered"]), (&json!(7), &json!(7)), "{ledger}");
    for n in 0..7 {
        let attributes = stack.attributes("id", &format!("p{n}")).expect("the person is there");
        assert_eq!(attributes["attributes"]["email"], format!("p{n}@example.com"));
    }
}

#[test]
fn ten_thousand_lines_are_one_request_and_every_bad_one_is_counted() {
    let (stack, address) = start(", event_path: .message", "buffer: { type: memory }");
    let mut body = String::new();
    for n in 0..10_000 {
        let line = match n {
            17 => "not json".to_owned(),
            18 => json!({ "message": "a line of a log" }).to_string(),
            19 => json!({ "message": { "userId": "u" } }).to_string(),
            n if n % 2 == 0 => {
                json!({ "host": "h", "message": identify(&format!("u{}", n % 10)).to_string() })
                    .to_string()
            }
            n => json!({ "message": { "type": "heartbeat", "userId": n.to_string() } }).to_string(),
        };
        body.push_str(&line);
        body.push('\n');
    }
    let answer = post(address, &[("Content-Type", "application/x-ndjson")], body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let ledger = stack.settled();
    let counted = |key: &str| ledger[key].as_u64().unwrap();
    assert_eq!(counted("received"), 10_000, "{ledger}");
    assert_eq!((counted("malformed"), counted("filtered")), (3, 4998), "{ledger}");
    assert_eq!(counted("delivered"), 4999, "{ledger}");
    let metrics = get(stack.admin, "/metrics").text();
    for reason in ["invalid_json", "no_event_at_path", "invalid_type"] {
        let line = metrics.lines().find(|l| l.contains(&format!("reason=\"{reason}\"")));
        assert!(line.is_some_and(|l| l.ends_with(" 1")), "{reason}: {line:?}");
    }
}

#[test]
fn a_full_buffer_is_told_and_the_repetition_is_taken() {
    // Nothing is delivered while it is paused, so that the buffer fills.
    let more = "buffer: { type: memory, max_size: 1 MiB, when_full: refuse }";
    let (mut stack, address) = start("", more);
    assert_eq!(http(stack.admin, "POST", "/pause", &[], b"").status, 200);
    let blob = "x".repeat(20_000);
    let event = |n: usize| {
        let mut event = identify(&format!("f{n}"));
        event["traits"]["blob"] = blob.as_str().into();
        event.to_string()
    };
    let mut sent = 0;
    let full = loop {
        let answer = post(address, &[], event(sent).as_bytes());
        if answer.status != 200 {
            break answer;
        }
        sent += 1;
        assert!(sent < 200, "the buffer takes more than it may");
    };
    assert_eq!(full.status, 503);
    assert!(full.json()["error"].as_str().unwrap().contains("send again"), "{}", full.text());
    assert_eq!(http(stack.admin, "POST", "/resume", &[], b"").status, 200);
    eventually("the repetition is taken", || {
        post(address, &[], event(sent).as_bytes()).status == 200
    });
    let ledger = stack.settled();
    assert_eq!(ledger["received"], sent + 1, "{ledger}");
    assert!(stack.run.stop().success());
}

#[test]
fn strangers_are_refused_loudly_and_without_their_secret() {
    let (stack, address) = start("", "");
    let body = identify("stranger").to_string();
    for header in ["Bearer s3cret-of-another", "Basic czNjcmV0LW9mLWFub3RoZXI6eA=="] {
        let headers = [("Authorization", header)];
        let answer = http(address, "POST", "/", &headers, body.as_bytes());
        assert_eq!(answer.status, 401);
        assert!(answer.json()["error"].as_str().unwrap().contains("token"));
    }
    assert_eq!(http(address, "POST", "/", &[], body.as_bytes()).status, 401);
    assert_eq!(stack.ledger()["received"], 0);
    assert_eq!(
        (get(address, "/").status, http(address, "HEAD", "/x", &[], b"").status),
        (200, 200)
    );
    eventually("the log tells", || stack.run.said().contains("status=401"));
    let said = stack.run.said();
    assert_eq!(said.matches("status=401").count(), 1, "{said}");
    assert!(said.contains("Vector: `auth` of the sink"), "{said}");
    assert!(!said.contains("s3cret") && !said.contains("token-of-the-test"), "{said}");
    let metrics = get(stack.admin, "/metrics").text();
    let line = metrics.lines().find(|l| l.contains("error_type=\"unauthorized\""));
    assert!(
        line.is_some_and(|l| l.contains("component_type=\"http\"") && l.ends_with(" 3")),
        "{line:?}"
    );
}

#[test]
fn hostile_bodies_are_refused_and_the_source_goes_on() {
    let (mut stack, address) = start(", max_body: 1 MiB", "");
    let bomb = gzip(&vec![b' '; 10 << 20]);
    let nested = gzip(&gzip(&vec![b' '; 10 << 20]));
    let whole = gzip(identify("half").to_string().as_bytes());
    for (coding, body, status) in [
        ("gzip", &bomb[..], 413),
        ("gzip, gzip", &nested, 413),
        ("gzip", &whole[..whole.len() / 2], 400),
        ("zstd", &whole, 400),
        ("snappy", b"\xff\xff\xff\xff\x0f", 400),
        ("br", &whole, 415),
        ("identity", &b"[".repeat(1 << 19), 400),
        ("identity", b"\0\0\x03\x01", 415),
    ] {
        let answer = post(address, &[("Content-Encoding", coding)], body);
        assert_eq!(answer.status, status, "{coding}: {}", answer.text());
    }

    // A sender of what is far too large gets its answer, and not a broken pipe.
    let head = |length: usize| {
        format!(
            "POST / HTTP/1.1\r\nHost: x\r\n{}: {}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n",
            TOKEN.0, TOKEN.1
        )
    };
    let request = [head(200 << 20).as_bytes(), &vec![b' '; 200 << 20]].concat();
    let answer = exchange(address, &request).unwrap();
    assert_eq!(answer.status, 413);
    assert!(answer.text().contains("1048576 bytes"), "{}", answer.text());

    // Bodies that never end do not keep others from sending.
    let slow: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(head(1000).as_bytes()).unwrap();
            stream.write_all(b"{\"type\":").unwrap();
            stream
        })
        .collect();
    assert_eq!(post(address, &[], identify("after").to_string().as_bytes()).status, 200);
    let ledger = stack.settled();
    assert_eq!((&ledger["received"], &ledger["delivered"]), (&json!(1), &json!(1)), "{ledger}");
    drop(slow);
    assert!(stack.run.stop().success());
}

#[test]
fn with_ack_delivered_a_sender_that_hung_up_comes_back_for_the_end_of_its_events() {
    let (stack, address) = start(", ack: delivered", "");
    let admin = |path: &str| assert_eq!(http(stack.admin, "POST", path, &[], b"").status, 200);
    let buffered = |n: u64| {
        eventually("the events are stored", || stack.ledger()["buffered"] == n);
    };
    let begin = |id: &str| {
        let body = json!([{ "type": "identify", "userId": id }, identify("of-all")]).to_string();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}: {}\r\n",
            TOKEN.0, TOKEN.1
        );
        write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").unwrap();
        stream
    };
    let end = |mut stream: TcpStream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    // The other side closes the connection when it has seen the end of this one.
    let hang_up = |mut stream: TcpStream| {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "");
    };

    // It comes back while the events wait, once they are delivered, and as another one beside it.
    admin("/pause");
    let (early, late) = (begin("early"), begin("late"));
    buffered(4);
    hang_up(early);
    hang_up(late);
    let repeats = [begin("early"), begin("early"), begin("other")];
    buffered(6);
    admin("/resume");
    for repeat in repeats {
        end(repeat);
    }
    assert_eq!(stack.settled()["received"], 6);
    end(begin("late"));
    assert_eq!(stack.ledger()["received"], 6, "of which it was not told yet");

    // Now it knows: the same again is meant.
    end(begin("late"));
    end(begin("early"));
    assert_eq!(stack.settled()["received"], 10);
}

/// Certificates of a listener and of its clients, signed by one authority.
struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { authority: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.authority).unwrap(), key)
    }

    /// Sends a request over TLS, with or without a client certificate; `None` if it was not answered.
    fn ask(&self, address: SocketAddr, known: bool, request: &[u8]) -> Option<String> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = if known {
            let (certificate, key) = self.issue();
            let key = PrivatePkcs8KeyDer::from(key.serialize_der());
            builder.with_client_auth_cert(vec![certificate.der().clone()], key.into()).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        let name = ServerName::try_from("localhost").unwrap();
        let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = rustls::StreamOwned::new(client, socket);
        stream.write_all(request).ok()?;
        let mut answer = Vec::new();
        // The end may come without a farewell.
        drop(stream.read_to_end(&mut answer));
        (!answer.is_empty()).then(|| String::from_utf8_lossy(&answer).into_owned())
    }
}

#[test]
fn every_listener_speaks_tls_and_asks_for_client_certificates() {
    let certificates = Certificates::new();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (certificate, key) = certificates.issue();
    fs::write(path("tls.crt"), certificate.pem()).unwrap();
    fs::write(path("tls.key"), key.serialize_pem()).unwrap();
    fs::write(path("ca.pem"), certificates.authority.pem()).unwrap();
    let tls = format!(
        "tls: {{ cert_file: {}, key_file: {}, client_ca_file: {} }}",
        path("tls.crt").display(),
        path("tls.key").display(),
        path("ca.pem").display()
    );
    let gateway = free_address();
    let more_sources = format!("  - {{ type: rudderstack, listen: \"{gateway}\", {tls} }}\n");
    let address = free_address();
    let source = format!("  - {{ type: http, listen: \"{address}\", {tls} }}\n{more_sources}");
    let stack = Stack::start_with_source(&source, "");
    let body = identify("over-tls").to_string();
    let request = |more: &str| {
        let length = body.len();
        format!(
            "POST /v1/identify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let auth = format!("{}: {}\r\n", crate::support::AUTH.0, crate::support::AUTH.1);
    for (address, more) in [(address, ""), (gateway, &*auth)] {
        let request = request(more);
        let answer = certificates.ask(address, true, request.as_bytes()).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(certificates.ask(address, false, request.as_bytes()), None);
        // Without TLS nothing is answered in the clear.
        if let Ok(answer) = exchange(address, request.as_bytes()) {
            assert_ne!(answer.status, 200);
        }
    }
    let ledger = stack.settled();
    assert_eq!(ledger["received"], 2, "{ledger}");
    let metrics = get(stack.admin, "/metrics").text();
    assert!(metrics.lines().any(|l| l.contains("error_type=\"tls\"") && l.contains("\"http\"")));

    fs::write(path("tls.key"), "no key").unwrap();
    let config = stack.dir.path().join("config.yaml");
    for command in ["run", "validate"] {
        let mut process = Running::start(&[command, "-c", &config.display().to_string()]);
        assert_eq!(process.wait().code(), Some(78), "{}", process.said());
        assert!(process.said().contains("sources[1].tls.key_file"), "{}", process.said());
    }
}
