//! The script files give the same operations here and in stock Vector's `remap`.
//!
//! `stock` does what `remap` does, with the VRL that this crate is built with. What older versions
//! give is for the program in `tests/portability/`, which reads the cases that are written here.

mod cases;
mod stock;
mod used;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rudder_customerio::internal::event::decode;
use rudder_customerio::internal::stage::check_root;
use rudder_customerio::internal::stage::{Mapped, Mapper, Mapping, STACK_BYTES};
use rudder_customerio::mapping::{Mappings, Settings};
use serde_json::{Value as Json, json};

use self::cases::Case;
use self::stock::{Ended, Remap, Strings};

/// The folder of the scripts.
fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/vrl"))
}

/// The joined script of each event type, as `files:` of `remap` joins them.
fn scripts() -> BTreeMap<String, String> {
    let list = fs::read_to_string(folder().join("mapping.yaml")).unwrap();
    let list = cases::yaml(&list);
    let joined = |files: &Json| {
        let text = |file: &Json| fs::read_to_string(folder().join(file.as_str().unwrap())).unwrap();
        files.as_array().unwrap().iter().map(text).collect::<Vec<_>>().join("\n")
    };
    let list = list.as_object().unwrap();
    list.iter().map(|(name, files)| (name.clone(), joined(files))).collect()
}

/// VRL recurses, so scripts run on a large stack.
fn on_large_stack(work: fn()) {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The transform between a source that does not decode and the scripts: nothing but the event
/// remains.
const FRONT: &str = ". = object!(parse_json!(.message))";

/// The members that an operation has: nothing of the event may stand beside them.
const MEMBERS: [&str; 10] = [
    "type",
    "action",
    "identifiers",
    "name",
    "attributes",
    "timestamp",
    "device",
    "primary",
    "secondary",
    "cio_relationships",
];

/// Our way: the mapping as the pipeline runs it, per settings.
struct Ours {
    mapping: Arc<Mapping>,
    /// Per settings: who maps, and what a script in stock Vector sees of them.
    mappers: Vec<(Settings, Mapper, vrl::value::Value)>,
}

impl Ours {
    fn new() -> Self {
        let load = Mapping::load(&Mappings::built_in(), &Settings::default());
        Self { mapping: Arc::new(load.unwrap()), mappers: Vec::new() }
    }

    fn of(&mut self, settings: &Settings) -> usize {
        self.mappers.iter().position(|(known, ..)| known == settings).unwrap_or_else(|| {
            let mapping = Mapping::load(&Mappings::built_in(), settings).unwrap();
            let metadata = stock::metadata(settings);
            self.mappers.push((settings.clone(), Arc::new(mapping).worker(), metadata));
            self.mappers.len() - 1
        })
    }

    fn metadata(&mut self, settings: &Settings) -> &vrl::value::Value {
        let at = self.of(settings);
        &self.mappers[at].2
    }

    /// Maps an event; `None` if no script is listed for its type, or it is no event at all.
    fn map(&mut self, event: &Json, settings: &Settings) -> Option<(String, Ended)> {
        let at = self.of(settings);
        let decoded = decode(&Bytes::from(event.to_string()), self.mapping.plan()).ok()?;
        let ended = match self.mappers[at].1.map(decoded.index?, decoded.body) {
            Mapped::Root(root) => {
                // Stock Vector sends what it gets: an operation that is refused here would differ.
                check_root(&root, "built in").unwrap_or_else(|fault| panic!("{event}: {fault}"));
                Ended::from_root(&root)
            }
            Mapped::Dropped(_) => Ended::Dropped,
            Mapped::Failed(_) => Ended::Failed,
        };
        Some((decoded.type_name.to_string(), ended))
    }
}

/// Remaps of all types, and the one in front of them.
struct Stock {
    remaps: BTreeMap<String, Remap>,
    front: Remap,
}

impl Stock {
    fn new() -> Self {
        let remaps = scripts().into_iter().map(|(name, text)| (name, Remap::new(&text)));
        Self { remaps: remaps.collect(), front: Remap::new(FRONT) }
    }
}

/// The ways in which an event comes to a script in stock Vector, all of which must agree.
const WAYS: [&str; 4] = ["texts", "bytes", "with members of the source", "behind the front"];

fn compare() {
    let stock = Stock::new();
    let mut ours = Ours::new();
    let (mut written, mut wrong, mut operations) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (n, case) in cases::all(&ours.mapping).iter().enumerate() {
        let Case { name, event, settings, .. } = case;
        let Some((script, wanted)) = ours.map(event, settings) else { continue };
        *operations.entry(script.clone()).or_insert(0) += usize::from(wanted.is_operations());
        let set = ours.metadata(settings).clone();
        let unset =
            if *settings == Settings::default() { stock::no_metadata() } else { set.clone() };
        for (way, told) in WAYS.iter().enumerate() {
            // There are many of these, and all are alike.
            if case.is_made_up && n % WAYS.len() != way {
                continue;
            }
            let (input, metadata, zone) = match way {
                0 => (stock::event(event, Strings::Text), &unset, "UTC"),
                1 => (stock::event(event, Strings::Bytes), &unset, "America/New_York"),
                2 => {
                    let event = stock::event(event, Strings::Bytes);
                    (stock::with_members_of_the_source(event), &set, "Asia/Kolkata")
                }
                _ => {
                    let front = stock.front.run(stock::line(event), unset.clone(), "local");
                    assert_eq!(front.event, stock::event(event, Strings::Bytes), "{name}");
                    (front.event, &unset, "local")
                }
            };
            let left = stock.remaps[&script].run(input, metadata.clone(), zone);
            assert_eq!(left.metadata, *metadata, "{name}: the metadata changed");
            if left.ended != wanted {
                let got = left.ended;
                wrong.push(format!("{name}, {told}: {event}\n  ours  {wanted:?}\n  stock {got:?}"));
            } else if let Ended::Operations(operations) = &wanted {
                let mut members = operations.iter().flat_map(|o| o.as_object().unwrap().keys());
                let rest = members.find(|member| !MEMBERS.contains(&member.as_str()));
                assert_eq!(rest, None, "{name}, {told}: {event}");
            }
        }
        written.push(json!({
            "name": name, "script": script, "metadata": unset, "event": event, "expected": wanted,
        }));
    }
    let shown = wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} differ:\n{shown}", wrong.len());
    // A comparison of failures would show little.
    assert_eq!(operations.len(), 7, "{operations:?}");
    assert!(operations.values().all(|n| *n > 100), "{operations:?}");

    let document = json!({ "scripts": scripts(), "cases": written });
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("portability.json");
    fs::write(path, document.to_string()).unwrap();
}

#[test]
fn stock_remap_gives_the_same_operations() {
    on_large_stack(compare);
}

// --- The differences: what a source of Vector makes of JSON if it decodes it itself. With `FRONT`
// between source and script there is none. ---

/// An event without `timestamp` gets the time of reading. It is a time, not a text, so the scripts
/// take it for no date; and it hides `originalTimestamp`. The operation then has no time.
fn time_of_the_source() {
    let stock = Stock::new();
    let mut ours = Ours::new();
    let mut different = 0;
    for Case { name, event, settings, .. } in cases::all(&ours.mapping) {
        if event.get("timestamp").is_some() || settings != Settings::default() {
            continue;
        }
        let Some((script, wanted)) = ours.map(&event, &settings) else { continue };
        let metadata = ours.metadata(&settings).clone();
        let input = stock::with_time_of_the_source(stock::event(&event, Strings::Bytes));
        let got = stock.remaps[&script].run(input, metadata, "UTC").ended;
        let mut undated = event.clone();
        undated["timestamp"] = json!("no date");
        assert_eq!(got, ours.map(&undated, &settings).unwrap().1, "{name}: {event}");
        if event["originalTimestamp"].is_null() {
            assert_eq!(got, wanted, "{name}: {event}");
        }
        different += usize::from(got != wanted);
    }
    assert!(different > 10, "{different}");
}

#[test]
fn difference_the_time_that_a_source_adds_hides_the_original_time() {
    on_large_stack(time_of_the_source);
}

/// A whole number between 2^63 and 2^64 becomes a text. Here, as in `parse_json`, it is a float.
fn numbers_of_the_codec() {
    let properties = json!({ "n": u64::MAX, "m": i64::MAX, "x": 1e30 });
    let event = json!({ "type": "track", "event": "x", "userId": "u", "properties": properties });
    let attributes = |ended: Ended| match ended {
        Ended::Operations(operations) => operations[0]["attributes"].clone(),
        other => panic!("{other:?}"),
    };
    let ours = attributes(Ours::new().map(&event, &Settings::default()).unwrap().1);
    assert_eq!(ours, json!({ "n": 18446744073709551615.0_f64, "m": i64::MAX, "x": 1e30 }));
    let remap = &Stock::new().remaps["track"];
    let stock = attributes(remap.run(stock::decoded(&event), stock::no_metadata(), "UTC").ended);
    assert_eq!(stock, json!({ "n": u64::MAX.to_string(), "m": i64::MAX, "x": 1e30 }));
}

#[test]
fn difference_the_json_codec_makes_texts_of_numbers_beyond_63_bits() {
    on_large_stack(numbers_of_the_codec);
}
