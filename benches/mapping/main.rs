//! How fast do bytes become operations on one core, and which part costs what?
//!
//! `cargo bench --bench mapping` prints nanoseconds per event and, what counts on shared machines, each
//! figure as a ratio to the floor measured in the same run: serde_json parsing the same events whole and
//! writing them again. Rounds of all measurements alternate, and the best round of each is reported.

#![expect(
    clippy::expect_used,
    clippy::string_slice,
    reason = "a benchmark may stop at what it did not expect"
)]

mod events;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rudder_customerio::config::Config;
use rudder_customerio::internal::event::{Event, IdInput, Plan, decode};
use rudder_customerio::internal::stage::{Fill, Filter, Mapped, Mapping, Stage, Walked, prepare};
use rudder_customerio::mapping::{Mappings, Settings};
use rudder_customerio::sink::{EventBatch, Incoming, Origin};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVENTS: usize = 20_000;
const ROUNDS: usize = 7;

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
    let texts = events::generate(1, EVENTS);
    let bytes: usize = texts.iter().map(String::len).sum();
    println!("{EVENTS} events, {} bytes on average, best of {ROUNDS} rounds", bytes / EVENTS);

    let raw: Vec<Bytes> = texts.into_iter().map(Bytes::from).collect();
    let mapping = Arc::new(
        Mapping::load(&Mappings::built_in(), &Settings::default())
            .expect("built-in scripts compile"),
    );
    let config = Config::default();
    let filter = Arc::new(Filter::new(&config.filter, &config.consent));
    let origin = Origin { source: "bench".into(), source_type: "web".into() };
    let types: Vec<String> = mapping.plan().types().map(|(name, _)| name.to_owned()).collect();
    let whole = Plan::everything(&types.iter().map(String::as_str).collect::<Vec<_>>());

    let mut all = vec![
        floor(&raw),
        decode_with("decode whole", &raw, Arc::new(whole)),
        decode_with("decode what the scripts read", &raw, Arc::clone(mapping.plan())),
        decode_and_filter(&raw, &mapping, &filter, &origin),
        decode_and_map(&raw, &mapping),
        decode_map_and_check(&raw, &mapping),
        chain(
            "the whole walk (bytes → operations)",
            &raw,
            &mapping,
            &filter,
            &origin,
            Fill::Nothing,
        ),
        chain(
            "the same, filling in what is missing",
            &raw,
            &mapping,
            &filter,
            &origin,
            Fill::Gateway,
        ),
    ];
    for _ in 0..ROUNDS {
        for m in &mut all {
            let start = Instant::now();
            let done = black_box((m.run)());
            assert!(done > 0, "{} did nothing", m.name);
            m.best_ns = m.best_ns.min(start.elapsed().as_nanos() as f64 / EVENTS as f64);
        }
    }
    let floor = all[0].best_ns;
    println!("{:<42} {:>10} {:>12}", "", "ns/event", "× the floor");
    for m in &all {
        println!("{:<42} {:>10.0} {:>12.2}", m.name, m.best_ns, floor / m.best_ns);
    }
}

fn measurement(name: &'static str, run: impl FnMut() -> usize + 'static) -> Measurement {
    Measurement { name, best_ns: f64::MAX, run: Box::new(run) }
}

fn floor(raw: &[Bytes]) -> Measurement {
    let (raw, mut out) = (raw.to_vec(), Vec::new());
    measurement("floor: serde_json, parse and write whole", move || {
        raw.iter()
            .map(|event| {
                let value: serde_json::Value = serde_json::from_slice(event).expect("valid events");
                out.clear();
                serde_json::to_writer(&mut out, &value).expect("write to memory");
                out.len()
            })
            .sum()
    })
}

fn decoded(event: &Bytes, plan: &Plan) -> Event {
    decode(event, plan).expect("valid events")
}

fn decode_with(name: &'static str, raw: &[Bytes], plan: Arc<Plan>) -> Measurement {
    let raw = raw.to_vec();
    measurement(name, move || {
        raw.iter().filter(|event| black_box(decoded(event, &plan)).index.is_some()).count()
    })
}

fn decode_and_filter(
    raw: &[Bytes],
    mapping: &Arc<Mapping>,
    filter: &Arc<Filter>,
    origin: &Origin,
) -> Measurement {
    let (raw, plan, filter, origin) =
        (raw.to_vec(), Arc::clone(mapping.plan()), Arc::clone(filter), origin.clone());
    measurement("… and filter", move || {
        raw.iter().filter(|event| filter.decide(&decoded(event, &plan), &origin).is_none()).count()
    })
}

fn decode_and_map(raw: &[Bytes], mapping: &Arc<Mapping>) -> Measurement {
    let (raw, plan, mut mapper) = (raw.to_vec(), Arc::clone(mapping.plan()), mapping.worker());
    measurement("… and run the script", move || {
        let mapped = raw.iter().filter(|event| {
            let event = decoded(event, &plan);
            event.index.is_some_and(|index| {
                matches!(black_box(mapper.map(index, event.body)), Mapped::Root(_))
            })
        });
        mapped.count()
    })
}

fn decode_map_and_check(raw: &[Bytes], mapping: &Arc<Mapping>) -> Measurement {
    let (raw, mapping, mut mapper, mut scratch) =
        (raw.to_vec(), Arc::clone(mapping), mapping.worker(), Vec::new());
    measurement("… and check and write the operations", move || {
        let mut bytes = 0;
        for event in &raw {
            let event = decoded(event, mapping.plan());
            let Some(index) = event.index else { continue };
            let input = IdInput::of(&event);
            if let Mapped::Root(root) = mapper.map(index, event.body) {
                let operations = prepare(root, mapping.file(index), &input, &mut scratch);
                bytes += operations
                    .expect("valid operations")
                    .iter()
                    .map(|o| o.body.len())
                    .sum::<usize>();
            }
        }
        bytes
    })
}

fn chain(
    name: &'static str,
    raw: &[Bytes],
    mapping: &Arc<Mapping>,
    filter: &Arc<Filter>,
    origin: &Origin,
    fill: Fill,
) -> Measurement {
    let mut stage = Stage::new(Arc::clone(filter), Arc::clone(mapping), fill);
    let elements: Vec<_> = raw
        .iter()
        .enumerate()
        .map(|(i, event)| Incoming::new(Ok(event.clone()), i as u64))
        .collect();
    let batch = EventBatch::new()
        .source(origin.source.clone())
        .source_type(origin.source_type.clone())
        .client_ip("203.0.113.9");
    measurement(name, move || {
        elements
            .iter()
            .filter(|e| matches!(black_box(stage.walk(e, &batch)), Walked::Ready(_)))
            .count()
    })
}
