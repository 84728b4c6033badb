//! What Vector 0.58 writes: gRPC messages and JSON bodies of events, byte for byte as recorded.

use std::io::Write as _;

use serde_json::{Map, Value, json};

/// An event inside of Vector. A member `{"$timestamp": TEXT}` is a value of Vector's own kind
/// timestamp, and `{"$float": TEXT}` a float, as in the recordings.
#[derive(Clone, Debug)]
pub struct Event {
    pub root: Value,
    /// What the source gave it: new each time that the source reads it.
    pub source_event_id: [u8; 16],
}

/// The source and the transform by which events came.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub source_id: &'static str,
    pub source_type: &'static str,
    pub upstream: &'static str,
}

/// Returns what `parse_json` makes of a line: integers beyond 64 bits with sign become texts.
pub fn parse_json(line: &str) -> Value {
    widened(serde_json::from_str(line).expect("a line is JSON"))
}

fn widened(value: Value) -> Value {
    match value {
        Value::Number(number) if number.as_i64().is_none() && number.is_u64() => {
            number.to_string().into()
        }
        Value::Array(elements) => elements.into_iter().map(widened).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(key, value)| (key, widened(value))).collect()
        }
        other => other,
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field(number: u64, content: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | 2, out);
    varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn entries(members: &Map<String, Value>, out: &mut Vec<u8>) {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_by_key(|(key, _)| key.as_bytes());
    for (key, value) in sorted {
        let mut entry = Vec::new();
        if !key.is_empty() {
            field(1, key.as_bytes(), &mut entry);
        }
        field(2, &self::value(value), &mut entry);
        field(1, &entry, out);
    }
}

fn value(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Null => out.extend([0x48, 0]),
        Value::Bool(boolean) => out.extend([0x30, u8::from(*boolean)]),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => {
                out.push(0x20);
                varint(integer.cast_unsigned(), &mut out);
            }
            None => double(number.as_f64().unwrap(), &mut out),
        },
        Value::String(text) => field(1, text.as_bytes(), &mut out),
        Value::Array(elements) => {
            let mut inner = Vec::new();
            elements.iter().for_each(|element| field(1, &self::value(element), &mut inner));
            field(8, &inner, &mut out);
        }
        Value::Object(members) => match marked(members) {
            Some(("$timestamp", text)) => field(2, &timestamp(text), &mut out),
            Some((_, text)) => double(text.parse().unwrap(), &mut out),
            None => {
                let mut inner = Vec::new();
                entries(members, &mut inner);
                field(7, &inner, &mut out);
            }
        },
    }
    out
}

/// Returns what stands for a kind that JSON does not have.
fn marked(members: &Map<String, Value>) -> Option<(&str, &str)> {
    let (name, value) = members.iter().next().filter(|_| members.len() == 1)?;
    matches!(name.as_str(), "$timestamp" | "$float")
        .then(|| (name.as_str(), value.as_str().unwrap()))
}

fn double(number: f64, out: &mut Vec<u8>) {
    out.push(0x29);
    out.extend(number.to_le_bytes());
}

fn timestamp(text: &str) -> Vec<u8> {
    let at = chrono::DateTime::parse_from_rfc3339(text).unwrap();
    let mut out = Vec::new();
    for (tag, part) in [(0x08, at.timestamp()), (0x10, i64::from(at.timestamp_subsec_nanos()))] {
        if part != 0 {
            out.push(tag);
            varint(part.cast_unsigned(), &mut out);
        }
    }
    out
}

/// The message of `PushEvents`.
pub fn push_events(events: &[Event], path: Path) -> Vec<u8> {
    let mut message = Vec::new();
    for event in events {
        let mut log = Vec::new();
        entries(event.root.as_object().unwrap(), &mut log);
        let empty = value(&json!({}));
        field(3, &empty, &mut log);
        let mut metadata = Vec::new();
        field(1, &empty, &mut metadata);
        field(3, path.source_id.as_bytes(), &mut metadata);
        field(4, path.source_type.as_bytes(), &mut metadata);
        let mut upstream = Vec::new();
        field(1, path.upstream.as_bytes(), &mut upstream);
        field(5, &upstream, &mut metadata);
        field(7, &event.source_event_id, &mut metadata);
        field(4, &metadata, &mut log);
        let mut wrapper = Vec::new();
        field(1, &log, &mut wrapper);
        field(1, &wrapper, &mut message);
    }
    message
}

/// Returns an event as the `http` sink writes it: sorted keys, timestamps as text.
fn json_text(event: &Event) -> String {
    fn plain(value: &Value) -> Value {
        match value {
            Value::Array(elements) => elements.iter().map(plain).collect(),
            Value::Object(members) => match marked(members) {
                Some(("$timestamp", text)) => text.into(),
                Some((_, text)) => text.parse::<f64>().unwrap().into(),
                None => members.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
            },
            other => other.clone(),
        }
    }
    let mut root = plain(&event.root);
    root.sort_all_objects();
    root.to_string()
}

/// How a body of the `http` sink is made of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Array,
    Lines,
}

pub fn body(events: &[Event], framing: Framing) -> Vec<u8> {
    let texts: Vec<_> = events.iter().map(json_text).collect();
    match framing {
        Framing::Array => format!("[{}]", texts.join(",")),
        Framing::Lines => texts.join("\n"),
    }
    .into_bytes()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }

    pub fn pack(self, data: Vec<u8>) -> Vec<u8> {
        match self {
            Self::None => data,
            Self::Gzip => {
                let level = flate2::Compression::default();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(&data).unwrap();
                encoder.finish().unwrap()
            }
            Self::Zstd => zstd::stream::encode_all(&data[..], 3).unwrap(),
        }
    }
}

#[cfg(test)]
mod fidelity {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn recorded(file: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file)
    }

    fn known(file: &str) -> Value {
        serde_json::from_slice(&fs::read(recorded(file)).unwrap()).unwrap()
    }

    fn event(recorded: &Value) -> Event {
        let root = recorded.get("value_typed").unwrap_or(&recorded["value"]).clone();
        let id = recorded["metadata_full"]["source_event_id"].as_str().unwrap();
        let id = u128::from_str_radix(id, 16).unwrap();
        Event { root, source_event_id: id.to_be_bytes() }
    }

    #[test]
    fn messages_are_those_that_vector_sent() {
        for (name, source_type, upstream) in [
            ("basic", "stdin", "rudder_in"),
            ("file-identity", "file", "map"),
            ("timestamps", "stdin", "rudder_in"),
            ("numbers", "stdin", "rudder_in"),
            ("nulls-empties", "stdin", "rudder_in"),
            ("unicode", "stdin", "rudder_in"),
            ("keys", "stdin", "rudder_in"),
            ("arrays-nesting", "stdin", "rudder_in"),
        ] {
            let known = known(&format!("vector-grpc/{name}.json"));
            let events: Vec<_> = known["events"].as_array().unwrap().iter().map(event).collect();
            let path = Path { source_id: "rudder_in", source_type, upstream };
            let wanted = fs::read(recorded(&format!("vector-grpc/{name}.bin"))).unwrap();
            let made = push_events(&events, path);
            let same = made.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
            let (made, wanted) = (&made[same..], &wanted[same..]);
            assert!(
                made.is_empty() && wanted.is_empty(),
                "{name} from byte {same} on: {:?}\n{:?}",
                String::from_utf8_lossy(made),
                String::from_utf8_lossy(wanted)
            );
        }
    }

    #[test]
    fn lines_are_read_as_vector_reads_them() {
        for name in ["file-identity", "numbers"] {
            let known = known(&format!("vector-grpc/{name}.json"));
            // Vector refuses one of the lines with numbers.
            let lines = known["input_lines"].as_array().unwrap().iter().filter_map(Value::as_str);
            let lines = lines.filter(|line| serde_json::from_str::<Value>(line).is_ok());
            let read: Vec<_> = lines.map(parse_json).collect();
            let events = known["events"].as_array().unwrap();
            assert_eq!(read.len(), events.len());
            for (read, event) in read.iter().zip(events) {
                let mut wanted = event["value"].clone();
                // The source adds what is not there.
                let members = wanted.as_object_mut().unwrap();
                members.retain(|name, _| {
                    let added = ["host", "source_type", "timestamp"].contains(&name.as_str());
                    !added || read.get(name).is_some()
                });
                assert_eq!(read, &wanted, "{name}");
            }
        }
    }

    #[test]
    fn bodies_are_those_that_vector_sent() {
        let known = known("vector-http/ndjson.json");
        let event = |root: &Value| Event { root: root.clone(), source_event_id: [0; 16] };
        let events: Vec<_> = known["ndjson"].as_array().unwrap().iter().map(event).collect();
        for (file, framing) in [("ndjson", Framing::Lines), ("json-array", Framing::Array)] {
            let whole = fs::read(recorded(&format!("vector-http/{file}.http"))).unwrap();
            let head = whole.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
            let sent = String::from_utf8_lossy(&whole[head + 4..]);
            let made = body(&events, framing);
            let made = String::from_utf8_lossy(&made);
            // The recording of the array has more events.
            let same = if framing == Framing::Lines {
                sent == made
            } else {
                sent.starts_with(made.trim_end_matches(']'))
            };
            assert!(same, "{file}:\n{sent}\n{made}");
        }
    }
}
