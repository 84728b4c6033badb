//! The sink as an embedding program sees it.

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::*;
use crate::config::{Config, LoadMode};
use crate::delivery::{Hold, Reply, Verdict};
use crate::mapping::Scripts;
use crate::outcome::OutcomeKind;
use crate::pipeline::tests::write_small_scripts;
use crate::source::{Incoming, Origin};

#[derive(Debug, Default)]
struct Inbox {
    bodies: Mutex<Vec<Bytes>>,
}

impl Destination for Inbox {
    fn send(&self, bodies: Vec<Bytes>, _attempt: u32) -> BoxFuture<'_, Reply> {
        let verdicts = bodies.iter().map(|_| Verdict::Delivered).collect();
        self.bodies.lock().unwrap().extend(bodies);
        std::future::ready(Reply::Items(verdicts)).boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Hold>> {
        std::future::ready(Ok(())).boxed()
    }
}

async fn sink(inbox: &Arc<Inbox>, dir: &std::path::Path) -> CustomerIoSink {
    let text = "sources: [ { type: stdin } ]\ncustomerio: { site_id: s, api_key: k }";
    let config = Config::parse(text, "test.yaml", LoadMode::Full, &|_| None).unwrap().0;
    write_small_scripts(&dir.join("vrl"));
    let builder = CustomerIoSink::builder(config.customerio.unwrap())
        .mappings(Scripts::read(&dir.join("vrl")).unwrap())
        .data_dir(dir)
        .threads(2)
        .destination(inbox.clone());
    builder.build().await.unwrap()
}

fn batch(first: u64, events: u64) -> Batch {
    let element = |n| Incoming {
        json: Ok(Bytes::from(format!(
            r#"{{"type":"track","userId":"u","event":"E{n}","messageId":"m{n}"}}"#
        ))),
        position: n,
    };
    Batch {
        elements: (first..first + events).map(element).collect(),
        set_type: None,
        origin: Origin { source: "program".into(), source_type: "".into() },
        received_at: Utc::now(),
        client_ip: None,
    }
}

#[tokio::test]
async fn a_stream_is_delivered_in_order_and_accounted_for() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let mut sink = sink(&inbox, dir.path()).await;
    let batches = futures_util::stream::iter((0..50).map(|n| batch(n * 10, 10)));
    let ledger = sink.run(batches).await.unwrap();
    assert_eq!((ledger.total(OutcomeKind::Delivered), ledger.gap()), (500, 0));
    let name = |body: &Bytes| {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        body["name"].as_str().unwrap().to_owned()
    };
    let names: Vec<_> = inbox.bodies.lock().unwrap().iter().map(name).collect();
    assert_eq!(names, (0..500).map(|n| format!("E{n}")).collect::<Vec<_>>());
    assert!(sink.drain(Duration::from_secs(20)).await.is_clean());
}

#[tokio::test]
async fn a_pushed_batch_tells_when_it_is_settled() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let sink = sink(&inbox, dir.path()).await;
    let handle = sink.handle();
    let receipt = handle.submit(batch(0, 3)).await.unwrap();
    let summary = receipt.settled().await.unwrap();
    assert_eq!((summary.received, summary.buffered, summary.rejected), (3, 0, 0));
    assert_eq!(inbox.bodies.lock().unwrap().len(), 3);
    drop(sink);
    assert_eq!(handle.submit(batch(3, 1)).await.unwrap_err(), Refused::Closed);
}

#[tokio::test]
async fn receipts_of_a_paused_sink_are_refused_when_it_ends() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let sink = sink(&inbox, dir.path()).await;
    let handle = sink.handle();
    handle.delivery().pause();
    let mut receipt = handle.submit(batch(0, 2)).await.unwrap();
    assert_eq!(receipt.buffered().await.unwrap().buffered, 2);
    let drained = sink.drain(Duration::from_millis(1)).await;
    assert_eq!((drained.undelivered, drained.is_clean()), (2, false));
    assert_eq!(receipt.settled().await, Err(Refused::Closed));
}
