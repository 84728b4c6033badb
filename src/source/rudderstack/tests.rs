use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::config::{Ack, WriteKey};
use crate::source::server::{self, Limits};
use crate::source::submit::recorder::Recorder;
use crate::source::{EventBatch, Refused};

/// A running gateway.
struct Running {
    address: SocketAddr,
    recorder: Recorder,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn recorder() -> Recorder {
    // The gateway refuses instead of waiting.
    Recorder::new("rudderstack", Duration::ZERO)
}

fn config(ack: Ack) -> RudderStackConfig {
    let key = |key: &str, enabled| WriteKey {
        key: key.into(),
        name: "web shop".into(),
        source_type: "web".into(),
        enabled,
    };
    RudderStackConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        write_keys: vec![key("WRITE_KEY_TEST", true), key("DISABLED_KEY", false)],
        ack,
        max_body: 4_096_000,
        trusted_proxies: vec![],
        tls: None,
    }
}

fn kind(source: RudderStackConfig) -> GatewayConfig {
    GatewayConfig { source, view: source_config::tests::view() }
}

fn start_with(config: RudderStackConfig, recorder: Recorder) -> Running {
    let source = RudderStackSource::bind(kind(config), None).unwrap();
    let address = source.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(source.run(recorder.clone(), stopped));
    Running { address, recorder, stop, task }
}

fn gateway(ack: Ack, recorder: Recorder) -> Gateway<Recorder> {
    let view = source_config::tests::view();
    Gateway::new(&config(ack), view, Arc::new(|| true), recorder)
}

fn start() -> Running {
    start_with(config(Ack::Buffered), recorder())
}

/// An answer as it came over the wire.
#[derive(Debug)]
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Running {
    /// Sends the bytes of one request and reads one answer.
    async fn raw(&self, request: &[u8]) -> Got {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        read_answer(&mut stream).await
    }

    async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Got {
        let mut request = format!("{method} {target} HTTP/1.1\r\n");
        let has = |name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        if !has("host") {
            request.push_str("Host: localhost\r\n");
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !has("content-length") && !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.raw(&[request.as_bytes(), b"\r\n", body].concat()).await
    }

    async fn post(&self, target: &str, body: &str) -> Got {
        self.send("POST", target, &[AUTH], body.as_bytes()).await
    }

    fn taken(&self) -> Vec<EventBatch> {
        std::mem::take(&mut *self.recorder.batches.lock().unwrap())
    }

    /// Takes the one batch that was submitted, and its events as JSON.
    fn one(&self) -> (EventBatch, Vec<Value>) {
        let mut batches = self.taken();
        assert_eq!(batches.len(), 1);
        let batch = batches.remove(0);
        let json = |e: &crate::source::Incoming| e.json.clone().unwrap();
        let events =
            batch.elements.iter().map(|e| serde_json::from_slice(&json(e)).unwrap()).collect();
        (batch, events)
    }
}

async fn read_answer(stream: &mut TcpStream) -> Got {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            let mut got = Got { status, head, body: bytes.split_off(end + 4) };
            let length: usize = got.header("content-length").map_or(0, |n| n.parse().unwrap());
            let missing = length - got.body.len();
            let mut rest = vec![0; missing];
            stream.read_exact(&mut rest).await.unwrap();
            got.body.extend(rest);
            return got;
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "closed early: {bytes:?}");
    }
}

const AUTH: (&str, &str) = ("Authorization", "Basic V1JJVEVfS0VZX1RFU1Q6");

const TRACK: &str = r#"{"userId":"u1","event":"e"}"#;

#[tokio::test]
async fn statuses_and_texts_are_those_of_rudderstack() {
    let gateway = start();
    let mut cases = 0;
    for line in include_str!("../../../tests/data/gateway/requests.ndjson").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["name"].as_str().unwrap();
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let headers: Vec<_> =
            case["headers"].as_object().unwrap().iter().map(|(k, v)| (&**k, text(v))).collect();
        let headers: Vec<_> = headers.iter().map(|(k, v)| (*k, &**v)).collect();
        let body = match (&case["body"], &case["body_base64"]) {
            (Value::String(body), _) => body.clone().into_bytes(),
            (_, Value::String(body)) => STANDARD.decode(body).unwrap(),
            _ => Vec::new(),
        };
        let got = gateway.send(&text(&case["method"]), &text(&case["path"]), &headers, &body).await;
        let mut status = case["expect"]["status"].as_u64().unwrap();
        if name == "not_gzip_with_header" {
            // SDKs repeat what got 500, and it can never succeed.
            assert_eq!(status, 500);
            status = 400;
        }
        assert_eq!(u64::from(got.status), status, "{name}");
        if let Some(body) = case["expect"]["body"].as_str() {
            assert_eq!(got.text(), body, "{name}");
            assert_eq!(got.header("content-type"), Some("text/plain; charset=utf-8"), "{name}");
            let sniff = got.header("x-content-type-options");
            assert_eq!(sniff, (status >= 400).then_some("nosniff"), "{name}");
        }
        let stored = gateway.taken();
        let expected =
            status == 200 && !["ok_import_empty", "pixel_no_key", "health"].contains(&name);
        assert_eq!(stored.len(), usize::from(expected), "{name}");
        if let Some(kind) = case["note"].as_str().and_then(|n| n.strip_prefix("stored type is ")) {
            assert_eq!(stored[0].set_type, Some(kind));
        }
        cases += 1;
    }
    assert_eq!(cases, 42);
}

/// Removes white space between tokens, so that captured bodies are as they were on the wire.
fn compact(json: &str) -> String {
    let (mut out, mut in_string, mut escaped) = (String::new(), false, false);
    for c in json.chars() {
        if in_string || !c.is_whitespace() {
            out.push(c);
        }
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
    }
    out
}

#[derive(serde::Deserialize)]
struct Capture<'a> {
    #[serde(borrow)]
    requests: Vec<Captured<'a>>,
}

#[derive(serde::Deserialize)]
struct Captured<'a> {
    method: &'a str,
    target: &'a str,
    headers: Vec<(String, String)>,
    raw_body_base64: Option<&'a str>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    raw_body_bytes: usize,
}

#[tokio::test]
async fn captured_requests_of_the_sdks_are_taken_whole() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gateway");
    let gateway = start();
    let mut events = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !(name.starts_with("node-") || name.starts_with("browser-")) || !name.ends_with(".json")
        {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let capture: Capture<'_> = serde_json::from_str(&text).unwrap();
        for request in capture.requests {
            let body = match (request.raw_body_base64, request.body) {
                (Some(body), _) => STANDARD.decode(body).unwrap(),
                (None, Some(body)) => compact(body.get()).into_bytes(),
                (None, None) => Vec::new(),
            };
            assert_eq!(body.len(), request.raw_body_bytes, "{name} {}", request.target);
            let headers: Vec<_> = request.headers.iter().map(|(k, v)| (&**k, &**v)).collect();
            let got = gateway.send(request.method, request.target, &headers, &body).await;
            let origin = request.headers.iter().find(|(k, _)| k == "Origin").map(|(_, v)| &**v);
            assert_eq!(got.header("access-control-allow-origin"), origin, "{name}");
            if request.method == "OPTIONS" {
                assert_eq!(got.status, 204);
                let asked = |name| {
                    let mut headers = request.headers.iter();
                    headers.find(|(k, _)| *k == name).map(|(_, v)| &**v)
                };
                let allowed = |name| got.header(name);
                assert_eq!(
                    allowed("access-control-allow-headers"),
                    asked("Access-Control-Request-Headers")
                );
                assert_eq!(
                    allowed("access-control-allow-methods"),
                    asked("Access-Control-Request-Method")
                );
                assert_eq!(allowed("access-control-allow-credentials"), Some("true"));
                assert_eq!(allowed("access-control-max-age"), Some("900"));
                assert!(allowed("vary").unwrap().contains("Access-Control-Request-Headers"));
                continue;
            }
            assert_eq!(got.status, 200, "{name} {}", request.target);
            if request.target.starts_with("/sourceConfig") {
                let answer: Value = serde_json::from_slice(&got.body).unwrap();
                assert!(answer["source"]["destinations"].is_array());
                continue;
            }
            let expected: Value = serde_json::from_str(request.body.unwrap().get()).unwrap();
            let (batch, taken) = gateway.one();
            match expected.get("batch") {
                Some(list) => assert_eq!(&Value::from(taken.clone()), list, "{name}"),
                None => {
                    assert_eq!(taken, [expected], "{name}");
                    let kind = request.target.rsplit('/').next();
                    assert_eq!(batch.set_type, kind, "{name}");
                }
            }
            events += taken.len();
        }
    }
    assert!(events > 70, "{events}");
}

#[tokio::test]
async fn captured_texts_are_taken_byte_for_byte() {
    let gateway = start();
    for text in [
        &include_bytes!("../../../tests/data/gateway/browser-beacon.http")[..],
        include_bytes!("../../../tests/data/gateway/browser-track-onetrust.http"),
        include_bytes!("../../../tests/data/gateway/node-identify.http"),
    ] {
        assert_eq!(gateway.raw(text).await.status, 200);
        let (batch, _) = gateway.one();
        for element in batch.elements {
            let json = element.json.unwrap();
            assert!(text.windows(json.len()).any(|window| window == &*json));
        }
    }
}

#[tokio::test]
async fn a_batch_says_where_it_came_from() {
    let gateway = start();
    let before = chrono::Utc::now();
    let headers = [AUTH, ("X-Forwarded-For", "203.0.113.7, 10.0.0.1")];
    gateway.send("POST", "/v1/batch", &headers, br#"{"batch":[{"userId":1},{"userId":2}]}"#).await;
    let (batch, _) = gateway.one();
    assert_eq!((&*batch.origin.source, &*batch.origin.source_type), ("web shop", "web"));
    assert_eq!(batch.client_ip.as_deref(), Some("203.0.113.7"));
    assert!(batch.received_at >= before && batch.received_at <= chrono::Utc::now());
    assert_eq!(batch.elements.iter().map(|e| e.position).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(batch.set_type, None);
}

#[tokio::test]
async fn a_pixel_is_an_event_and_its_answer_always_an_image() {
    let gateway = start();
    for (target, stored) in [
        ("/pixel/v1/track?writeKey=WRITE_KEY_TEST&anonymousId=a1&event=Opened", true),
        ("/pixel/v1/page?writeKey=WRITE_KEY_TEST&anonymousId=a1", true),
        ("/pixel/v1/track?writeKey=WRITE_KEY_TEST&anonymousId=a1", false),
        ("/pixel/v1/track?writeKey=WRITE_KEY_TEST&event=Opened", false),
        ("/pixel/v1/track?writeKey=nope&anonymousId=a1&event=Opened", false),
        ("/pixel/v1/track?writeKey=DISABLED_KEY&anonymousId=a1&event=Opened", false),
    ] {
        let got = gateway.send("GET", target, &[], b"").await;
        assert_eq!((got.status, got.body.len()), (200, 43), "{target}");
        assert_eq!(got.header("content-type"), Some("image/gif"));
        let batches = gateway.taken();
        assert_eq!(batches.len(), usize::from(stored), "{target}");
        if let Some(batch) = batches.first() {
            let json = batch.elements[0].json.clone().unwrap();
            assert!(!String::from_utf8(json.to_vec()).unwrap().contains("WRITE_KEY_TEST"));
        }
    }
}

#[tokio::test]
async fn too_large_bodies_are_refused_before_they_are_read() {
    let gateway = start();
    let headers = [AUTH, ("Content-Length", "4096001")];
    let got = gateway.send("POST", "/v1/track", &headers, b"").await;
    assert_eq!((got.status, got.text()), (413, "request size exceeds max limit\n"));
    let headers = [AUTH, ("Content-Encoding", "br")];
    assert_eq!(gateway.send("POST", "/v1/track", &headers, b"x").await.status, 415);
}

#[tokio::test]
async fn a_pipeline_that_cannot_take_events_is_unavailable_and_its_metric_tells_why() {
    let metrics = crate::telemetry::recorder::build();
    let _metrics = metrics::set_default_local_recorder(&metrics);
    for (refuse, refuse_later, after, error) in [
        (Some(Refused::Full(Duration::from_millis(1500))), None, "2", "buffer_full"),
        (Some(Refused::Closed), None, "5", "stopping"),
        (None, Some(Refused::Unavailable), "5", "buffer_unavailable"),
        (None, Some(Refused::Full(Duration::ZERO)), "1", "buffer_full"),
    ] {
        let refuse = Arc::new(Mutex::new(refuse.into_iter().collect()));
        let recorder = Recorder { refuse, refuse_later, ..recorder() };
        let gateway = start_with(config(Ack::Buffered), recorder);
        let headers = [AUTH, ("Origin", "https://shop.example")];
        let got = gateway.send("POST", "/v1/track", &headers, TRACK.as_bytes()).await;
        assert_eq!((got.status, got.text()), (503, "Service Unavailable\n"));
        assert_eq!(got.header("retry-after"), Some(after));
        let origin = got.header("access-control-allow-origin");
        assert_eq!(origin, Some("https://shop.example"), "errors can be read by the page too");
        let text = metrics.handle().render();
        let error = format!(r#"error_type="{error}""#);
        let counted = |line: &&str| line.starts_with("component_errors_total{");
        let line = text.lines().filter(counted).find(|line| line.contains(&error));
        let line = line.unwrap_or_else(|| panic!("{error}: {text}"));
        for label in [r#"id="web shop""#, r#"kind="source""#, r#"type="rudderstack""#] {
            assert!(line.contains(&format!("component_{label}")), "{line}");
        }
    }
}

#[tokio::test]
async fn the_answer_waits_for_what_is_configured() {
    for ack in [Ack::Buffered, Ack::Delivered] {
        let hold = Arc::new(Notify::new());
        let recorder = Recorder { hold: Some(Arc::clone(&hold)), ..recorder() };
        let gateway = start_with(config(ack), recorder);
        let mut request = Box::pin(gateway.post("/v1/track", TRACK));
        while gateway.recorder.asked.lock().unwrap().is_empty() {
            assert!(request.as_mut().now_or_never().is_none(), "answered too early");
            tokio::task::yield_now().await;
        }
        assert_eq!(*gateway.recorder.asked.lock().unwrap(), [ack]);
        hold.notify_one();
        assert_eq!(request.await.status, 200);
    }
}

#[tokio::test]
async fn without_keys_any_key_is_taken_but_one_is_needed() {
    let config = RudderStackConfig { write_keys: vec![], ..config(Ack::Buffered) };
    let gateway = start_with(config, recorder());
    assert_eq!(gateway.post("/v1/track", TRACK).await.status, 200);
    assert_eq!(&*gateway.one().0.origin.source, "rudderstack");
    assert_eq!(gateway.send("POST", "/v1/track", &[], TRACK.as_bytes()).await.status, 401);
}

#[tokio::test]
async fn a_disabled_source_is_told_so_in_its_source_config() {
    let gateway = start();
    let auth = |key: &str| format!("Basic {}", STANDARD.encode(format!("{key}:")));
    let disabled = auth("DISABLED_KEY");
    let got = gateway.send("GET", "/sourceConfig", &[("Authorization", &disabled)], b"").await;
    let answer: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(answer["source"]["enabled"], false);
    let unknown = auth("nope");
    let got = gateway.send("GET", "/sourceConfig", &[("Authorization", &unknown)], b"").await;
    assert_eq!((got.status, got.text()), (401, "invalid write key\n"));
    assert_eq!(gateway.send("GET", "/sourceConfig/", &[], b"").await.status, 401);
}

#[tokio::test]
async fn what_is_no_preflight_is_routed() {
    let gateway = start();
    let got = gateway.send("OPTIONS", "/v1/track", &[("Origin", "https://x")], b"").await;
    assert_eq!((got.status, got.header("allow")), (405, Some("POST")));
    let headers = [("Origin", "https://x"), ("Access-Control-Request-Method", "DELETE")];
    let got = gateway.send("OPTIONS", "/v1/track", &headers, b"").await;
    assert_eq!((got.status, got.header("access-control-allow-origin")), (204, None));
    for path in ["/health", "/", "/version"] {
        let got = gateway.send("GET", path, &[], b"").await;
        assert_eq!(got.status, 200);
        serde_json::from_slice::<Value>(&got.body).unwrap();
    }
    let pixel = "/pixel/v1/track?writeKey=WRITE_KEY_TEST&anonymousId=a1&event=Opened";
    assert_eq!(gateway.send("POST", pixel, &[], b"").await.status, 405);
    assert!(gateway.taken().is_empty());
}

#[tokio::test]
async fn health_says_when_events_cannot_be_taken() {
    let source = RudderStackSource::bind(kind(config(Ack::Buffered)), None);
    let healthy = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let shown = Arc::clone(&healthy);
    let health: Health = Arc::new(move || shown.load(std::sync::atomic::Ordering::Relaxed));
    let source = source.unwrap().with_health(health);
    let address = source.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(source.run(recorder(), stopped));
    let gateway = Running { address, recorder: recorder(), stop, task };
    assert_eq!(gateway.send("GET", "/health", &[], b"").await.status, 200);
    healthy.store(false, std::sync::atomic::Ordering::Relaxed);
    for path in ["/health", "/"] {
        let got = gateway.send("GET", path, &[], b"").await;
        assert_eq!((got.status, got.text()), (503, "Cannot connect to db\n"));
    }
}

#[tokio::test]
async fn http_2_is_spoken_by_prior_knowledge() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let gateway = start();
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}/v1/track", gateway.address))
        .header(AUTH.0, AUTH.1)
        .body(Full::new(bytes::Bytes::from_static(TRACK.as_bytes())))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
}

#[tokio::test]
async fn a_stop_finishes_what_is_in_work_and_closes_what_is_idle() {
    let hold = Arc::new(Notify::new());
    let recorder = Recorder { hold: Some(Arc::clone(&hold)), ..recorder() };
    let gateway = start_with(config(Ack::Buffered), recorder);
    let _idle = TcpStream::connect(gateway.address).await.unwrap();
    let mut busy = TcpStream::connect(gateway.address).await.unwrap();
    let request = format!(
        "POST /v1/track HTTP/1.1\r\nHost: x\r\n{}: {}\r\nContent-Length: {}\r\n\r\n{TRACK}",
        AUTH.0,
        AUTH.1,
        TRACK.len()
    );
    busy.write_all(request.as_bytes()).await.unwrap();
    while gateway.recorder.asked.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    gateway.stop.send(true).unwrap();
    hold.notify_one();
    assert_eq!(read_answer(&mut busy).await.status, 200);
    gateway.task.await.unwrap();
    assert!(TcpStream::connect(gateway.address).await.is_err(), "it still listens");
}

#[tokio::test]
async fn a_port_in_use_is_reported_when_it_is_bound() {
    let gateway = start();
    let config = RudderStackConfig { listen: gateway.address, ..config(Ack::Buffered) };
    let error = RudderStackSource::bind(kind(config), None).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_connection_that_says_too_little_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = gateway(Ack::Buffered, recorder());
    let (_stop, stopped) = watch::channel(false);
    let head = Duration::from_millis(20);
    let limits = Limits { head, stop: Duration::ZERO, ..Limits::default() };
    tokio::spawn(server::serve(listener, None, Arc::new(gateway), stopped, limits));
    for begin in [&b""[..], b"PRI * HTTP/2.0", b"POST /v1/track HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(begin).await.unwrap();
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest).await;
        assert!(ended.is_err() || rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"));
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let recorder = recorder().holding();
    let gateway = gateway(Ack::Delivered, recorder.clone());
    let (stop, stopped) = watch::channel(false);
    let limits = Limits { stop: Duration::from_millis(5), ..Limits::default() };
    let task = tokio::spawn(server::serve(listener, None, Arc::new(gateway), stopped, limits));
    let head = format!("POST /v1/track HTTP/1.1\r\nHost: x\r\n{}: {}\r\n", AUTH.0, AUTH.1);
    let request = format!("{head}Content-Length: {}\r\n\r\n{TRACK}", TRACK.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    while recorder.asked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(stop);
    task.await.unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap_or(0), 0, "cut off unanswered");
}
