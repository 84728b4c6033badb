//! Random lives of a buffer amid failures of every kind, and loss of power.

use std::collections::BTreeSet;

use super::faulty_disk::{Disk, Failing};
use super::*;

/// One random walk: appends, reads, settlements, failures of every kind, and loss of power.
async fn walk(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut disk = Arc::new(Disk::default());
    // With a small bound, rows of which little waits are written again.
    let bound = if random.bool() { 1 << 30 } else { 60 * event(0).bytes() };
    let options = options(Path::new("/nowhere"), bound, WhenFull::Refuse);
    let open = |disk: &Arc<Disk>| DiskBuffer::open_with(options.clone(), disk.factory()).unwrap();
    let mut next = 0;
    // Acknowledged and not settled; refused; settled, perhaps not durably.
    let (mut acknowledged, mut refused) = (BTreeSet::new(), BTreeSet::new());
    let mut last = None;
    for _ in 0..4 {
        let buffer = open(&disk);
        let mut settled = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for _ in 0..12 {
            if random.u8(..4) == 0 {
                let how = [Failing::Writes, Failing::Syncs, Failing::Growth, Failing::Everything];
                let how = how[random.usize(..how.len())];
                disk.fail(how, random.u64(..12), random.u64(1..6));
            }
            let size = if random.bool() { 4 } else { 14 };
            let events: Vec<_> = (next..next + random.i64(1..size)).map(event).collect();
            let seconds: Vec<_> = events.iter().map(|e| e.received_at.timestamp()).collect();
            next += events.len() as i64;
            match buffer.append(events).await {
                Ok(first) => {
                    assert!(Some(first) > last, "seed {seed}: {first:?} after {last:?}");
                    last = Some(Sequence(first.0 + seconds.len() as u64 - 1));
                    acknowledged.extend(seconds);
                }
                Err(_) => refused.extend(seconds),
            }
            if random.bool()
                && let Some(portion) = buffer.read(random.usize(1..20), u64::MAX).now_or_never()
            {
                for (sequence, event) in portion {
                    let second = event.received_at.timestamp();
                    assert!(seen.insert(second), "seed {seed}: {second} was read twice");
                    if random.u8(..5) > 0 {
                        buffer.settle(&delivered(&[sequence.0]));
                        settled.insert(second);
                    }
                }
            } else {
                tokio::task::yield_now().await;
            }
            assert_eq!(buffer.all_lives().unwrap().gap(), 0, "seed {seed}");
        }
        let clean = random.bool();
        if clean {
            disk.heal();
            while buffer.shared.state().trouble.is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            buffer.flush().await;
        }
        let after = disk.lose_power(&mut random);
        drop(buffer);
        disk = after;

        let buffer = open(&disk);
        buffer.close();
        let mut there = BTreeSet::new();
        let mut before = None;
        loop {
            let portion = buffer.read(7, u64::MAX).await;
            if portion.is_empty() {
                break;
            }
            for (sequence, event) in portion {
                assert!(Some(sequence) > before, "seed {seed}");
                before = Some(sequence);
                let second = event.received_at.timestamp();
                assert!(there.insert(second), "seed {seed}: {second} is there twice");
            }
        }
        let stats = buffer.stats();
        assert_eq!(stats.events, there.len() as u64, "seed {seed}");
        let ledger = buffer.all_lives().unwrap();
        assert_eq!((ledger.gap(), ledger.buffered), (0, stats.events), "seed {seed}");
        let expected: BTreeSet<_> = acknowledged.difference(&settled).copied().collect();
        assert!(expected.is_subset(&there), "seed {seed}: lost {:?}", &expected - &there);
        if clean {
            assert_eq!(there, expected, "seed {seed}");
        } else {
            let known = &acknowledged | &refused;
            assert!(there.is_subset(&known), "seed {seed}");
        }
        // What a crash has left in doubt may be there; from now on it counts as stored.
        acknowledged = there;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_and_whenever_power_is_lost_nothing_acknowledged_is_lost_or_doubled() {
    let seeds = std::env::var("WALK_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(25);
    for seed in 0..seeds {
        walk(seed).await;
    }
}
