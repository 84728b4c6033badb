//! A router of its own, with Customer.io as one of its destinations.
//!
//! ```text
//! cargo run --example embed                      # the events below, to a local Customer.io
//! cargo run --example embed -- events.ndjson     # or those of a file
//! CUSTOMERIO_SITE_ID=… CUSTOMERIO_API_KEY=… DATA_DIR=data cargo run --example embed -- events.ndjson
//! ```

use std::error::Error;
use std::io::{BufRead, BufReader, Cursor};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream;
use metrics_exporter_prometheus::PrometheusBuilder;
use rudder_customerio::config::{ConsentConfig, ConsentRule, CustomerIoConfig};
use rudder_customerio::mapping::Mappings;
use rudder_customerio::sandbox::{RunningSandbox, Sandbox};
use rudder_customerio::sink::CustomerIoSink;
use rudder_customerio::sink::EventBatch;
use rudder_customerio::telemetry::Exporter;
use serde_json::json;

/// Of the five lines one is no event, and one lacks consent.
const EVENTS: &str = r#"
{"type":"identify","userId":"u-1","messageId":"m-1","traits":{"email":"ada@example.com","plan":"pro"}}
{"type":"track","userId":"u-1","messageId":"m-2","event":"Order Completed","properties":{"total":42}}
{"type":"page","userId":"u-2","messageId":"m-3","name":"Pricing"}
this line was cut off
{"type":"track","userId":"u-2","messageId":"m-4","event":"Ad Clicked","context":{"consentManagement":{"provider":"oneTrust","deniedConsentIds":["C0004"]}}}
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Logs and metrics are the host's own: the sink only speaks through the facades.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    metrics::set_global_recorder(recorder)?;

    let (customerio, sandbox) = destination().await?;
    // Undelivered events wait here, so a router names a folder that outlives its process.
    let temporary = tempfile::tempdir()?;
    let data_dir =
        std::env::var_os("DATA_DIR").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let consent = ConsentConfig {
        rules: vec![ConsentRule::new("oneTrust", ["C0004"])],
        ..ConsentConfig::default()
    };
    let sink = CustomerIoSink::builder(customerio)
        .mappings(Mappings::built_in())
        .consent(consent)
        .data_dir(data_dir)
        .build()
        .await?;

    // A stream, until all of it has ended. The host decides what its own errors mean: here they end
    // the stream, and are told afterwards.
    let mut failure = None;
    let lines = lines()?.map_while(|line| line.map_err(|error| failure = Some(error)).ok());
    let events = lines
        .filter(|line| !line.trim().is_empty())
        .map(|line| EventBatch::from(line).source("file").source_type("web"));
    let summary = sink.run(stream::iter(events)).await?;
    println!("stream: {summary}");
    if let Some(error) = failure {
        println!("stream: it broke off: {error}");
    }

    // One event, with a receipt. Its origin may be told as soon as it is safe.
    let signup =
        json!({ "type": "track", "userId": "u-3", "messageId": "m-5", "event": "Signed Up" });
    let mut receipt = sink.handle().submit(signup).await?;
    receipt.buffered().await?;
    println!("submit: safe");
    println!("submit: {}", receipt.settled().await?);

    // An orderly stop. What is not delivered in time is delivered after the next start.
    let handle = sink.handle();
    let drained = sink.drain(Duration::from_secs(30)).await;
    println!("drain: {} left, gap {}", drained.undelivered, drained.ledger.gap());

    // The ledger is the truth about endings; it becomes metrics whenever the host is asked for them.
    Exporter::default().export(&handle.stats());
    let shown = ["component_received_events_total", "component_sent_events_total"];
    for line in metrics.render().lines() {
        let ended = line.starts_with("rudder_customerio_events_total") && !line.ends_with(" 0");
        if ended || shown.iter().any(|name| line.starts_with(name)) {
            println!("metric: {line}");
        }
    }
    if let Some(sandbox) = sandbox {
        for person in sandbox.people() {
            let id = person.id.as_deref().unwrap_or("nobody");
            println!("sandbox: {id}, events: {}", person.events.len());
        }
        sandbox.shutdown().await;
    }
    Ok(())
}

/// The workspace of the credentials in the environment, or a local one.
async fn destination() -> Result<(CustomerIoConfig, Option<RunningSandbox>), Box<dyn Error>> {
    let variable = |name| std::env::var(name).ok();
    if let (Some(site_id), Some(api_key)) =
        (variable("CUSTOMERIO_SITE_ID"), variable("CUSTOMERIO_API_KEY"))
    {
        return Ok((CustomerIoConfig::new(&*site_id, &*api_key), None));
    }
    let sandbox = Sandbox::builder().environment_id(7).start().await?;
    let mut customerio = CustomerIoConfig::new("site id", "API key");
    customerio.endpoint = Some(sandbox.base_url().parse()?);
    // Pins the workspace: with credentials of another one, nothing would be sent.
    customerio.environment_id = Some(7);
    Ok((customerio, Some(sandbox)))
}

/// The lines of the file that is named, or those above.
fn lines() -> std::io::Result<Box<dyn Iterator<Item = std::io::Result<String>>>> {
    Ok(match std::env::args_os().nth(1) {
        Some(path) => Box::new(BufReader::new(std::fs::File::open(path)?).lines()),
        None => Box::new(Cursor::new(EVENTS).lines()),
    })
}
