//! What stock Vector's `remap` does with a script and an event.

use chrono::{DateTime, Utc};
use rudder_customerio::mapping::Settings;
use serde::{Serialize, Serializer};
use serde_json::Value as Json;
use vrl::compiler::runtime::{Runtime, Terminate};
use vrl::compiler::state::RuntimeState;
use vrl::compiler::{Program, TargetValueRef, TimeZone, compile};
use vrl::diagnostic::Formatter;
use vrl::value::{ObjectMap, Secrets, Value};

/// How a run ended, with `drop_on_error: true`.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// One event for each.
    Operations(Vec<Json>),
    Dropped,
    Failed,
}

impl Ended {
    /// An array becomes one event for each element, anything else is one event.
    pub fn from_root(root: &Value) -> Self {
        match serde_json::to_value(root).unwrap() {
            Json::Array(operations) => Self::Operations(operations),
            one => Self::Operations(vec![one]),
        }
    }

    pub fn is_operations(&self) -> bool {
        matches!(self, Self::Operations(_))
    }
}

impl Serialize for Ended {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Operations(operations) => operations.serialize(to),
            Self::Dropped => "dropped".serialize(to),
            Self::Failed => "failed".serialize(to),
        }
    }
}

/// How texts are held: VRL has guaranteed texts since 0.38, and bytes before and from outside.
#[derive(Clone, Copy)]
pub enum Strings {
    Text,
    Bytes,
}

impl Strings {
    fn apply(self, value: Value) -> Value {
        match (value, self) {
            (Value::Object(members), _) => {
                members.into_iter().map(|(key, value)| (key, self.apply(value))).collect()
            }
            (Value::Array(items), _) => items.into_iter().map(|item| self.apply(item)).collect(),
            (Value::String(text), Self::Bytes) => Value::Bytes(text.into_bytes()),
            (Value::Bytes(bytes), Self::Text) => {
                Value::from(std::str::from_utf8(&bytes).unwrap().to_owned())
            }
            (value, _) => value,
        }
    }
}

/// An event as `parse_json` reads it.
pub fn event(event: &Json, strings: Strings) -> Value {
    strings.apply(serde_json::from_str(&event.to_string()).unwrap())
}

/// An event as the JSON codec of a source reads it.
pub fn decoded(event: &Json) -> Value {
    Strings::Bytes.apply(Value::from(event.clone()))
}

/// When a source says that it has read an event.
fn reading_time() -> Value {
    Value::Timestamp("2026-08-01T10:00:00.5Z".parse::<DateTime<Utc>>().unwrap())
}

/// Adds what a source adds to the event where it is absent, but for the time.
pub fn with_members_of_the_source(mut event: Value) -> Value {
    let members = event.as_object_mut().unwrap();
    for (name, value) in
        [("host", "h-1"), ("source_type", "file"), ("path", "/v1/batch"), ("file", "/in")]
    {
        members.entry(name.into()).or_insert_with(|| Strings::Bytes.apply(value.into()));
    }
    event
}

/// Adds the time of reading as well, which is no text.
pub fn with_time_of_the_source(event: Value) -> Value {
    let mut event = with_members_of_the_source(event);
    event.as_object_mut().unwrap().entry("timestamp".into()).or_insert_with(reading_time);
    event
}

/// A line that a source has not decoded.
pub fn line(event: &Json) -> Value {
    let line = Value::Object([("message".into(), Value::from(event.to_string()))].into());
    with_time_of_the_source(Strings::Bytes.apply(line))
}

/// A script as `remap` compiles it: all functions, nothing known of the event, metadata writable.
pub struct Remap(Program);

/// What a run leaves.
pub struct Left {
    pub ended: Ended,
    pub event: Value,
    pub metadata: Value,
}

impl Remap {
    pub fn new(source: &str) -> Self {
        let done = compile(source, &vrl::stdlib::all())
            .unwrap_or_else(|list| panic!("{}", Formatter::new(source, list)));
        assert!(done.warnings.is_empty(), "{}", Formatter::new(source, done.warnings));
        Self(done.program)
    }

    pub fn run(&self, mut event: Value, mut metadata: Value, zone: &str) -> Left {
        let zone = match zone {
            "local" => TimeZone::Local,
            name => TimeZone::parse(name).unwrap(),
        };
        let mut secrets = Secrets::default();
        let mut target =
            TargetValueRef { value: &mut event, metadata: &mut metadata, secrets: &mut secrets };
        let mut runtime = Runtime::new(RuntimeState::default());
        let ended = match runtime.resolve(&mut target, &self.0, &zone) {
            Ok(_) => Ended::from_root(&event),
            Err(Terminate::Abort(_)) => Ended::Dropped,
            Err(_) => Ended::Failed,
        };
        assert_eq!(secrets, Secrets::default());
        Left { ended, event, metadata }
    }
}

/// Metadata of an event of which nothing is known.
pub fn no_metadata() -> Value {
    Value::Object(ObjectMap::new())
}

/// Metadata behind a `remap` that sets the settings.
pub fn metadata(settings: &Settings) -> Value {
    let Settings { device_token_event_name, record_object } = settings;
    let set = Remap::new(&format!(
        "%customerio.device_token_event_name = {device_token_event_name:?}\n%customerio.record_object = {record_object:?}"
    ));
    set.run(no_metadata(), no_metadata(), "UTC").metadata
}
