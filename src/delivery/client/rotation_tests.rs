//! Credentials that change while the client runs.

use std::io::Write;
use std::path::PathBuf;

use super::super::Verdict;
use super::tests::{Server, answer, bodies, config_for};
use super::*;
use crate::config::{Credential, StatusPattern};

const ACCOUNT: &str = r#"{"url":"https://track.customer.io","region":"us","environment_id":3}"#;

/// `site:old` and `site:new` as headers.
const OLD: &str = "Basic c2l0ZTpvbGQ=";
const NEW: &str = "Basic c2l0ZTpuZXc=";

/// A server that takes the new key alone.
async fn server() -> Server {
    Server::start(|request| match request.headers()["authorization"].to_str().unwrap() {
        NEW if request.method() == Method::GET => answer(200, ACCOUNT),
        NEW => answer(200, "{}"),
        _ => answer(401, r#"{"meta":{"error":"Unauthorized request"}}"#),
    })
    .await
}

/// A key in a file, and a client of the server that has read it.
struct Rotation {
    dir: tempfile::TempDir,
    server: Server,
    config: CustomerIoConfig,
    client: Client,
}

impl Rotation {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "old\n").unwrap();
        let server = server().await;
        let config = CustomerIoConfig {
            api_key: Credential::from_file(file).unwrap(),
            ..config_for(server.address)
        };
        let client = Client::new(&config).unwrap();
        Self { dir, server, config, client }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    fn write(&self, key: &str) {
        let beside = self.dir.path().join("beside");
        std::fs::write(&beside, key).unwrap();
        std::fs::rename(beside, self.file()).unwrap();
    }

    async fn send(&self) -> Reply {
        self.client.send(bodies(&["1"]), 0).await
    }

    fn shown(&self) -> Vec<String> {
        let seen = self.server.seen.lock().unwrap();
        seen.iter().map(|r| r.headers()["authorization"].to_str().unwrap().to_owned()).collect()
    }
}

fn delivered() -> Reply {
    Reply::Items(vec![Verdict::Delivered])
}

fn code(reply: Reply) -> &'static str {
    match reply {
        Reply::Hold(hold) => hold.code,
        other => panic!("not a hold: {other:?}"),
    }
}

/// What is logged on this thread while it lives.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    fn keep(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || log.clone());
        tracing::subscriber::set_default(subscriber.finish())
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_key_that_was_replaced_before_it_is_refused_is_used_at_once() {
    let rotation = Rotation::new().await;
    rotation.write("new\n");
    assert_eq!(rotation.send().await, delivered());
    assert_eq!(rotation.send().await, delivered());
    assert_eq!(rotation.shown(), [OLD, NEW, NEW]);
}

#[tokio::test]
async fn a_probe_reads_the_key_again_and_all_later_requests_use_it() {
    let rotation = Rotation::new().await;
    assert_eq!(code(rotation.send().await), "unauthorized");
    assert_eq!(rotation.client.probe().await.unwrap_err().code, "unauthorized");
    rotation.write("new\n");
    assert_eq!(rotation.client.probe().await, Ok(()));
    assert_eq!(rotation.send().await, delivered());
    assert_eq!(rotation.shown(), [OLD, OLD, NEW, NEW]);
}

#[tokio::test]
async fn a_new_key_that_is_refused_too_is_tried_once() {
    let rotation = Rotation::new().await;
    rotation.write("other");
    assert_eq!(code(rotation.send().await), "unauthorized");
    assert_eq!(rotation.shown().len(), 2);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_leaves_the_key_and_is_told_once_per_change() {
    let log = Log::default();
    let _guard = log.keep();
    let rotation = Rotation::new().await;
    std::fs::remove_file(rotation.file()).unwrap();
    for _ in 0..3 {
        assert_eq!(rotation.client.probe().await.unwrap_err().code, "unauthorized");
    }
    rotation.write("s3cret\ns3cret");
    for _ in 0..3 {
        assert_eq!(rotation.client.probe().await.unwrap_err().code, "unauthorized");
    }
    assert_eq!(rotation.shown(), [OLD; 6]);
    rotation.write("new");
    assert_eq!(rotation.client.probe().await, Ok(()));
    let text = log.text();
    assert_eq!(text.matches("could not be read again").count(), 2, "{text}");
    assert_eq!(text.matches("there is no such file").count(), 1, "{text}");
    assert!(text.contains("`customerio.api_key`: the file /"), "{text}");
    for secret in ["s3cret", OLD, NEW, "c2l0ZTpvbGQ", "c2l0ZTpuZXc"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn a_site_id_with_a_colon_is_not_taken_over() {
    let rotation = Rotation::new().await;
    let file = rotation.dir.path().join("site");
    std::fs::write(&file, "site").unwrap();
    let config = CustomerIoConfig {
        site_id: Credential::from_file(&file).unwrap(),
        ..rotation.config.clone()
    };
    let client = Client::new(&config).unwrap();
    std::fs::write(&file, "s3:cret").unwrap();
    let log = Log::default();
    let _guard = log.keep();
    assert_eq!(client.probe().await.unwrap_err().code, "unauthorized");
    assert_eq!(rotation.shown(), [OLD]);
    assert!(log.text().contains("holds a colon"), "{}", log.text());
    assert!(!log.text().contains("cret"), "{}", log.text());
}

#[tokio::test]
async fn a_new_configuration_brings_its_key_and_what_answers_mean() {
    let rotation = Rotation::new().await;
    let busy = Server::start(|_| answer(418, "")).await;
    let client = Client::new(&config_for(busy.address)).unwrap();
    assert!(matches!(client.send(bodies(&["1"]), 0).await, Reply::Split(_)));
    let mut config = config_for(rotation.server.address);
    config.api_key = "new".into();
    config.retry.statuses = vec![StatusPattern::Code(418)];
    client.reconfigure(&config).unwrap();
    // It still goes where it went: another endpoint needs a restart.
    let reply = client.send(bodies(&["1"]), 0).await;
    assert_eq!(reply, Reply::Retry { after: None, why: "http_other", unknown: false });
    let seen = busy.seen.lock().unwrap();
    assert_eq!(seen[1].headers()["authorization"], NEW);
    assert!(rotation.server.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_new_configuration_that_cannot_be_used_changes_nothing() {
    let rotation = Rotation::new().await;
    let config = CustomerIoConfig { site_id: "s3:cret".into(), ..rotation.config.clone() };
    let wrong = rotation.client.reconfigure(&config).unwrap_err();
    assert!(!wrong.iter().any(|diagnostic| diagnostic.to_string().contains("cret")));
    assert_eq!(code(rotation.send().await), "unauthorized");
    assert_eq!(rotation.shown(), [OLD]);
}

#[tokio::test]
async fn a_request_under_way_keeps_the_key_with_which_it_left() {
    let rotation = Rotation::new().await;
    let before = rotation.client.current.get();
    let config = CustomerIoConfig { api_key: "new".into(), ..rotation.config.clone() };
    rotation.client.reconfigure(&config).unwrap();
    let uri = rotation.client.batch_uri.clone();
    let left = request(&before, Method::POST, uri, Bytes::new(), 0);
    assert_eq!(left.headers()["authorization"], OLD);
    assert_eq!(rotation.send().await, delivered());
}

/// A key of another workspace must not get data there, also when it comes while the client runs.
#[tokio::test]
async fn a_new_key_of_another_workspace_than_the_pinned_one_sends_nothing() {
    let server = Server::start(|request| {
        let new = request.headers()["authorization"] == NEW;
        match (new, request.method() == Method::GET) {
            (true, true) => answer(200, r#"{"region":"us","environment_id":4}"#),
            (true, false) => answer(200, "{}"),
            (false, true) => answer(200, ACCOUNT),
            (false, false) => answer(401, ""),
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "old").unwrap();
    let config = CustomerIoConfig {
        api_key: Credential::from_file(&file).unwrap(),
        environment_id: Some(3),
        ..config_for(server.address)
    };
    let client = Client::new(&config).unwrap();
    assert_eq!(client.probe().await, Ok(()));
    std::fs::write(&file, "new").unwrap();
    assert_eq!(code(client.send(bodies(&["1"]), 0).await), "wrong_workspace");
    let config = CustomerIoConfig { api_key: "new".into(), ..config };
    client.reconfigure(&config).unwrap();
    assert_eq!(code(client.send(bodies(&["1"]), 0).await), "wrong_workspace");
    let seen = server.seen.lock().unwrap();
    let data = seen.iter().filter(|r| r.method() == Method::POST);
    assert!(data.into_iter().all(|r| r.headers()["authorization"] == OLD));
}

#[tokio::test]
async fn a_pinned_workspace_is_asked_for_once() {
    let server = Server::start(|request| match *request.method() {
        Method::GET => answer(200, ACCOUNT),
        _ => answer(200, "{}"),
    })
    .await;
    let config = CustomerIoConfig { environment_id: Some(3), ..config_for(server.address) };
    let client = Client::new(&config).unwrap();
    for _ in 0..3 {
        assert_eq!(client.send(bodies(&["1"]), 0).await, delivered());
        client.reconfigure(&config).unwrap();
    }
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.iter().filter(|r| r.method() == Method::GET).count(), 1);
}

#[tokio::test]
async fn the_workspace_is_logged_once_so_that_it_can_be_pinned() {
    let log = Log::default();
    let _kept = log.keep();
    let server = Server::start(|_| answer(200, ACCOUNT)).await;
    let client = Client::new(&config_for(server.address)).unwrap();
    for _ in 0..2 {
        client.probe().await.unwrap();
    }
    let text = log.text();
    let told: Vec<_> = text.lines().filter(|line| line.contains("has named the")).collect();
    assert_eq!(told.len(), 1, "{text}");
    assert!(told[0].contains("region=us") && told[0].contains("environment_id=3"), "{text}");
}
