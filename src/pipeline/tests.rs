//! The whole machine with a small mapping and a destination of one's own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::admin::Process;
use crate::buffer::AppendError;
use crate::config::LoadMode;
use crate::delivery::{Hold, Refusal, Reply, Verdict};
use crate::outcome::OutcomeKind;
use crate::sink::tests::Odd;

/// Takes batches while it is open, and never answers while it is not.
#[derive(Debug, Default)]
struct Inbox {
    shut: AtomicBool,
    refuse: AtomicBool,
    probed: AtomicBool,
    bodies: Mutex<Vec<Bytes>>,
}

impl Destination for Inbox {
    fn send(&self, bodies: Vec<Bytes>, _attempt: u32) -> BoxFuture<'_, Reply> {
        async move {
            if self.shut.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let verdict = |_: &Bytes| match self.refuse.load(Ordering::Relaxed) {
                true => Verdict::Rejected(Refusal::default()),
                false => Verdict::Delivered,
            };
            let verdicts = bodies.iter().map(verdict).collect();
            self.bodies.lock().unwrap().extend(bodies);
            Reply::Items(verdicts)
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Hold>> {
        self.probed.store(true, Ordering::Relaxed);
        std::future::ready(Ok(())).boxed()
    }
}

/// Completes a configuration with credentials.
pub(super) fn config(text: &str) -> Config {
    let text = format!("{text}\ncustomerio: {{ site_id: s, api_key: k }}");
    Config::parse(&text, "test.yaml", LoadMode::Full, &|_| None).unwrap().0
}

struct Machine {
    pipeline: Pipeline,
    inbox: Arc<Inbox>,
    dir: tempfile::TempDir,
}

/// A mapping that compiles in no time.
pub(crate) fn write_small_scripts(dir: &std::path::Path) {
    let track = r#". = {"type": "person", "action": "event", "identifiers": {"id": .userId}, "name": .event}"#;
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("mapping.yaml"), "track: [track.vrl]\n").unwrap();
    std::fs::write(dir.join("track.vrl"), track).unwrap();
}

async fn machine(more: &str) -> Machine {
    machine_with(more, "buffered", Some(Odd::new(|| ()))).await
}

async fn machine_with(more: &str, ack: &str, store: Option<Arc<dyn Buffer>>) -> Machine {
    machine_in(tempfile::tempdir().unwrap(), more, ack, store).await
}

async fn machine_in(
    dir: tempfile::TempDir,
    more: &str,
    ack: &str,
    store: Option<Arc<dyn Buffer>>,
) -> Machine {
    let scripts = dir.path().join("vrl");
    write_small_scripts(&scripts);
    let text = format!(
        "sources: [ {{ type: rudderstack, listen: '127.0.0.1:0', ack: {ack} }} ]\n\
         mapping: {{ dir: '{}', watch: false }}\n\
         admin: {{ listen: '127.0.0.1:0' }}\n{more}",
        scripts.display()
    );
    let mut config = config(&text);
    config.data_dir = dir.path().to_owned();
    let inbox = Arc::new(Inbox::default());
    let render: Option<Render> = Some(Arc::new(|| "rendered".to_owned()));
    let surroundings = Surroundings { render, ..Surroundings::default() };
    let substitutes = Substitutes { destination: Some(inbox.clone()), store };
    let pipeline = Pipeline::start_with(config, surroundings, substitutes).await.unwrap();
    Machine { pipeline, inbox, dir }
}

pub(super) async fn ask(address: std::net::SocketAddr, line: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Basic a2V5Og==\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn what_a_start_waits_for_includes_the_scripts_of_every_mapping_thread() {
    let dir = tempfile::tempdir().unwrap();
    write_small_scripts(dir.path());
    let mut config = config("mapping: { threads: 3 }");
    config.data_dir = dir.path().join("data");
    let scripts = Mappings::read(dir.path()).unwrap();
    let parts = sink_parts(&config, Some(scripts), Substitutes::default()).await.unwrap();
    assert_eq!(parts.rules.mapping.prepared(), 3);
}

fn track(n: u32) -> String {
    format!(
        r#"{{"userId":"u","event":"Bought","messageId":"m{n}","originalTimestamp":"2026-01-01T00:00:00Z"}}"#
    )
}

impl Machine {
    async fn track(&self, n: u32) {
        let answer = ask(self.pipeline.addresses()[0], "POST /v1/track", &track(n)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    async fn admin(&self, line: &str) -> String {
        ask(self.pipeline.admin_address(), line, "").await
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test]
async fn an_event_travels_from_the_gateway_to_the_destination() {
    let machine = machine("").await;
    machine.track(1).await;
    machine.until(|machine| !machine.inbox.bodies.lock().unwrap().is_empty()).await;
    let body = machine.inbox.bodies.lock().unwrap()[0].clone();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["name"], &body["identifiers"]["id"]), (&"Bought".into(), &"u".into()));

    let (stopper, stop) = stop::channel();
    stopper.request();
    let ended = machine.pipeline.run_until(stop).await;
    assert!(ended.drained.is_clean() && ended.drained.stored && !ended.stdin_alone);
    let ledger = ended.drained.ledger;
    assert_eq!((ledger.received, ledger.total(OutcomeKind::Delivered), ledger.gap()), (1, 1, 0));
}

#[tokio::test]
async fn a_stop_delivers_what_waits_and_keeps_the_endpoints_until_then() {
    let machine = machine("drain_timeout: 1h").await;
    machine.admin("POST /pause").await;
    for n in 0..20 {
        machine.track(n).await;
    }
    assert_eq!(machine.pipeline.handle().ledger().snapshot().buffered, 20);
    let (admin, gateway) = (machine.pipeline.admin_address(), machine.pipeline.addresses()[0]);
    let (stopper, stop) = stop::channel();
    let running = tokio::spawn(machine.pipeline.run_until(stop));
    stopper.request();
    while TcpStream::connect(gateway).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(ask(admin, "GET /readyz", "").await.contains("shutting down"));
    assert!(ask(admin, "GET /status", "").await.contains(r#""state":"paused""#));
    ask(admin, "POST /resume", "").await;
    let ended = running.await.unwrap();
    assert_eq!(ended.drained.ledger.total(OutcomeKind::Delivered), 20);
    assert!(TcpStream::connect(admin).await.is_err());
}

#[tokio::test]
async fn a_drain_that_runs_out_of_time_tells_what_is_left() {
    let machine = machine("drain_timeout: 0s").await;
    machine.inbox.shut.store(true, Ordering::Relaxed);
    machine.track(1).await;
    let (stopper, stop) = stop::channel();
    stopper.request();
    let ended = machine.pipeline.run_until(stop).await;
    assert_eq!(ended.drained.undelivered, 1);
    assert!(!ended.drained.is_clean());
    assert_eq!(ended.drained.ledger.gap(), 0);
}

#[tokio::test]
async fn a_second_request_ends_the_drain_at_once() {
    let machine = machine("drain_timeout: 1h").await;
    machine.inbox.shut.store(true, Ordering::Relaxed);
    machine.track(1).await;
    let (stopper, stop) = stop::channel();
    stopper.request();
    stopper.request();
    assert_eq!(machine.pipeline.run_until(stop).await.drained.undelivered, 1);
}

#[tokio::test]
async fn the_endpoints_show_the_machine() {
    let machine = machine("").await;
    assert!(machine.admin("GET /readyz").await.starts_with("HTTP/1.1 200"));
    assert!(machine.admin("GET /metrics").await.ends_with("rendered"));
    machine.inbox.refuse.store(true, Ordering::Relaxed);
    machine.track(1).await;
    let rejected = |machine: &Machine| {
        machine.pipeline.handle().ledger().snapshot().total(OutcomeKind::Rejected) == 1
    };
    machine.until(rejected).await;
    let status = machine.admin("GET /status").await;
    assert!(status.contains(r#""received":1"#) && status.contains(r#""rejected":1"#), "{status}");
    let reloaded = machine.admin("POST /reload").await;
    let hash = machine.pipeline.handle().rules().mapping.hash().to_owned();
    assert!(reloaded.starts_with("HTTP/1.1 200") && reloaded.contains(&hash), "{reloaded}");
}

#[tokio::test]
async fn a_buffer_that_cannot_store_refuses_at_once_and_delivers_what_it_has() {
    let odd = Odd::new(|| ());
    let machine = machine_with("", "buffered", Some(odd.clone())).await;
    machine.admin("POST /pause").await;
    machine.track(1).await;
    for (refusal, wait) in [
        (AppendError::Failed("no space left".to_owned()), "retry-after: 5"),
        (AppendError::Full(Duration::from_secs(7)), "retry-after: 7"),
    ] {
        *odd.refusal.lock().unwrap() = Some(refusal);
        let answer = ask(machine.pipeline.addresses()[0], "POST /v1/track", &track(2)).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains(wait), "{answer}");
    }
    *odd.refusal.lock().unwrap() = Some(AppendError::Failed("no space left".to_owned()));
    let ready = machine.admin("GET /readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("no space left"), "{ready}");
    machine.admin("POST /resume").await;
    machine.until(|machine| machine.inbox.bodies.lock().unwrap().len() == 1).await;

    *odd.refusal.lock().unwrap() = None;
    assert!(machine.admin("GET /readyz").await.starts_with("HTTP/1.1 200"));
    machine.track(2).await;
    machine.until(|machine| machine.inbox.bodies.lock().unwrap().len() == 2).await;
    let ledger = machine.pipeline.handle().ledger().snapshot();
    assert_eq!((ledger.received, ledger.gap()), (2, 0), "what was refused was not received");
}

#[tokio::test]
async fn a_restart_delivers_what_an_earlier_run_left() {
    let machine = machine_with("drain_timeout: 0s", "buffered", None).await;
    machine.track(0).await;
    machine.until(|machine| machine.inbox.bodies.lock().unwrap().len() == 1).await;
    machine.admin("POST /pause").await;
    for n in 1..4 {
        machine.track(n).await;
    }
    let (stopper, stop) = stop::channel();
    stopper.request();
    let Machine { pipeline, dir, .. } = machine;
    let drained = pipeline.run_until(stop).await.drained;
    assert_eq!((drained.undelivered, drained.durable, drained.is_clean()), (3, true, true));

    let machine = machine_in(dir, "", "buffered", None).await;
    machine.until(|machine| machine.inbox.bodies.lock().unwrap().len() == 3).await;
    machine.until(|machine| machine.pipeline.handle().ledger().snapshot().buffered == 0).await;
    let stats = machine.pipeline.handle().stats();
    assert_eq!((stats.ledger.recovered, stats.ledger.received, stats.ledger.gap()), (3, 0, 0));
    let all = stats.all_lives.unwrap();
    assert_eq!((all.received, all.total(OutcomeKind::Delivered), all.gap()), (4, 4, 0));
}

#[tokio::test]
async fn delivered_is_answered_when_it_is_true() {
    let machine = machine_with("", "delivered", Some(Odd::new(|| ()))).await;
    machine.admin("POST /pause").await;
    let gateway = machine.pipeline.addresses()[0];
    let body = track(1);
    let mut asked = Box::pin(ask(gateway, "POST /v1/track", &body));
    let stored = |machine: &Machine| machine.pipeline.handle().ledger().snapshot().buffered == 1;
    tokio::select! {
        answer = &mut asked => panic!("{answer}"),
        () = machine.until(stored) => {}
    }
    assert!((&mut asked).now_or_never().is_none());
    machine.admin("POST /resume").await;
    assert!(asked.await.starts_with("HTTP/1.1 200"));
    assert_eq!(machine.inbox.bodies.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_not_delivered_at_the_end_is_not_answered_as_delivered() {
    let machine = machine_with("", "delivered", Some(Odd::new(|| ()))).await;
    machine.admin("POST /pause").await;
    let gateway = machine.pipeline.addresses()[0];
    let body = track(1);
    let asked = ask(gateway, "POST /v1/track", &body);
    let (stopper, stop) = stop::channel();
    let stopping = async {
        let stored =
            |machine: &Machine| machine.pipeline.handle().ledger().snapshot().buffered == 1;
        machine.until(stored).await;
        stopper.request();
        stopper.request();
        machine.pipeline.run_until(stop).await
    };
    let (answer, ended) = tokio::join!(asked, stopping);
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(ended.drained.undelivered, 1);
}

#[tokio::test]
async fn everything_that_is_wrong_at_the_start_is_told_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "sources: [ {{ type: rudderstack, listen: '127.0.0.1:0' }} ]\n\
         mapping: {{ dir: /nowhere/at/all }}\n\
         admin: {{ listen: '{}' }}",
        taken.local_addr().unwrap()
    );
    let faults = Pipeline::start(config(&text), Surroundings::default()).await.unwrap_err();
    assert!(faults.iter().any(|fault| fault.code == "listen"));
    assert!(faults.iter().any(|fault| fault.to_string().contains("/nowhere/at/all")));
}

#[tokio::test]
async fn a_refused_reload_keeps_the_old_scripts_and_shows_why() {
    let machine = machine("").await;
    let scripts = machine.dir.path().join("vrl");
    let before = machine.pipeline.handle().rules().mapping.hash().to_owned();
    std::fs::write(scripts.join("track.vrl"), ". = nonsense(").unwrap();
    let answer = machine.admin("POST /reload").await;
    assert!(answer.starts_with("HTTP/1.1 422") && answer.contains("track.vrl"), "{answer}");
    assert!(machine.admin("GET /status").await.contains("track.vrl"));
    assert_eq!(machine.pipeline.handle().rules().mapping.hash(), before);
    machine.track(1).await;
}

#[tokio::test]
async fn an_address_in_use_shows_before_the_destination_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    write_small_scripts(&dir.path().join("vrl"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(&format!(
        "sources: [ {{ type: rudderstack, listen: '{}' }} ]\n\
         mapping: {{ dir: '{}', watch: false }}\n\
         admin: {{ listen: '127.0.0.1:0' }}",
        taken.local_addr().unwrap(),
        dir.path().join("vrl").display()
    ));
    config.data_dir = dir.path().to_owned();
    let inbox = Arc::new(Inbox::default());
    let substitutes = Substitutes { destination: Some(inbox.clone()), store: None };
    let started = Pipeline::start_with(config, Surroundings::default(), substitutes).await;
    assert_eq!(started.unwrap_err()[0].code, "listen");
    // Whatever was started would have had its turn by now.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!inbox.probed.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_gateway_that_is_gone_makes_the_process_unready() {
    let machine = machine("").await;
    assert!(machine.admin("GET /readyz").await.starts_with("HTTP/1.1 200"));
    machine.pipeline.sources.gateways().iter().for_each(tokio::task::AbortHandle::abort);
    machine.until(|machine| !machine.pipeline.control.unready().is_empty()).await;
    let answer = machine.admin("GET /readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("a source has ended"));
}

#[tokio::test]
async fn the_health_of_the_gateway_is_the_one_of_the_sink() {
    let machine = machine("").await;
    let gateway = machine.pipeline.addresses()[0];
    assert!(ask(gateway, "GET /health", "").await.starts_with("HTTP/1.1 200"));
    machine.pipeline.handle().intake().close();
    assert!(ask(gateway, "GET /health", "").await.starts_with("HTTP/1.1 503"));
}
