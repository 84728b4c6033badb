//! Every endpoint over a real connection.

use std::sync::Mutex;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;
use crate::outcome::{Ledger, Outcome, ReasonCode, Tally};
use crate::sink::SinkStats;

#[derive(Default)]
struct Fake {
    unready: Mutex<Vec<String>>,
    refused: Mutex<Option<String>>,
    calls: Mutex<Vec<&'static str>>,
    replaying: Mutex<Option<mpsc::Sender<Message>>>,
}

impl Process for Fake {
    fn unready(&self) -> Vec<String> {
        self.unready.lock().unwrap().clone()
    }
    fn metrics(&self) -> Option<String> {
        Some("buffer_events 1\n".to_owned())
    }
    fn status(&self) -> Status {
        let ledger = Ledger::default();
        let mut tally = Tally::default();
        tally.end(&Outcome::Withheld(ReasonCode::KetchDenied.into()));
        tally.buffer();
        ledger.enter(&tally);
        let mut stats = SinkStats { ledger: ledger.snapshot(), ..SinkStats::default() };
        ledger.settle(&Outcome::Delivered);
        stats.all_lives = Some(ledger.snapshot());
        stats.delivery.state = "held";
        stats.delivery.since = Some(0);
        stats.script_hash = "abc".into();
        let config = status::Configuration {
            loaded_at: "1970-01-01T00:00:00Z".to_owned(),
            needs_restart: vec!["admin.listen".to_owned()],
            error: None,
        };
        Status::new(&stats, Duration::from_secs(7), None, config)
    }
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, String>> {
        self.calls.lock().unwrap().push("reload");
        let refused = self.refused.lock().unwrap().clone();
        let loaded = Reloaded { hash: "abc".to_owned(), ..Reloaded::default() };
        async move { refused.map_or(Ok(loaded), Err) }.boxed()
    }
    fn pause(&self) {
        self.calls.lock().unwrap().push("pause");
    }
    fn resume(&self) {
        self.calls.lock().unwrap().push("resume");
    }
    fn replay(&self, selection: Selection) -> Result<mpsc::Receiver<Message>, Refusal> {
        if selection.dry_run {
            return Err(Refusal::Busy);
        }
        self.calls.lock().unwrap().push("replay");
        let (out, messages) = mpsc::channel(2);
        out.try_send(Message::Notice { text: selection.reasons.join(",") }).unwrap();
        // One with a reason goes on.
        *self.replaying.lock().unwrap() = Some(out).filter(|_| !selection.reasons.is_empty());
        Ok(messages)
    }
}

struct Server {
    address: std::net::SocketAddr,
    process: Arc<Fake>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn server(token: Option<&str>) -> Server {
    let process = Arc::new(Fake::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let admin = Admin::new(process.clone(), token.map(SecretString::from));
    let task = tokio::spawn(admin.serve(listener, stopped.map(|_| ())));
    Server { address, process, stop, task }
}

impl Server {
    /// Sends one request and returns the whole answer.
    async fn ask(&self, line: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn status_of(&self, line: &str, headers: &str) -> u16 {
        self.ask(line, headers).await.get(9..12).unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn each_endpoint_answers_its_method_alone() {
    let server = server(None).await;
    for (line, status) in [
        ("GET /livez", 200),
        ("HEAD /livez", 200),
        ("GET /readyz", 200),
        ("GET /metrics", 200),
        ("GET /status", 200),
        ("GET /status?x=1", 200),
        ("POST /reload", 200),
        ("POST /pause", 200),
        ("POST /resume", 200),
        ("POST /replay", 200),
        ("POST /livez", 405),
        ("GET /reload", 405),
        ("GET /replay", 405),
        ("DELETE /pause", 405),
        ("GET /", 404),
        ("GET /status/", 404),
    ] {
        assert_eq!(server.status_of(line, "").await, status, "{line}");
    }
    assert_eq!(*server.process.calls.lock().unwrap(), ["reload", "pause", "resume", "replay"]);
    assert!(server.ask("GET /pause", "").await.contains("allow: POST\r\n"));
}

#[tokio::test]
async fn a_replay_is_told_as_it_goes_on_and_stops_when_the_client_leaves() {
    let server = server(None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let body = r#"{"reasons":["refused"]}"#;
    let head = format!("POST /replay HTTP/1.0\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.contains("refused") {
        let mut bytes = [0; 1024];
        let n = stream.read(&mut bytes).await.unwrap();
        assert!(n > 0, "{answer}");
        answer.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
    }
    assert!(answer.starts_with("HTTP/1.0 200") && answer.contains("application/x-ndjson"));
    assert!(answer.ends_with("{\"type\":\"notice\",\"text\":\"refused\"}\n"), "{answer}");
    let out = server.process.replaying.lock().unwrap().take().unwrap();
    drop(stream);
    out.closed().await;
}

#[tokio::test]
async fn a_replay_that_cannot_be_understood_or_is_one_too_many_is_refused() {
    let server = server(None).await;
    let long = format!(r#"{{"reasons":["{}"]}}"#, "x".repeat(70_000));
    for (body, status) in [
        (r#"{"dry_run":true}"#, 409),
        (r#"{"dry-run":true}"#, 400),
        ("[", 400),
        (&long, 400),
        (r#"{"since":"2026-01-31T00:00:00Z","rate":5}"#, 200),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = format!("POST /replay HTTP/1.0\r\ncontent-length: {}\r\n\r\n", body.len());
        // A refused body may not be read to its end.
        drop(stream.write_all((head + body).as_bytes()).await);
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer[9..], status.to_string().as_bytes(), "{body:.30}");
    }
}

#[tokio::test]
async fn readiness_tells_every_reason() {
    let server = server(None).await;
    server.process.unready.lock().unwrap().extend(["buffer is full".into(), "x".into()]);
    let answer = server.ask("GET /readyz", "").await;
    assert!(answer.starts_with("HTTP/1.1 503"));
    assert!(answer.ends_with("buffer is full\nx\n"), "{answer}");
    assert_eq!(server.status_of("GET /livez", "").await, 200);
}

#[tokio::test]
async fn status_has_exactly_the_promised_members() {
    let server = server(None).await;
    let answer = server.ask("GET /status", "").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json"));
    let expected = format!(
        concat!(
            r#"{{"version":"{}","uptime_seconds":7,"ledger":{{"received":2,"recovered":0,"#,
            r#""malformed":0,"filtered":0,"withheld":1,"dropped":0,"failed":0,"delivered":0,"#,
            r#""rejected":0,"buffered":1,"gap":0}},"all_lives":{{"received":2,"recovered":0,"#,
            r#""malformed":0,"filtered":0,"withheld":1,"dropped":0,"failed":0,"delivered":1,"#,
            r#""rejected":0,"buffered":0,"gap":0}},"delivery":{{"state":"held","reason":null,"#,
            r#""since":"1970-01-01T00:00:00Z","in_flight":0,"rate":0.0}},"buffer":{{"events":0,"#,
            r#""bytes":0,"max_bytes":0,"oldest_seconds":null}},"scripts":{{"hash":"abc","#,
            r#""loaded_at":"1970-01-01T00:00:00Z","error":null}},"#,
            r#""config":{{"loaded_at":"1970-01-01T00:00:00Z","needs_restart":["admin.listen"],"error":null}}}}"#
        ),
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_refused_reload_shows_why() {
    let server = server(None).await;
    *server.process.refused.lock().unwrap() = Some("error[E103]: track.vrl:1:1".into());
    let answer = server.ask("POST /reload", "").await;
    assert!(answer.starts_with("HTTP/1.1 422"));
    assert!(answer.contains("text/plain") && answer.contains("track.vrl:1:1"), "{answer}");
}

#[tokio::test]
async fn with_a_token_nobody_else_is_served() {
    let server = server(Some("s3cret")).await;
    for (header, status) in [
        ("authorization: Bearer s3cret\r\n", 200),
        ("authorization: bearer s3cret\r\n", 200),
        ("authorization: Bearer s3cre\r\n", 401),
        ("authorization: Bearer s3cret2\r\n", 401),
        ("authorization: Basic s3cret\r\n", 401),
        ("", 401),
    ] {
        assert_eq!(server.status_of("GET /livez", header).await, status, "{header}");
    }
    let answer = server.ask("GET /nothing", "").await;
    assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains("s3cret"), "{answer}");
}

#[tokio::test]
async fn web_pages_cannot_act() {
    let server = server(None).await;
    assert_eq!(server.status_of("POST /pause", "origin: https://example.com\r\n").await, 403);
    assert!(server.process.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_stop_ends_the_server_and_frees_the_port() {
    let server = server(None).await;
    assert_eq!(server.status_of("GET /livez", "").await, 200);
    let _idle = TcpStream::connect(server.address).await.unwrap();
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    TcpListener::bind(server.address).await.unwrap();
}
