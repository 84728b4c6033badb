//! The sink beside other runtimes than its own, and without one.

use std::thread;

use tokio::runtime::{Builder, Runtime};

use super::*;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A sink on a runtime with one thread, which a thread of its own drives until it is told to stop.
struct Elsewhere {
    handle: SinkHandle,
    stop: tokio::sync::oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
    inbox: Arc<Inbox>,
    _dir: tempfile::TempDir,
}

fn elsewhere(end: impl FnOnce(Runtime, CustomerIoSink) + Send + 'static) -> Elsewhere {
    let (inbox, dir) = (Arc::new(Inbox::default()), tempfile::tempdir().unwrap());
    let (give, given) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let (path, letters) = (dir.path().to_owned(), Arc::clone(&inbox));
    let thread = thread::spawn(move || {
        let runtime = runtime();
        let sink = runtime.block_on(sink(&letters, &path));
        give.send(sink.handle()).unwrap();
        runtime.block_on(stopped).unwrap();
        end(runtime, sink);
    });
    Elsewhere { handle: given.recv().unwrap(), stop, thread, inbox, _dir: dir }
}

#[test]
fn a_sink_of_one_thread_is_used_from_another_runtime_and_without_any() {
    let there = elsewhere(|runtime, sink| {
        assert!(runtime.block_on(sink.drain(Duration::from_secs(60))).stored);
    });
    let handle = there.handle.clone();
    let summary = runtime().block_on(async move {
        handle.submit(batch(0, 2)).await.unwrap().settled().await.unwrap()
    });
    assert_eq!(summary.delivered, 2);

    let handle = there.handle;
    let without = futures_util::FutureExt::boxed(async move {
        let mut receipt = handle.submit(batch(2, 1)).await.unwrap();
        receipt.buffered().await.unwrap();
        receipt.settled().await.unwrap()
    });
    assert_eq!(blocked_on(without).delivered, 1);
    there.stop.send(()).unwrap();
    there.thread.join().unwrap();
    assert_eq!(there.inbox.bodies.lock().unwrap().len(), 3);
}

/// An executor that knows nothing of tokio: it looks again when the thread is unparked.
fn blocked_on<T>(mut future: BoxFuture<'_, T>) -> T {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = std::task::Context::from_waker(&waker);
    loop {
        if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut cx) {
            return done;
        }
        thread::park();
    }
}

#[test]
fn the_end_of_the_sinks_runtime_refuses_who_still_waits() {
    let there = elsewhere(|runtime, sink| {
        runtime.shutdown_background();
        drop(sink);
    });
    let handle = there.handle;
    handle.delivery().pause();
    runtime().block_on(async {
        let mut receipt = handle.submit(batch(0, 1)).await.unwrap();
        assert_eq!(receipt.buffered().await.unwrap().buffered, 1);
        let mut endless =
            Box::pin(handle.submit_all(futures_util::stream::pending::<EventBatch>()));
        assert!((&mut endless).now_or_never().is_none());
        there.stop.send(()).unwrap();
        let bounded = tokio::time::timeout(Duration::from_secs(60), async {
            assert_eq!(receipt.settled().await, Err(Refused::Closed));
            assert_eq!(endless.await.unwrap_err(), Refused::Closed);
            // Accepted or not, nobody waits in vain.
            if let Ok(receipt) = handle.submit(batch(1, 1)).await {
                assert_eq!(receipt.settled().await, Err(Refused::Closed));
            }
        });
        bounded.await.expect("somebody waits in vain");
    });
    there.thread.join().unwrap();
}

#[test]
fn without_a_runtime_building_says_what_is_missing() {
    let build = CustomerIoSink::builder(config().customerio).build();
    let faults = futures_util::FutureExt::now_or_never(build).unwrap().unwrap_err();
    assert_eq!(faults[0].code, "no_runtime");
}

#[tokio::test]
async fn without_a_destination_building_says_what_is_missing() {
    let error = CustomerIoSink::builder(None).build().await.unwrap_err();
    assert!(error.to_string().contains("`customerio` is required"), "{error}");
}

#[tokio::test]
async fn two_sinks_of_one_process_share_nothing() {
    let (one, two) = (Arc::new(Inbox::default()), Arc::new(Inbox::default()));
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = sink(&one, here.path()).await;
    let second = sink(&two, there.path()).await;
    let run = |sink: &CustomerIoSink, events| {
        let handle = sink.handle();
        async move { handle.submit(batch(0, events)).await.unwrap().settled().await.unwrap() }
    };
    let (a, b) = tokio::join!(run(&first, 2), run(&second, 3));
    assert_eq!((a.delivered, b.delivered), (2, 3));
    assert_eq!(one.bodies.lock().unwrap().len(), 2);
    assert_eq!(first.drain(Duration::from_secs(60)).await.ledger.received, 2);
    assert_eq!(
        second.handle().submit(batch(3, 1)).await.unwrap().settled().await.unwrap().delivered,
        1
    );
    assert_eq!(two.bodies.lock().unwrap().len(), 4);
}
