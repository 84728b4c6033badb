//! The pixel: an event in a query string, for places where only an image can be asked for.

use std::collections::HashSet;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use crate::event::times::Moment;

/// Names with more dots than this are one literal name.
const MAX_PARTS: usize = 32;

/// Reads the first value of a query parameter.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    parameters(query).find(|(key, _)| key == name).map(|(_, value)| value)
}

/// Makes the event of a pixel request; `None` if there is none to be made.
pub fn event(query: &str, kind: &str, now: DateTime<Utc>) -> Option<Bytes> {
    let now = Moment::utc(now).to_text();
    let mut event = Map::new();
    event.insert("channel".into(), json!("web"));
    event.insert("integrations".into(), json!({ "All": true }));
    event.insert("originalTimestamp".into(), json!(now));
    event.insert("sentAt".into(), json!(now));
    let mut seen = HashSet::new();
    for (name, value) in parameters(query) {
        if name != "writeKey" && seen.insert(name.clone()) {
            set(&mut event, &name, value);
        }
    }
    event.insert("type".into(), json!(kind));
    if let Some(Value::String(id)) = event.get_mut("anonymousId") {
        let bare = id.strip_prefix('"').and_then(|id| id.strip_suffix('"'));
        if let Some(bare) = bare.map(str::to_owned) {
            *id = bare;
        }
    }
    let empty = |name| event.get(name).is_none_or(|value| value == "");
    if kind == "track" && empty("event") {
        return None;
    }
    if kind == "page" && empty("name") {
        event.insert("name".into(), json!("Unknown Page"));
    }
    serde_json::to_vec(&event).ok().map(Bytes::from)
}

fn set(mut object: &mut Map<String, Value>, name: &str, value: String) {
    let mut parts: Vec<&str> = name.split('.').collect();
    if parts.len() > MAX_PARTS {
        parts = vec![name];
    }
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let inner = object.entry(part).or_insert(Value::Null);
        if !inner.is_object() {
            *inner = Value::Object(Map::new());
        }
        let Value::Object(inner) = inner else { return };
        object = inner;
    }
    object.insert(last.to_owned(), Value::String(value));
}

fn parameters(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let decode =
        |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(query: &str, kind: &str) -> Option<Value> {
        let now = "2026-11-20T12:30:07.000Z".parse().unwrap();
        Some(serde_json::from_slice(&event(query, kind, now)?).unwrap())
    }

    #[test]
    fn dotted_names_nest_and_defaults_are_filled_in() {
        let event = made(
            "writeKey=K&anonymousId=%22a1%22&event=Ad+Opened&context.page.url=https%3A%2F%2Fx%2F&context.ip=1&event=second",
            "track",
        );
        let expected = json!({
            "type": "track", "anonymousId": "a1", "event": "Ad Opened", "channel": "web",
            "context": { "page": { "url": "https://x/" }, "ip": "1" },
            "integrations": { "All": true },
            "originalTimestamp": "2026-11-20T12:30:07.000Z",
            "sentAt": "2026-11-20T12:30:07.000Z",
        });
        assert_eq!(event.unwrap(), expected);
    }

    #[test]
    fn a_track_without_event_is_nothing_and_a_page_without_name_is_unknown() {
        assert_eq!(made("anonymousId=a", "track"), None);
        assert_eq!(made("anonymousId=a&event=", "track"), None);
        assert_eq!(made("anonymousId=a", "page").unwrap()["name"], "Unknown Page");
        assert_eq!(made("name=Home&anonymousId=a", "page").unwrap()["name"], "Home");
    }

    #[test]
    fn names_that_collide_or_are_very_deep_do_no_harm() {
        let page = made("a=1&a.b=2&c.d=1&c=2", "page").unwrap();
        assert_eq!((&page["a"], &page["c"]), (&json!({ "b": "2" }), &json!("2")));
        let deep = format!("{}=1", "a.".repeat(20_000));
        assert!(made(&deep, "page").is_some());
    }

    #[test]
    fn parameters_are_found_by_name() {
        assert_eq!(parameter("a=1&writeKey=k%2Bx&writeKey=z", "writeKey").unwrap(), "k+x");
        assert_eq!(parameter("", "writeKey"), None);
        assert_eq!(parameter("writeKey", "writeKey").unwrap(), "");
    }
}
