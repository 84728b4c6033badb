//! What only sockets show: resets, silence, slowness, closed connections, both HTTP versions.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::sandbox::{RunningSandbox, Sandbox};

pub(super) const BATCH: &str =
    r#"{"batch":[{"type":"person","action":"identify","identifiers":{"id":"u-1"}}]}"#;
/// How long a test waits for something that must happen; a limit, not a measure.
pub(super) const SOON: Duration = Duration::from_secs(60);

pub(super) async fn sandbox(rules: Value) -> RunningSandbox {
    let rules: Vec<_> = serde_json::from_value(rules).unwrap();
    Sandbox::builder().faults(rules).start().await.unwrap()
}

fn head(body_bytes: usize) -> String {
    format!(
        "POST /api/v2/batch HTTP/1.1\r\nhost: x\r\nauthorization: Basic czprZXk=\r\n\
         content-length: {body_bytes}\r\n\r\n"
    )
}

pub(super) async fn send(stream: &mut (impl AsyncWrite + Unpin)) {
    let text = format!("{}{BATCH}", head(BATCH.len()));
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Reads until the end; an error ends it too.
pub(super) async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> (String, Option<ErrorKind>) {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match timeout(SOON, stream.read(&mut chunk)).await.unwrap() {
            Ok(0) => return (String::from_utf8(all).unwrap(), None),
            Ok(read) => all.extend_from_slice(&chunk[..read]),
            Err(error) => return (String::from_utf8(all).unwrap(), Some(error.kind())),
        }
    }
}

/// Reads one answer with a body of known length.
async fn read_answer(stream: &mut TcpStream) -> String {
    let mut all = String::new();
    let mut chunk = [0; 4096];
    loop {
        let read = timeout(SOON, stream.read(&mut chunk)).await.unwrap().unwrap();
        assert_ne!(read, 0, "closed after {all:?}");
        all.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
        let Some((head, body)) = all.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() == length.unwrap().parse::<usize>().unwrap() {
            return all;
        }
    }
}

pub(super) async fn connect(sandbox: &RunningSandbox) -> TcpStream {
    TcpStream::connect(sandbox.addr()).await.unwrap()
}

#[tokio::test]
async fn connections_are_kept_and_answers_have_a_length() {
    let sandbox = sandbox(json!([])).await;
    let mut stream = connect(&sandbox).await;
    for n in 1..=3 {
        send(&mut stream).await;
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains(&format!("x-sandbox-request: {n}\r\n")), "{answer}");
        assert!(answer.ends_with("\r\n\r\n{}\n"), "{answer}");
    }
    assert_eq!(sandbox.people().len(), 1);
    assert_eq!(sandbox.stats().connections, 1);
    sandbox.shutdown().await;
}

#[tokio::test]
async fn http_2_without_tls_is_spoken() {
    let sandbox = sandbox(json!([])).await;
    let io = TokioIo::new(connect(&sandbox).await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::post(format!("{}/api/v2/batch", sandbox.base_url()))
        .header("authorization", "Basic czprZXk=")
        .body(Full::new(Bytes::from(BATCH)))
        .unwrap();
    let response: Response<_> = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().as_ref(), b"{}\n");
    drop(sender);
    sandbox.shutdown().await;
    driver.abort();
}

#[tokio::test]
async fn reset_at_accept_reads_nothing() {
    let sandbox = sandbox(json!([{"when": {"first": 1}, "do": {"reset": "accept"}}])).await;
    let mut stream = connect(&sandbox).await;
    let (answer, error) = read_all(&mut stream).await;
    assert_eq!((answer.as_str(), error), ("", Some(ErrorKind::ConnectionReset)));
    assert_eq!(sandbox.stats().faults["reset_accept"], 1);

    let mut stream = connect(&sandbox).await;
    send(&mut stream).await;
    assert!(read_answer(&mut stream).await.contains("200 OK"));
    assert_eq!(sandbox.stats().requests, 1);
    sandbox.shutdown().await;
}

#[tokio::test]
async fn reset_after_request_applies_and_says_nothing() {
    let sandbox = sandbox(json!([{"do": {"reset": "after_request"}}])).await;
    let mut stream = connect(&sandbox).await;
    send(&mut stream).await;
    let (answer, error) = read_all(&mut stream).await;
    assert_eq!((answer.as_str(), error), ("", Some(ErrorKind::ConnectionReset)));
    assert_eq!(sandbox.people().len(), 1);
    sandbox.shutdown().await;
}

#[tokio::test]
async fn reset_mid_response_sends_half_of_the_body() {
    let sandbox = sandbox(json!([{"do": {"reset": "mid_response"}}])).await;
    let mut stream = connect(&sandbox).await;
    send(&mut stream).await;
    let (answer, error) = read_all(&mut stream).await;
    assert!(answer.contains("content-length: 3\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n{"), "{answer}");
    assert_eq!(error, Some(ErrorKind::ConnectionReset));
    assert_eq!(sandbox.people().len(), 1);
    sandbox.shutdown().await;
}

#[tokio::test]
async fn hanging_requests_get_no_answer_and_do_not_hold_the_stop() {
    let sandbox = sandbox(json!([{"when": {"first": 1}, "do": {"hang": true}}])).await;
    let mut hanging = connect(&sandbox).await;
    send(&mut hanging).await;
    let mut other = connect(&sandbox).await;
    while sandbox.stats().requests == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    send(&mut other).await;
    assert!(read_answer(&mut other).await.contains("200 OK"));
    let read = timeout(Duration::from_millis(30), hanging.read(&mut [0; 10])).await;
    assert!(read.is_err(), "answered or closed");
    timeout(SOON, sandbox.shutdown()).await.unwrap();
}

#[tokio::test]
async fn slow_bodies_come_byte_by_byte() {
    let sandbox = sandbox(json!([{"do": {"slow_body": "15ms"}}])).await;
    let mut stream = connect(&sandbox).await;
    let start = Instant::now();
    send(&mut stream).await;
    assert!(read_answer(&mut stream).await.ends_with("{}\n"));
    assert!(start.elapsed() >= Duration::from_millis(45));
    sandbox.shutdown().await;
}

#[tokio::test]
async fn latency_comes_before_or_after_the_request_is_applied() {
    for (after, people) in [(false, 0), (true, 1)] {
        let rule = json!([{"do": {"latency": {"p50": "1m", "after": after}}}]);
        let sandbox = sandbox(rule).await;
        let mut stream = connect(&sandbox).await;
        send(&mut stream).await;
        while sandbox.people().len() < people {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let read = timeout(Duration::from_millis(100), stream.read(&mut [0; 10])).await;
        assert!(read.is_err(), "answered too early");
        assert_eq!(sandbox.people().len(), people, "after: {after}");
        timeout(SOON, sandbox.shutdown()).await.unwrap();
    }
}

#[tokio::test]
async fn idle_connections_are_closed_after_the_answer() {
    let sandbox = sandbox(json!([{"do": {"close_idle": "10ms"}}])).await;
    let mut stream = connect(&sandbox).await;
    send(&mut stream).await;
    let (answer, error) = read_all(&mut stream).await;
    assert!(answer.ends_with("{}\n"), "{answer}");
    assert_eq!(error, None);
    sandbox.shutdown().await;
}

#[tokio::test]
async fn a_request_that_follows_at_once_keeps_a_connection_that_closes_when_idle() {
    let sandbox = sandbox(json!([{"do": {"close_idle": "10m"}}])).await;
    let mut stream = connect(&sandbox).await;
    for _ in 0..3 {
        send(&mut stream).await;
        assert!(read_answer(&mut stream).await.ends_with("{}\n"));
    }
    assert_eq!(sandbox.stats().connections, 1);
    timeout(SOON, sandbox.shutdown()).await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_counted_and_others_served() {
    let mut options = crate::sandbox::Options::default();
    options.set("max_connections=3").unwrap();
    let sandbox = Sandbox::builder().options(options).start().await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&sandbox).await;
        send(&mut stream).await;
        assert!(read_answer(&mut stream).await.contains("200 OK"));
        idle.push(stream);
    }
    let (answer, _) = read_all(&mut connect(&sandbox).await).await;
    assert_eq!(answer, "");
    assert_eq!(sandbox.stats().connections_refused, 1);
    send(&mut idle[1]).await;
    assert!(read_answer(&mut idle[1]).await.contains("200 OK"));
    // A place is free again as soon as the sandbox has seen one of them go.
    drop(idle.pop());
    loop {
        let mut stream = connect(&sandbox).await;
        let refused = sandbox.stats().connections_refused;
        if stream.write_all(b"GET /_sandbox/stats HTTP/1.0\r\n\r\n").await.is_ok()
            && read_all(&mut stream).await.0.contains("200 OK")
        {
            break;
        }
        assert!(sandbox.stats().connections_refused >= refused);
    }
    sandbox.shutdown().await;
}

#[tokio::test]
async fn no_more_than_four_mebibytes_are_read() {
    let sandbox = sandbox(json!([])).await;
    let mut stream = connect(&sandbox).await;
    stream.write_all(head(1 << 30).as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let sent = async {
        let chunk = vec![b' '; 1 << 16];
        // Ends when the sandbox closes the connection.
        while writer.write_all(&chunk).await.is_ok() {}
    };
    let answered = async {
        let mut start = [0; 12];
        reader.read_exact(&mut start).await.unwrap();
        start
    };
    let (start, ()) = tokio::join!(answered, sent);
    assert_eq!(&start, b"HTTP/1.1 413");
    assert_eq!(sandbox.requests()[0].body_bytes, 4 << 20);
    sandbox.shutdown().await;
}

#[tokio::test]
async fn a_stopped_sandbox_refuses_connections_and_keeps_its_state_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.json");
    for people in [0, 1] {
        let sandbox = Sandbox::builder().state_file(Some(file.clone())).start().await.unwrap();
        assert_eq!(sandbox.people().len(), people);
        let mut stream = connect(&sandbox).await;
        send(&mut stream).await;
        assert!(read_answer(&mut stream).await.contains("200 OK"));
        let address = sandbox.addr();
        sandbox.stop_and_save().await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
    std::fs::write(&file, "{}").unwrap();
    let error = Sandbox::builder().state_file(Some(file)).start().await.unwrap_err();
    assert!(error.to_string().contains("snapshot"), "{error}");
}

#[tokio::test]
async fn an_interrupted_body_changes_nothing() {
    let sandbox = sandbox(json!([])).await;
    let mut stream = connect(&sandbox).await;
    let (half, _) = BATCH.split_at(BATCH.len() / 2);
    stream.write_all(format!("{}{half}", head(BATCH.len())).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let (answer, _) = read_all(&mut stream).await;
    assert!(!answer.contains("200"), "{answer}");
    assert_eq!(sandbox.stats().requests, 0);
    sandbox.shutdown().await;
}

#[tokio::test]
async fn faults_of_the_connection_hold_for_http_2() {
    let rules = json!([
        {"when": {"first": 1}, "do": {"hang": true}},
        {"when": {"times": 1}, "do": {"close_idle": "1ms"}},
        {"do": {"reset": "after_request"}},
    ]);
    let sandbox = sandbox(rules).await;
    let request = || {
        Request::post(format!("{}/api/v2/batch", sandbox.base_url()))
            .header("authorization", "Basic czprZXk=")
            .body(Full::new(Bytes::from(BATCH)))
            .unwrap()
    };
    let io = TokioIo::new(connect(&sandbox).await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let driver = tokio::spawn(connection);
    let hanging = tokio::spawn(sender.send_request(request()));
    while sandbox.stats().requests == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The hanging request is not idle: the connection stays for others.
    assert_eq!(sender.send_request(request()).await.unwrap().status(), StatusCode::OK);
    assert!(sender.send_request(request()).await.is_err());
    assert!(hanging.await.unwrap().is_err());
    assert!(timeout(SOON, driver).await.unwrap().unwrap().is_err());
    assert_eq!(json!(sandbox.stats().statuses), json!({"0": 2, "200": 1}));
    timeout(SOON, sandbox.shutdown()).await.unwrap();
}
