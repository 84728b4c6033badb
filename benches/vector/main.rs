//! Is the `vector` source limited by mapping or by decoding?
//!
//! `cargo bench --bench vector` decodes the requests in `tests/data/vector-grpc`, which a real Vector
//! sent, walks their events from JSON text to operations as a mapping thread does, and prints
//! nanoseconds per event and, what counts on shared machines, each figure as a ratio to the walk in the
//! same run. Rounds of all measurements alternate, and the best round of each is reported.
//!
//! Reading the text again is a part of the walk that decoding straight into values would avoid, at the
//! price of building these values from the wire: the two first lines together bound what it could save.

#![expect(clippy::expect_used, reason = "a benchmark may stop at what it did not expect")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rudder_customerio::config::Config;
use rudder_customerio::internal::event::{decode, decode_vector};
use rudder_customerio::internal::stage::{Fill, Filter, Mapping, Stage, Walked};
use rudder_customerio::mapping::{Mappings, Settings};
use rudder_customerio::sink::{EventBatch, Incoming};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often each round goes over all requests.
const PASSES: usize = 100;
const ROUNDS: usize = 15;

struct Measurement {
    name: &'static str,
    best_ns: f64,
    run: Box<dyn FnMut() -> usize>,
}

fn main() {
    // `cargo test --benches` and listing runs must not measure for minutes.
    if std::env::args().any(|a| a == "--list" || a == "--test") {
        return;
    }
    // Scripts run where the product runs them: on a thread with a large stack.
    let bench = std::thread::Builder::new().stack_size(16 << 20).spawn(measure);
    bench.expect("start a thread").join().expect("measure");
}

fn measure() {
    let requests = requests();
    let mapping = Arc::new(
        Mapping::load(&Mappings::built_in(), &Settings::default())
            .expect("built-in scripts compile"),
    );
    let config = Config::default();
    let filter = Arc::new(Filter::new(&config.filter, &config.consent));
    let mut stage = Stage::new(filter, Arc::clone(&mapping), Fill::Gateway);
    let batch = EventBatch::new().source("vector");
    // Only what is mapped: events that end before would make the walk look cheap.
    let requests: Vec<Bytes> = requests
        .into_iter()
        .filter(|request| {
            elements(request).iter().all(|e| matches!(stage.walk(e, &batch), Walked::Ready(_)))
        })
        .collect();
    let events: Vec<Incoming> = requests.iter().flat_map(elements).collect();
    let bytes: usize = requests.iter().map(Bytes::len).sum();
    let (count, size) = (events.len(), bytes / events.len());
    println!(
        "{} requests, {count} events, {size} bytes on average, best of {ROUNDS} rounds",
        requests.len()
    );

    let (texts, plan) = (events.clone(), mapping);
    let mut all = [
        measurement("wire → JSON text", move || {
            requests.iter().map(|request| black_box(elements(request)).len()).sum()
        }),
        measurement("JSON text → what the scripts read", move || {
            let read = texts.iter().filter(|event| {
                let json = event.json.as_ref().expect("mapped events");
                black_box(decode(json, plan.plan())).is_ok()
            });
            read.count()
        }),
        measurement("the walk (JSON text → operations)", move || {
            let walked = events
                .iter()
                .filter(|event| matches!(black_box(stage.walk(event, &batch)), Walked::Ready(_)));
            walked.count()
        }),
    ];
    for _ in 0..ROUNDS {
        for m in &mut all {
            let start = Instant::now();
            let done: usize = (0..PASSES).map(|_| black_box((m.run)())).sum();
            assert_eq!(done, count * PASSES, "{}", m.name);
            m.best_ns = m.best_ns.min(start.elapsed().as_nanos() as f64 / done as f64);
        }
    }
    let walk = all.last().map_or(f64::NAN, |walk| walk.best_ns);
    println!("{:<42} {:>10} {:>12}", "", "ns/event", "÷ the walk");
    for m in &all {
        println!("{:<42} {:>10.0} {:>12.3}", m.name, m.best_ns, m.best_ns / walk);
    }
}

fn measurement(name: &'static str, run: impl FnMut() -> usize + 'static) -> Measurement {
    Measurement { name, best_ns: f64::MAX, run: Box::new(run) }
}

fn requests() -> Vec<Bytes> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vector-grpc");
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .expect("the recorded requests")
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a request").into()).collect()
}

fn elements(request: &Bytes) -> Vec<Incoming> {
    decode_vector(request, None).expect("a list of events")
}
