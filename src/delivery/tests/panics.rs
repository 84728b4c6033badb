//! Defects that end a request in a panic.

use std::io::Write;

use super::*;

#[derive(Clone, Default)]
pub(super) struct Log(pub(super) Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_operation_that_ends_every_request_in_a_panic_is_rejected_alone() {
    let world = World::new(Fake::new(|_, names| {
        if names.iter().any(|name| name == "p1") {
            std::panic::resume_unwind(Box::new("a defect"));
        }
        delivered(names)
    }));
    world.put_each(&["a1", "p1", "p2", "b1"]).await;
    let (_, task) = world.start();
    world.busy_until(|world| world.have_ended(&[0, 1, 2, 3])).await;
    world.finish(task).await;
    assert_eq!(world.counts().1, 1);
    assert_eq!(world.letters()[0]["reason"], "internal");
    assert_eq!(world.letters()[0]["unknown"], true);
}

#[tokio::test]
async fn a_panic_in_a_request_loses_nothing_and_its_text_is_not_logged() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _subscriber = tracing::subscriber::set_default(subscriber);
    let world = World::new(Fake::new(|n, names| {
        assert!(n > 1, "no such person: ada@example.org");
        delivered(names)
    }));
    world.put_each(&["a1", "b1"]).await;
    world.run().await;
    assert_eq!(world.counts(), (2, 0));
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("A request ended in a panic."), "{log}");
    assert!(!log.contains("ada@example.org"), "{log}");
}
