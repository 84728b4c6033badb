//! The whole sink over a disk whose writes and syncs fail now and then: what it took is delivered once
//! and in order, what it refused was not received, and the law holds at every moment.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redb::StorageBackend;
use rudder_customerio::config::{Config, LoadMode, OnCorruption, WhenFull};
use rudder_customerio::internal::buffer::{BackendFactory, Buffer, DiskBuffer, DiskOptions};
use rudder_customerio::internal::sink::with_store;
use rudder_customerio::mapping::Mappings;
use rudder_customerio::outcome::OutcomeKind;
use rudder_customerio::sandbox::{Identifier, Sandbox};
use rudder_customerio::sink::{CustomerIoSink, EventBatch, SinkHandle};
use serde_json::json;
use tokio::time::sleep;

use crate::support::PATIENCE;
use crate::support::lives::{numbered, write_scripts};

/// A disk in memory that outlives its failures.
#[derive(Debug, Default)]
struct Disk {
    bytes: Mutex<Vec<u8>>,
    fails: AtomicBool,
    failures: AtomicU64,
}

#[derive(Debug)]
struct Handle(Arc<Disk>);

impl Handle {
    /// Half of what is tried while the disk fails.
    fn may(&self) -> io::Result<()> {
        if self.0.fails.load(Ordering::Relaxed) && fastrand::bool() {
            self.0.failures.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::other("the disk fails"));
        }
        Ok(())
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("a small disk")
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.bytes.lock().expect("not poisoned").len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.bytes.lock().expect("not poisoned");
        let start = place(offset);
        let found = bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.may()?;
        self.0.bytes.lock().expect("not poisoned").resize(place(len), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.may()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.may()?;
        let mut bytes = self.0.bytes.lock().expect("not poisoned");
        let start = place(offset);
        let end = start + data.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(data);
        Ok(())
    }
}

fn batch(person: &str, numbers: std::ops::Range<u64>) -> EventBatch {
    let event = |n: u64| {
        json!({"type": "track", "userId": person, "event": "Step",
            "messageId": format!("{person}-{n}"), "originalTimestamp": "2026-01-01T00:00:00.000Z",
            "properties": {"n": n}})
    };
    numbers.map(event).collect::<EventBatch>().source_type("web")
}

/// Sends batches of three until it is told to stop, each until it is taken; returns how many events
/// were taken. How often a batch was refused is counted in `refusals`.
async fn send(
    sink: SinkHandle,
    person: String,
    stop: Arc<AtomicBool>,
    refusals: Arc<AtomicU64>,
) -> u64 {
    let mut taken = 0;
    while !stop.load(Ordering::Relaxed) {
        loop {
            // As the gateway does it: a sender that has waited for long enough is refused.
            let batch = batch(&person, taken + 1..taken + 4);
            let answer = match sink.intake().submit(batch, PATIENCE).await {
                Ok(mut receipt) => receipt.buffered().await.map(drop),
                Err(refused) => Err(refused),
            };
            let now = sink.ledger().snapshot();
            assert_eq!(now.gap(), 0, "{now:?}");
            if answer.is_ok() {
                break;
            }
            refusals.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(20)).await;
        }
        taken += 3;
        sleep(Duration::from_millis(2)).await;
    }
    taken
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, holds).await.is_ok(), "waited in vain: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_disk_that_fails_again_and_again_nothing_is_lost_doubled_or_reordered() {
    let dir = tempfile::tempdir().unwrap();
    write_scripts(&dir.path().join("vrl"));
    let sandbox = Sandbox::builder().start().await.unwrap();
    let config = json!({
        "sources": [{"type": "stdin"}],
        "customerio": {
            "site_id": "site", "api_key": "key", "endpoint": sandbox.base_url(),
            "rate_limit": {"requests_per_second": 5000, "burst": 100},
        },
    });
    let config = Config::parse(&config.to_string(), "test", LoadMode::Full, &|_| None).unwrap().0;

    let disk = Arc::new(Disk::default());
    let below = Arc::clone(&disk);
    let factory: BackendFactory =
        Arc::new(move || Ok(Box::new(Handle(Arc::clone(&below))) as Box<dyn StorageBackend>));
    let options = DiskOptions {
        dir: dir.path().join("nowhere"),
        max_size: 1 << 30,
        when_full: WhenFull::Refuse,
        on_corruption: OnCorruption::Stop,
    };
    let buffer = Arc::new(DiskBuffer::open_with(options, factory).unwrap());
    let builder = CustomerIoSink::builder(config.customerio.unwrap())
        .mappings(Mappings::read(&dir.path().join("vrl")).unwrap())
        .data_dir(dir.path().join("data"));
    let builder = with_store(builder, Arc::clone(&buffer) as Arc<dyn Buffer>);
    let sink = builder.build().await.unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let refusals: Vec<_> = (0..4).map(|_| Arc::<AtomicU64>::default()).collect();
    let sender = |(i, refusals): (usize, &Arc<AtomicU64>)| {
        let (stop, refusals) = (Arc::clone(&stop), Arc::clone(refusals));
        tokio::spawn(send(sink.handle(), format!("u-{i}"), stop, refusals))
    };
    let senders: Vec<_> = refusals.iter().enumerate().map(sender).collect();
    for outage in 0..3 {
        sleep(Duration::from_millis(fastrand::u64(20..200))).await;
        disk.fails.store(true, Ordering::Relaxed);
        until("it fails", || buffer.stats().unavailable.is_some()).await;
        // Sometimes it heals before it is tried again, sometimes later.
        sleep(Duration::from_millis(600 * outage)).await;
        if outage == 2 {
            let refused = |count: &Arc<AtomicU64>| count.load(Ordering::Relaxed) > 0;
            until("every sender was refused", || refusals.iter().all(refused)).await;
        }
        disk.fails.store(false, Ordering::Relaxed);
        until("it works again", || buffer.stats().unavailable.is_none()).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut sent = Vec::new();
    for sender in senders {
        sent.push(sender.await.expect("the law did not hold"));
    }
    let drained = sink.drain(Duration::from_secs(60)).await;

    let total: u64 = sent.iter().sum();
    println!("{sent:?} events taken, {refusals:?} batches refused, {:?} failures", disk.failures);
    assert!(sent.iter().all(|taken| *taken > 0), "{sent:?}");
    for (i, taken) in sent.iter().enumerate() {
        let person = sandbox.person(&Identifier::Id(format!("u-{i}"))).expect("the person exists");
        let numbers: Vec<_> = numbered(&person).into_iter().filter_map(|(n, _)| n).collect();
        assert_eq!(numbers, (1..=*taken).collect::<Vec<_>>(), "u-{i}");
    }
    let ledger = drained.ledger;
    let counts = (ledger.received, ledger.total(OutcomeKind::Delivered), ledger.buffered);
    assert_eq!(counts, (total, total, 0), "what was refused was not received: {ledger:?}");
    let all = buffer.all_lives().expect("it keeps a ledger");
    let counts = (all.received, all.total(OutcomeKind::Delivered), all.buffered, all.gap());
    assert_eq!(counts, (total, total, 0, 0), "{all:?}");
    assert!(sandbox.activity().is_empty(), "something was sent twice: {:?}", sandbox.activity());
    sandbox.shutdown().await;
}
