//! From the members of a destination's configuration to settings of ours.

use serde_json::{Map, Value};

use super::{Notes, consent, document, member};
use crate::config::{
    ConsentConfig, EventListConfig, EventListMode, Mode, ModeConfig, Region, SOURCE_TYPES,
};

type Members = Map<String, Value>;

/// Members that are read.
pub const KNOWN: [&str; 13] = [
    "siteID",
    "apiKey",
    "datacenter",
    "deviceTokenEventName",
    "connectionMode",
    "useNativeSDK",
    "useNativeSDKToSend",
    "eventFilteringOption",
    "whitelistedEvents",
    "blacklistedEvents",
    "consentManagement",
    "oneTrustCookieCategories",
    "ketchConsentPurposes",
];

/// Members that only an SDK reads that sends to Customer.io itself.
pub const DEVICE_ONLY: [&str; 5] = [
    "sendPageNameInSDK",
    "dataUseInApp",
    "autoTrackDeviceAttributes",
    "backgroundQueueMinNumberOfTasks",
    "backgroundQueueSecondsDelay",
];

/// What was read.
#[derive(Debug)]
pub struct Settings {
    /// `filter.mode`.
    pub mode: ModeConfig,
    /// `filter.events`.
    pub events: EventListConfig,
    /// `consent`.
    pub consent: ConsentConfig,
    /// `mapping.settings.device_token_event_name`; empty: none.
    pub device_token_event_name: String,
    /// `customerio.region`.
    pub region: Region,
}

/// Reads a configuration. `types` are the source types that count; empty: all.
///
/// # Errors
///
/// Consent rules or event lists differ by source type, and none was chosen.
pub fn read(config: &Members, types: &[String], notes: &mut Notes) -> Result<Settings, String> {
    let settings = Settings {
        mode: mode(config, notes),
        events: events(config, types, notes)?,
        consent: consent::read(config, types, notes)?,
        device_token_event_name: device_token_event_name(config, notes),
        region: region(config, notes),
    };
    let of_sdks: Vec<&str> =
        DEVICE_ONLY.into_iter().filter(|name| config.contains_key(*name)).collect();
    if !of_sdks.is_empty() {
        notes.add(
            of_sdks.join(", "),
            "read by SDKs that send to Customer.io themselves; without effect here",
        );
    }
    for name in config.keys().filter(|name| !document::is_known(name)) {
        notes.add(member(name), "not known here, and left out with its value");
    }
    notes.add(
        "API version",
        "the document does not say which one RudderStack spoke. By default that is v1, where screens \
         arrive as events; v2 is written: choose `api: v1` if segments or campaigns rely on it",
    );
    Ok(settings)
}

fn region(config: &Members, notes: &mut Notes) -> Region {
    match config.get("datacenter") {
        Some(Value::String(text)) if text == "EU" => Region::Eu,
        Some(Value::String(text)) if text == "US" => Region::Us,
        None | Some(Value::Null) => {
            notes.add("datacenter", "not in the document; us is written, RudderStack's default");
            Region::Us
        }
        Some(_) => {
            notes.add("datacenter", "neither US nor EU; us is written, as RudderStack takes it");
            Region::Us
        }
    }
}

fn device_token_event_name(config: &Members, notes: &mut Notes) -> String {
    match config.get("deviceTokenEventName") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(name)) if !is_reference(name) => name.clone(),
        Some(_) => {
            let means =
                "no name that can be written here; set mapping.settings.device_token_event_name";
            notes.add("deviceTokenEventName", means);
            String::new()
        }
    }
}

/// Who sends. The connection mode decides what RudderStack's server did; the older `useNativeSDK`
/// counts where there is none.
fn mode(config: &Members, notes: &mut Notes) -> ModeConfig {
    let (modes, native) = (config.get("connectionMode"), config.get("useNativeSDK"));
    if config.get("useNativeSDKToSend").is_some_and(|v| *v != Value::Bool(false)) {
        notes.add("useNativeSDKToSend", "without effect here; filter.mode says who sends");
    }
    let default = match modes {
        Some(Value::Object(_)) => None,
        Some(value) => one_mode("", Some(value), flat(native), notes),
        None => one_mode("", None, flat(native), notes),
    };
    let mut by_source_type = Vec::new();
    for source_type in SOURCE_TYPES {
        let at = |value: Option<&'_ Value>| value?.as_object()?.get(source_type).cloned();
        let (mode, native) = (at(modes), at(native).or_else(|| flat(native).cloned()));
        if default.is_none()
            && let Some(Mode::Device) = one_mode(source_type, mode.as_ref(), native.as_ref(), notes)
        {
            by_source_type.push((source_type.to_owned(), Mode::Device));
        }
    }
    let others = |value: &Value| -> Vec<String> {
        let names = value.as_object().into_iter().flat_map(Map::keys);
        names.filter(|name| !SOURCE_TYPES.contains(&name.as_str())).map(|n| member(n)).collect()
    };
    for name in modes.map(others).unwrap_or_default() {
        notes.add(
            format!("connectionMode of {name}"),
            "no source type that is known here; left out",
        );
    }
    if default == Some(Mode::Device) || !by_source_type.is_empty() {
        notes.add(
            "connectionMode",
            "in device mode the SDK itself sends to Customer.io, and its events are counted and not sent here: \
             write cloud under filter.mode if this program is to send them",
        );
    }
    ModeConfig { default: default.unwrap_or(Mode::Cloud), by_source_type }
}

/// A value that holds for all source types.
fn flat(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_object())
}

fn one_mode(
    source_type: &str,
    mode: Option<&Value>,
    native: Option<&Value>,
    notes: &mut Notes,
) -> Option<Mode> {
    let of = |name: &str| {
        if source_type.is_empty() { name.to_owned() } else { format!("{name} of {source_type}") }
    };
    let native = native == Some(&Value::Bool(true));
    match mode {
        None | Some(Value::Null) => native.then_some(Mode::Device),
        Some(Value::String(text)) if text == "device" => Some(Mode::Device),
        Some(Value::String(text)) if text == "cloud" => {
            if native {
                notes.add(
                    of("useNativeSDK"),
                    "true beside the connection mode cloud: the SDK and the server both send, so that \
                     events arrive twice; cloud is written",
                );
            }
            Some(Mode::Cloud)
        }
        Some(_) => {
            notes.add(of("connectionMode"), "neither cloud nor device; cloud is written");
            Some(Mode::Cloud)
        }
    }
}

fn events(
    config: &Members,
    types: &[String],
    notes: &mut Notes,
) -> Result<EventListConfig, String> {
    let off = EventListConfig { mode: EventListMode::Off, names: Vec::new() };
    let option = one_for(config, "eventFilteringOption", types, notes)?;
    let (list, mode) = match option.and_then(Value::as_str) {
        Some(list @ "whitelistedEvents") => (list, EventListMode::Allow),
        Some(list @ "blacklistedEvents") => (list, EventListMode::Deny),
        None | Some("" | "disable") => return Ok(off),
        Some(_) => {
            notes.add("eventFilteringOption", "not known here; no event list is written");
            return Ok(off);
        }
    };
    let items = one_for(config, list, types, notes)?.and_then(Value::as_array);
    let items = items.map(Vec::as_slice).unwrap_or_default();
    let name = |item: &Value| Some(item.get("eventName")?.as_str()?.trim().to_owned());
    let mut names: Vec<String> = items.iter().filter_map(name).filter(|n| !n.is_empty()).collect();
    let all = names.len();
    names.retain(|name| !is_reference(name));
    if names.len() < all {
        notes.add(list, "names that hold ${…} cannot be written here, and are left out");
    }
    if names.is_empty() {
        notes.add(list, "it names no event, and RudderStack ignores it in cloud mode; left out");
        return Ok(off);
    }
    notes.add(
        "eventFilteringOption",
        "RudderStack applies the list in device mode only, and sent all track events of cloud mode; here \
         it is applied: write `mode: \"off\"` under filter.events to send them all",
    );
    Ok(EventListConfig { mode, names })
}

/// Returns what a member says for the source types that count.
///
/// # Errors
///
/// It says different things, and which of them is to hold is not for us to choose.
pub fn one_for<'a>(
    config: &'a Members,
    name: &str,
    types: &[String],
    notes: &mut Notes,
) -> Result<Option<&'a Value>, String> {
    let by_type = match config.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(by_type)) => by_type,
        Some(flat) => return Ok(Some(flat)),
    };
    let counts = |source_type: &str| types.is_empty() || types.iter().any(|t| t == source_type);
    let said: Vec<(&String, &Value)> =
        by_type.iter().filter(|(t, value)| counts(t) && !is_blank(value)).collect();
    let Some(&(_, first)) = said.first() else { return Ok(None) };
    let names: Vec<String> = said.iter().map(|(source_type, _)| member(source_type)).collect();
    let names = names.join(", ");
    if said.iter().any(|(_, value)| *value != first) {
        return Err(format!(
            "{name} differs by source type ({names}), and here it holds for all sources: choose one with \
             --source-type TYPE, and run one process for each"
        ));
    }
    if types.iter().any(|t| !said.iter().any(|(said, _)| *said == t)) || types.is_empty() {
        notes.add(name, format!("it is that of {names}, and holds for all sources here"));
    }
    Ok(Some(first))
}

/// Whether a value says nothing: RudderStack fills in forms that nobody filled out.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_blank),
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "provider" | "resolutionStrategy"))
            .all(|(_, value)| is_blank(value)),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether our configuration would take a text for a reference.
pub fn is_reference(text: &str) -> bool {
    text.contains("${")
}
