//! What does a backlog cost: bytes on disk, memory, time to store, to start, and to deliver?
//!
//! ```text
//! cargo bench --bench buffer                       1,000,000 events, in a minute or two
//! cargo bench --bench buffer -- 10000000           ten million; needs about 10 GB of disk
//! ```
//!
//! Each phase runs in a process of its own on the same folder, so that its peak of memory is its
//! own. Times on shared machines mean little; so storing is also given as a ratio to the floor of
//! the same run: a plain file that gets as many bytes in as many writes with an fsync each.

#![expect(clippy::expect_used, reason = "a benchmark may stop at what it did not expect")]

mod destination;
mod events;
mod memory;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rudder_customerio::config::{Config, LoadMode, OnCorruption, WhenFull};
use rudder_customerio::internal::buffer::{Buffer, DiskBuffer, DiskOptions};
use rudder_customerio::internal::delivery::{DeadLetters, Destination, Pace, start_paced};
use rudder_customerio::sink::DeliveryHandle;

use destination::{Down, Fast};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events of one append, as a busy gateway gathers them.
const GROUP: usize = 512;

/// Events of a single person: more than delivery looks at ahead.
const ONE_PERSONS: usize = 1_200_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        // `cargo test --benches` and listing runs must not measure for minutes.
        [word, ..] if word.starts_with("--") => {}
        ["phase", phase, dir, count] => run_phase(phase, Path::new(dir), number(count)),
        [count] => measure(number(count)),
        _ => measure(1_000_000),
    }
}

fn number(word: &str) -> usize {
    word.parse().expect("a number of events")
}

fn measure(count: usize) {
    println!("{count} events of different people, {GROUP} per append\n");
    let dir = tempfile::tempdir().expect("a folder");
    let phase = |name: &str| {
        let me = std::env::current_exe().expect("the path of this program");
        let mut phase = Command::new(me);
        phase.args(["phase", name]).arg(dir.path()).arg(count.to_string());
        phase.status().expect("start a phase").success()
    };
    for name in ["floor", "store", "start", "outage", "store for one", "one person"] {
        assert!(phase(name), "the phase {name} failed");
    }
    assert!(!phase("kill -9"), "it kills itself");
    for name in ["start after kill -9", "deliver"] {
        assert!(phase(name), "the phase {name} failed");
    }
}

fn run_phase(phase: &str, dir: &Path, count: usize) {
    let begin = Instant::now();
    let done = match phase {
        "floor" => floor(dir, count),
        "store" => store(dir, count, false),
        "kill -9" => {
            store(dir, GROUP, false);
            let (buffer, _) = open(dir);
            runtime().block_on(buffer.append(events::group(0, GROUP, false))).expect("room");
            let me = std::process::id().to_string();
            Command::new("kill").args(["-9", &me]).status().expect("run kill");
            unreachable!("killed");
        }
        "store for one" => store(&dir.join("one"), ONE_PERSONS, true),
        "outage" => deliver_nothing(dir),
        "one person" => deliver_nothing(&dir.join("one")),
        "deliver" => deliver(dir),
        _ => {
            let (buffer, time) = open(dir);
            format!("{} events wait, open after {time:.0?}", buffer.stats().events)
        }
    };
    let seconds = begin.elapsed().as_secs_f64();
    println!("{phase:<20} {seconds:>8.2} s  {:>6} MB at most  {done}", memory::peak_mb());
}

fn options(dir: &Path) -> DiskOptions {
    DiskOptions {
        dir: dir.join("buffer"),
        max_size: 1 << 40,
        when_full: WhenFull::Refuse,
        on_corruption: OnCorruption::Stop,
    }
}

fn open(dir: &Path) -> (DiskBuffer, Duration) {
    let begin = Instant::now();
    let buffer = DiskBuffer::open(options(dir)).expect("the buffer opens");
    (buffer, begin.elapsed())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads")
}

/// Writes the same bytes to a plain file, with an fsync per group.
fn floor(dir: &Path, count: usize) -> String {
    let path = dir.join("floor");
    let mut file = std::fs::File::create(&path).expect("a file");
    let begin = Instant::now();
    for first in (0..count).step_by(GROUP) {
        let group = events::group(first, GROUP.min(count - first), false);
        let mut bytes = Vec::new();
        for event in &group {
            event.operations.iter().for_each(|o| bytes.extend_from_slice(&o.body));
            bytes.extend_from_slice(&event.original.raw);
        }
        file.write_all(&bytes).and_then(|()| file.sync_data()).expect("a write");
    }
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    std::fs::write(dir.join("floor-rate"), rate.to_string()).expect("a write");
    std::fs::remove_file(path).expect("a removal");
    format!("{rate:.0} events/s into a plain file")
}

fn store(dir: &Path, count: usize, one_person: bool) -> String {
    let (buffer, _) = open(dir);
    let begin = Instant::now();
    runtime().block_on(async {
        for first in (0..count).step_by(GROUP) {
            let group = events::group(first, GROUP.min(count - first), one_person);
            buffer.append(group).await.expect("room");
        }
    });
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    let floor = std::fs::read_to_string(dir.join("floor-rate")).unwrap_or_default();
    // The phases of one person stand in a folder of their own, without a floor.
    let ratio = floor
        .parse::<f64>()
        .map_or(String::new(), |floor| format!(" = {:.2} of the floor", rate / floor));
    drop(buffer);
    let disk = events::size_of_folder(&dir.join("buffer")) >> 20;
    format!("{rate:.0} events/s{ratio}; {disk} MB on disk")
}

/// Lets delivery look ahead as far as it will while Customer.io is away.
fn deliver_nothing(dir: &Path) -> String {
    let (buffer, _) = open(dir);
    let waiting = buffer.stats().events;
    let buffer: Arc<dyn Buffer> = Arc::new(buffer);
    runtime().block_on(async {
        let (_, task) = start(dir, &buffer, Arc::new(Down));
        memory::until_steady().await;
        task.abort();
        drop(task.await);
    });
    format!("{waiting} events wait while Customer.io is away")
}

fn deliver(dir: &Path) -> String {
    let (buffer, _) = open(dir);
    let waiting = buffer.stats().events;
    let buffer: Arc<dyn Buffer> = Arc::new(buffer);
    let begin = Instant::now();
    runtime().block_on(async {
        buffer.close();
        let (_, task) = start(dir, &buffer, Arc::new(Fast));
        task.await.expect("delivery ends");
        buffer.flush().await;
    });
    let rate = waiting as f64 / begin.elapsed().as_secs_f64();
    drop(buffer);
    let disk = events::size_of_folder(&dir.join("buffer")) >> 20;
    format!("{rate:.0} events/s read, sent to nobody, and settled; {disk} MB left on disk")
}

fn start(
    dir: &Path,
    buffer: &Arc<dyn Buffer>,
    destination: Arc<dyn Destination>,
) -> (DeliveryHandle, tokio::task::JoinHandle<()>) {
    let text = "customerio: { site_id: s, api_key: k, check_credentials: false, \
                rate_limit: { requests_per_second: 100000, burst: 100000 } }";
    let loaded = Config::parse(text, "bench.yaml", LoadMode::Full, &|_| None);
    let (config, _) = loaded.expect("a valid configuration");
    let letters = DeadLetters::open(dir, &config.dead_letters).expect("dead letters");
    let customerio = config.customerio.expect("the section");
    let nothing = Arc::new(|_, _: &_| {});
    let letters = Arc::new(letters);
    start_paced(Arc::clone(buffer), destination, &customerio, letters, nothing, Pace::default())
}
