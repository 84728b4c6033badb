//! The library inside of a host: the example, and what the process has in common.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::stream;
use rudder_customerio::config::CustomerIoConfig;
use rudder_customerio::sandbox::{Sandbox, Tls};
use rudder_customerio::sink::CustomerIoSink;

/// The example beside this test: `target/<profile>/deps/it-…` and `target/<profile>/examples/embed`.
///
/// `cargo test` builds it. `cargo test --test it` does not, so that it is built here if it is not
/// there.
fn example() -> &'static Path {
    static EXAMPLE: LazyLock<PathBuf> = LazyLock::new(|| {
        let own = std::env::current_exe().unwrap();
        let profile = own.ancestors().nth(2).unwrap();
        let path = profile.join("examples/embed").with_extension(std::env::consts::EXE_EXTENSION);
        if !path.exists() {
            let name = profile.file_name().unwrap().to_str().unwrap();
            let status = Command::new(env!("CARGO"))
                .args(["build", "--offline", "--quiet", "--example", "embed", "--profile"])
                .arg(if name == "debug" { "dev" } else { name })
                .arg("--target-dir")
                .arg(profile.parent().unwrap())
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status()
                .unwrap();
            assert!(status.success(), "the example does not build");
        }
        path
    });
    &EXAMPLE
}

/// Runs the example with a folder of its own for everything temporary.
fn run(temporary: &Path, arguments: &[&std::ffi::OsStr]) -> Output {
    let mut command = Command::new(example());
    for secret in ["CUSTOMERIO_SITE_ID", "CUSTOMERIO_API_KEY", "DATA_DIR", "RUST_LOG"] {
        command.env_remove(secret);
    }
    command.args(arguments).env("TMPDIR", temporary).env("TMP", temporary).env("NO_COLOR", "1");
    command.current_dir(temporary).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_example_delivers_by_stream_and_receipt_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &[]);
    let (said, log) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}\n{log}");
    for line in [
        "stream: 5 received: 1 malformed, 1 withheld, 3 delivered",
        "submit: safe",
        "submit: 1 received: 1 delivered",
        "drain: 0 left, gap 0",
        "sandbox: u-1, events: 1",
        "sandbox: u-3, events: 1",
    ] {
        assert!(said.lines().any(|l| l == line), "no `{line}`:\n{said}");
    }
    for (name, labels, value) in [
        ("component_received_events_total", r#"component_id="file""#, 5),
        ("component_received_events_total", r#"component_id="program""#, 1),
        ("component_sent_events_total", r#"component_id="customerio""#, 4),
        ("rudder_customerio_events_total", r#"outcome="delivered""#, 4),
        ("rudder_customerio_events_total", r#"reason="generic_denied""#, 1),
        ("rudder_customerio_events_total", r#"reason="invalid_json""#, 1),
    ] {
        let start = format!("metric: {name}{{");
        let end = format!("}} {value}");
        let fits = |l: &&str| l.starts_with(&start) && l.contains(labels) && l.ends_with(&end);
        assert!(said.lines().any(|l| fits(&l)), "no {name} {labels} {value}:\n{said}");
    }
    assert!(log.contains("rudder_customerio::delivery"), "no message of the library:\n{log}");
    assert!(log.contains("has named the workspace"), "{log}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_example_takes_the_events_of_a_file_and_tells_where_it_broke_off() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.ndjson");
    std::fs::write(
        &file,
        b"{\"type\":\"page\",\"userId\":\"u\",\"name\":\"Home\"}\n\xff\n{\"type\":\"page\"}\n",
    )
    .unwrap();
    let output = run(dir.path(), &[file.as_os_str()]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("stream: 1 received: 1 delivered\nstream: it broke off: "), "{said}");
}

/// Tells the child that it has the process for itself.
const ALONE: &str = "EMBED_ALONE";

#[test]
fn a_sink_leaves_what_a_process_has_once_to_its_host() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embed::alone_in_the_process", "--ignored", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = text(&child.stdout);
    assert!(child.status.success(), "{said}{}", text(&child.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

/// The signals that this process handles, as Linux tells them.
fn handled_signals() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find(|line| line.starts_with("SigCgt:")).map(str::to_owned)
}

#[tokio::test]
#[ignore = "needs a process of its own; another test starts it"]
async fn alone_in_the_process() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let (panics, signals) = (Arc::new(AtomicU64::new(0)), handled_signals());
    let seen = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |info| {
        seen.fetch_add(1, Ordering::SeqCst);
        eprintln!("{info}");
    }));

    // Over TLS, so that a provider is needed.
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::builder().tls(Some(Tls::SelfSigned)).start().await.unwrap();
    let root = dir.path().join("root.pem");
    std::fs::write(&root, sandbox.certificate().unwrap()).unwrap();
    let mut customerio = CustomerIoConfig::new("site", "key");
    customerio.endpoint = Some(sandbox.base_url().parse().unwrap());
    customerio.extra_roots = vec![root];
    let data = dir.path().join("data");
    let sink = CustomerIoSink::builder(customerio).data_dir(data).build().await.unwrap();
    let events = [r#"{"type":"page","userId":"u-1","name":"Home"}"#, "no event"];
    let summary = sink.run(stream::iter(events)).await.unwrap();
    assert_eq!((summary.delivered, summary.malformed), (1, 1));

    assert!(rustls::crypto::CryptoProvider::get_default().is_none(), "a TLS provider");
    assert_eq!(handled_signals(), signals, "a signal handler");
    assert!(!tracing::dispatcher::has_been_set(), "a subscriber");
    tracing_subscriber::fmt().with_writer(std::io::sink).try_init().expect("a subscriber");
    let recorder = rudder_customerio::telemetry::recorder::build();
    metrics::set_global_recorder(recorder).expect("a recorder");
    assert_eq!(panics.load(Ordering::SeqCst), 0);
    drop(std::thread::spawn(|| panic!("of the host")).join());
    assert_eq!(panics.load(Ordering::SeqCst), 1, "the host's panic hook was replaced");

    let drained = sink.drain(Duration::from_secs(60)).await;
    assert_eq!((drained.undelivered, drained.ledger.gap()), (0, 0));
    sandbox.shutdown().await;
}
