//! Streams as embedding programs hand them in.

use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::*;
use crate::outcome::OutcomeKind;
use crate::telemetry::recorder;

fn event(n: u64) -> String {
    format!(r#"{{"type":"track","userId":"u","event":"E{n}","messageId":"m{n}"}}"#)
}

#[tokio::test]
async fn single_texts_are_a_stream_and_each_ending_is_counted() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let sink = sink(&inbox, dir.path()).await;
    let denied = event(4).replace("}", r#","integrations":{"All":false}}"#);
    let unknown = event(5).replace("track", "unheard of");
    let texts =
        [event(0), "no event".to_owned(), format!("{}\n{}", event(1), event(2)), denied, unknown];
    sink.handle().submit(event(9)).await.unwrap().settled().await.unwrap();
    let summary = sink.run(stream::iter(texts)).await.unwrap();
    assert_eq!(summary.to_string(), "5 received: 2 malformed, 2 filtered, 1 delivered");
    assert_eq!(summary.failures(), 2);
}

/// One call has thousands of single events under way, and not a few at a time.
#[tokio::test]
async fn a_stream_goes_on_while_nothing_is_delivered() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let sink = sink(&inbox, dir.path()).await;
    let handle = sink.handle();
    handle.delivery().pause();
    while handle.stats().delivery.state != "paused" {
        tokio::task::yield_now().await;
    }
    let mut receipt = handle.submit_all(stream::iter((0..3000).map(event))).await.unwrap();
    assert_eq!(receipt.buffered().await.unwrap().buffered, 3000);
    handle.delivery().resume();
    assert_eq!(receipt.settled().await.unwrap().delivered, 3000);
}

#[tokio::test]
async fn a_stream_is_polled_only_while_there_is_room() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let mut parts = parts(&inbox, dir.path()).await;
    let room_for = (event(0).len() + 1000) * 3;
    parts.intake_bytes = room_for;
    let odd = Odd::new(|| ());
    *odd.refusal.lock().unwrap() = Some(AppendError::Failed("on purpose".into()));
    parts.buffer = odd.clone();
    let sink = CustomerIoSink::start(parts).unwrap();
    let mut polled = 0;
    let texts = (0..100).map(|n| {
        polled += 1;
        event(n)
    });
    let run = Box::pin(sink.run(stream::iter(texts)));
    let waited = tokio::time::timeout(Duration::from_millis(300), run).await;
    assert!(waited.is_err());
    assert!((1..20).contains(&polled), "{polled}");
}

#[tokio::test]
async fn a_run_that_is_dropped_loses_nothing_that_was_taken() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let sink = sink(&inbox, dir.path()).await;
    let endless = stream::iter((0..7).map(event)).chain(stream::pending());
    assert!(sink.run(endless).now_or_never().is_none());
    let drained = sink.drain(Duration::from_secs(60)).await;
    assert_eq!((drained.ledger.total(OutcomeKind::Delivered), drained.undelivered), (7, 0));
}

#[tokio::test]
async fn closing_ends_a_run_whose_stream_is_silent() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let sink = sink(&inbox, dir.path()).await;
    let mut run = Box::pin(sink.run(stream::pending::<EventBatch>()));
    assert!((&mut run).now_or_never().is_none());
    sink.handle().intake().close();
    let ended = tokio::time::timeout(Duration::from_secs(60), run).await;
    assert_eq!(ended.expect("it waits for the stream"), Err(Refused::Closed));
}

#[tokio::test]
async fn streams_and_single_batches_at_once_keep_to_their_own_receipts() {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let sink = sink(&inbox, dir.path()).await;
    let handle = sink.handle();
    let (give, mut given) = mpsc::unbounded_channel::<String>();
    let texts = stream::poll_fn(move |cx| given.poll_recv(cx));
    let run = sink.run(texts);
    let pushing = async {
        for n in 0..50 {
            give.send(event(n)).unwrap();
            let summary = handle.submit(event(100 + n)).await.unwrap().settled().await.unwrap();
            assert_eq!(summary.to_string(), "1 received: 1 delivered");
        }
        drop(give);
    };
    let (summary, ()) = tokio::join!(run, pushing);
    assert_eq!(summary.unwrap().to_string(), "50 received: 50 delivered");
}

#[test]
fn what_a_program_hands_in_is_counted_as_received_by_its_source() {
    let recorder = recorder::build();
    let text = metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
            let sink = sink(&inbox, dir.path()).await;
            let one = EventBatch::from(event(1)).source("orders");
            sink.handle().submit(one).await.unwrap().settled().await.unwrap();
            sink.run(stream::iter([event(2), event(3)])).await.unwrap();
        });
        recorder.handle().render()
    });
    for (source, events) in [("orders", 1), ("program", 2)] {
        let count = format!(
            r#"component_received_events_total{{component_id="{source}",component_kind="source",component_type="program"}} {events}"#
        );
        assert!(text.contains(&count), "{text}");
    }
}
