use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

use super::*;
use crate::config::Ack;
use crate::source::submit::recorder::Recorder;
use crate::source::{Incoming, Refused};

struct Running {
    address: SocketAddr,
    recorder: Recorder,
    healthy: Arc<Mutex<bool>>,
    stop: watch::Sender<bool>,
}

fn recorder() -> Recorder {
    // A sender has its answer within 30 s.
    Recorder::new("http", Duration::from_secs(10))
}

fn config() -> HttpConfig {
    HttpConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        token: None,
        event_path: None,
        ack: Ack::Buffered,
        max_body: 1_000_000,
        tls: None,
    }
}

fn start_with(config: HttpConfig, recorder: Recorder) -> Running {
    let source = HttpSource::bind(config, None).unwrap();
    let address = source.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let healthy = Arc::new(Mutex::new(true));
    let health = Arc::clone(&healthy);
    let source = source.with_health(Arc::new(move || *health.lock().unwrap()));
    tokio::spawn(source.run(recorder.clone(), stopped));
    Running { address, recorder, healthy, stop }
}

fn start() -> Running {
    start_with(config(), recorder())
}

impl Running {
    /// Sends the bytes of one request, and reads status, head, and body of the answer.
    async fn raw(&self, request: &[u8]) -> (u16, String, Value) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        read_answer(&mut stream).await
    }

    async fn send(&self, method: &str, headers: &str, body: &[u8]) -> (u16, String, Value) {
        let head = format!(
            "{method} /any/path?q=1 HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    fn taken(&self) -> Vec<Incoming> {
        let batches = std::mem::take(&mut *self.recorder.batches.lock().unwrap());
        batches.into_iter().flat_map(|batch| batch.elements).collect()
    }

    /// Takes what was submitted as JSON.
    fn events(&self) -> Vec<Value> {
        let elements = self.taken().into_iter();
        elements.map(|e| serde_json::from_slice(&e.json.unwrap()).unwrap()).collect()
    }
}

async fn read_answer(stream: &mut TcpStream) -> (u16, String, Value) {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = bytes.split_off(end + 4);
            let missing = length.map_or(0, |n| n.parse::<usize>().unwrap()) - body.len();
            let mut rest = vec![0; missing];
            stream.read_exact(&mut rest).await.unwrap();
            body.extend(rest);
            return (status, head, serde_json::from_slice(&body).unwrap_or_default());
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "closed early: {bytes:?}");
    }
}

/// Captured requests: name, bytes as sent, and what they are known to hold.
fn captures() -> Vec<(String, Vec<u8>, Value)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/vector-http");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let requests = files.filter(|path| path.extension().is_some_and(|e| e == "http"));
    let mut captures: Vec<_> = requests
        .map(|path| {
            let known = std::fs::read(path.with_extension("json")).unwrap();
            (
                path.file_stem().unwrap().to_str().unwrap().to_owned(),
                std::fs::read(&path).unwrap(),
                serde_json::from_slice(&known).unwrap(),
            )
        })
        .collect();
    captures.sort_by(|a, b| a.0.cmp(&b.0));
    captures
}

/// Events that a capture is known to hold.
fn recorded(known: &Value) -> Vec<Value> {
    let body = known.get("json").or(known.get("ndjson"));
    match body {
        Some(Value::Array(events)) => events.clone(),
        Some(Value::Object(members)) if members.contains_key("batch") => {
            members["batch"].as_array().unwrap().clone()
        }
        Some(event) => vec![event.clone()],
        None => {
            let text = known["text"].as_str().unwrap();
            let events = serde_json::Deserializer::from_str(text).into_iter();
            events.collect::<Result<_, _>>().unwrap()
        }
    }
}

#[tokio::test]
async fn captured_requests_of_vector_give_their_events() {
    let source = start();
    let captures = captures();
    assert!(captures.len() >= 23, "{}", captures.len());
    let gzip = captures.iter().find(|(name, ..)| name == "json-array-gzip").unwrap().2.clone();
    for (name, request, known) in &captures {
        let (status, _, answer) = source.raw(request).await;
        let refused = match name.as_str() {
            "codec-text" => Some(400),
            "codec-native" | "codec-native-json" => Some(415),
            _ => None,
        };
        if let Some(refused) = refused {
            assert_eq!(status, refused, "{name}: {answer}");
            assert!(source.taken().is_empty(), "{name}");
            continue;
        }
        assert_eq!((status, answer), (200, json!({})), "{name}");
        let known = if name == "json-array-snappy" { &gzip } else { known };
        assert_eq!(source.events(), recorded(known), "{name}");
    }
}

#[tokio::test]
async fn captured_texts_are_taken_byte_for_byte() {
    let source = start();
    for name in ["numbers", "unicode", "remap-types"] {
        let (_, request, known) = captures().into_iter().find(|(n, ..)| n == name).unwrap();
        assert_eq!(source.raw(&request).await.0, 200);
        let taken: Vec<_> = source.taken().into_iter().map(|e| e.json.unwrap()).collect();
        let body = taken.join(&b'\n');
        let text = known["body_text"].as_str().unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), text, "{name}");
    }
}

#[tokio::test]
async fn captured_credentials_are_the_token() {
    let token = |token: &str| HttpConfig { token: Some(token.into()), ..config() };
    for (name, right) in [("basic-auth", "write-key"), ("bearer-auth-headers", "tok")] {
        let (_, request, _) = captures().into_iter().find(|(n, ..)| n == name).unwrap();
        let source = start_with(token(right), recorder());
        assert_eq!(source.raw(&request).await.0, 200, "{name}");
        let source = start_with(token("another"), recorder());
        let (status, head, _) = source.raw(&request).await;
        assert_eq!(status, 401, "{name}");
        assert!(head.contains("www-authenticate: bearer"), "{head}");
        assert!(source.taken().is_empty());
    }
}

#[tokio::test]
async fn statuses_make_senders_repeat_what_may_pass_and_nothing_else() {
    let source = start();
    let broken = [0x1f, 0x8b, 0x08, 0x00];
    let large = vec![b' '; 1_000_001];
    for (method, headers, body, status, word) in [
        ("POST", "", &b"{\"type\":\"track\"}"[..], 200, ""),
        ("PUT", "", b"[]", 200, ""),
        ("POST", "", b"", 400, "empty"),
        ("POST", "", b"[{]", 400, "not JSON"),
        ("POST", "Content-Type: application/x-ndjson\r\n", b"a\nb\n", 400, "not JSON"),
        ("POST", "Content-Encoding: gzip\r\n", &broken, 400, "Content-Encoding"),
        ("POST", "Content-Encoding: br\r\n", b"{}", 415, "gzip, zstd, deflate"),
        ("POST", "Content-Type: application/grpc\r\n", b"\0\0\0\0\0", 415, "`vector`"),
        ("POST", "", &large, 413, "1000000 bytes"),
        ("DELETE", "", b"", 405, "POST or PUT"),
        ("POST", "Origin: https://evil.example\r\n", b"{}", 403, "token"),
    ] {
        let (got, head, answer) = source.send(method, headers, body).await;
        assert_eq!(got, status, "{method} {headers}: {answer}");
        let said = answer["error"].as_str().unwrap_or_default();
        assert!(said.contains(word), "{said}");
        assert!(head.contains("content-type: application/json"), "{head}");
    }
    assert_eq!(source.events(), [json!({ "type": "track" })]);
}

#[tokio::test]
async fn a_pipeline_that_cannot_take_events_is_unavailable_and_then_takes_them() {
    let source = start();
    for refused in
        [Refused::Full(Duration::from_millis(1500)), Refused::Unavailable, Refused::Closed]
    {
        source.recorder.refuse.lock().unwrap().push(refused.clone());
        let (status, head, answer) = source.send("POST", "", b"{\"n\":1}").await;
        assert_eq!(status, 503, "{refused}");
        let after = if matches!(refused, Refused::Full(_)) { 2 } else { 5 };
        assert!(head.contains(&format!("retry-after: {after}\r\n")), "{head}");
        assert!(answer["error"].as_str().unwrap().contains("send again"), "{answer}");
        assert_eq!(source.send("POST", "", b"{\"n\":1}").await.0, 200);
        assert_eq!(source.events(), [json!({ "n": 1 })]);
    }
}

#[tokio::test]
async fn probes_tell_whether_events_are_taken() {
    let source = start_with(HttpConfig { token: Some("t".into()), ..config() }, recorder());
    assert_eq!(source.send("GET", "", b"").await.0, 200);
    for (token, status) in [("t", 200), ("u", 401)] {
        let shown = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(source.send("GET", &shown, b"").await.0, status, "{token}");
    }
    *source.healthy.lock().unwrap() = false;
    let (status, _, answer) = source.send("GET", "", b"").await;
    assert_eq!((status, answer["error"].as_str().unwrap().contains("/readyz")), (503, true));
}

#[tokio::test]
async fn broken_elements_end_alone_with_their_position() {
    let source = start();
    let body = b"{\"n\":1}\nplain\n7\n{\"n\":2}\n";
    assert_eq!(source.send("POST", "", body).await.0, 200);
    let taken = source.taken();
    let json = |n: usize| taken[n].json.as_ref().map_err(|reason| reason.code.as_str());
    assert_eq!(taken.iter().map(|e| e.position).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(json(1).unwrap_err(), "invalid_json");
    assert_eq!((json(0).unwrap(), json(2).unwrap()), (&b"{\"n\":1}"[..].into(), &b"7"[..].into()));
}

#[tokio::test]
async fn events_are_found_at_their_path_whatever_is_around_them() {
    let path = Some(vec!["log".to_owned(), "message".to_owned()]);
    let source = start_with(HttpConfig { event_path: path, ..config() }, recorder());
    let body = json!([
        { "log": { "message": "{\"n\":1}" } }, { "log": { "message": { "n": 2 } } },
        { "log": { "message": "a plain line" } }, { "log": {} },
    ]);
    assert_eq!(source.send("POST", "", body.to_string().as_bytes()).await.0, 200);
    let taken = source.taken();
    let json = |n: usize| taken[n].json.clone().map_err(|reason| format!("{reason:?}"));
    assert_eq!((json(0).unwrap(), json(1).unwrap()), ("{\"n\":1}".into(), "{\"n\":2}".into()));
    for (n, what) in [(2, "a text that is no object"), (3, "nothing")] {
        let reason = json(n).unwrap_err();
        assert!(reason.contains("NoEventAtPath") && reason.contains(what), "{reason}");
        assert!(reason.contains("`.log.message`") && !reason.contains("plain"), "{reason}");
    }
}

#[tokio::test]
async fn a_large_request_is_one_batch_in_its_order() {
    let source = start();
    let body: String = (0..40_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    assert_eq!(source.send("POST", "", body.as_bytes()).await.0, 200);
    assert_eq!(source.recorder.batches.lock().unwrap().len(), 1);
    let events = source.events();
    assert_eq!(events.len(), 40_000);
    assert!(events.iter().enumerate().all(|(n, event)| event["n"] == n));
}

#[tokio::test]
async fn requests_in_a_row_on_one_connection_are_all_answered() {
    let source = start();
    let one = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    let mut stream = TcpStream::connect(source.address).await.unwrap();
    stream.write_all(one.repeat(3).as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while String::from_utf8_lossy(&bytes).matches("HTTP/1.1 200").count() < 3 {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "closed early: {bytes:?}");
    }
    assert_eq!(source.events().len(), 3);
}

#[tokio::test]
async fn the_answer_waits_for_the_events_and_a_stop_waits_for_the_answer() {
    let hold = Arc::new(Notify::new());
    let source = start_with(config(), Recorder { hold: Some(hold.clone()), ..recorder() });
    let mut stream = TcpStream::connect(source.address).await.unwrap();
    let request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    stream.write_all(request).await.unwrap();
    while source.recorder.batches.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    source.stop.send(true).unwrap();
    let mut early = [0];
    assert!(stream.read(&mut early).now_or_never().is_none());
    hold.notify_one();
    assert_eq!(read_answer(&mut stream).await.0, 200);
}

#[tokio::test]
async fn http_2_is_spoken_by_prior_knowledge() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let source = start();
    let stream = TcpStream::connect(source.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let body = Full::new(bytes::Bytes::from_static(b"[{\"n\":1}]"));
    let request = http::Request::post(format!("http://{}/", source.address)).body(body).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "{}\n");
    assert_eq!(source.events(), [json!({ "n": 1 })]);
}
