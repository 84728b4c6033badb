//! The Track API v1 form of an operation.
//!
//! | operation | request |
//! |---|---|
//! | person `identify` | `PUT /api/v1/customers/{p}`, body = attributes |
//! | person `event`, `page`, `screen` | `POST /api/v1/customers/{p}/events` (a screen as `event`) |
//! | the same with `anonymous_id` | `POST /api/v1/events` |
//! | person `merge` | `POST /api/v1/merge_customers` |
//! | person `add_device` | `PUT /api/v1/customers/{p}/devices`, attributes flat |
//! | person `delete_device` | `DELETE /api/v1/customers/{p}/devices/{token}` |
//! | person `delete` | `DELETE /api/v1/customers/{p}` |
//! | person `suppress`, `unsuppress` | `POST /api/v1/customers/{p}/suppress`, `…/unsuppress` |
//! | anything else | `POST /api/v2/batch`: v1 has no endpoint for it |
//!
//! `{p}` is the id, the e-mail address, or `cio_` and the `cio_id`; a person known by anything else
//! (v1 would take a phone number for an id) goes the last way too.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// Path of v2's batches.
pub const BATCH_PATH: &str = "/api/v2/batch";

/// One request to Customer.io: method, path, and JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, `PUT`, or `DELETE`.
    pub method: &'static str,
    /// Path with its parameters encoded.
    pub path: String,
    /// Body, if the endpoint takes one.
    pub body: Option<Bytes>,
}

/// Turns a prepared operation into its v1 request.
///
/// # Errors
///
/// The text is no operation that passed the grammar; it does not happen to an
/// [`Operation`](super::Operation)'s body.
pub fn request(operation: &Bytes) -> Result<Request, serde_json::Error> {
    let parts: Parts<'_> = serde_json::from_slice(operation)?;
    Ok(parts.v1()?.unwrap_or_else(|| batch(std::slice::from_ref(operation))))
}

/// Makes the v2 request that carries the given operations.
#[must_use]
pub fn batch(operations: &[Bytes]) -> Request {
    let mut body = Vec::with_capacity(operations.iter().map(|o| o.len() + 1).sum::<usize>() + 12);
    body.extend_from_slice(b"{\"batch\":[");
    for (i, operation) in operations.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        body.extend_from_slice(operation);
    }
    body.extend_from_slice(b"]}");
    Request { method: "POST", path: BATCH_PATH.to_owned(), body: Some(body.into()) }
}

type Raw<'a> = Option<&'a RawValue>;
type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;
type Named<'a> = (Cow<'a, str>, Cow<'a, str>);

#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(rename = "type", borrow)]
    type_: Cow<'a, str>,
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    identifiers: Raw<'a>,
    #[serde(borrow)]
    primary: Raw<'a>,
    #[serde(borrow)]
    secondary: Raw<'a>,
    #[serde(borrow)]
    name: Raw<'a>,
    #[serde(borrow)]
    attributes: Raw<'a>,
    #[serde(borrow)]
    timestamp: Raw<'a>,
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    device: Raw<'a>,
    #[serde(borrow)]
    cio_relationships: Raw<'a>,
}

#[derive(Deserialize)]
struct Device<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
    #[serde(borrow)]
    attributes: Raw<'a>,
    #[serde(borrow)]
    last_used: Raw<'a>,
    #[serde(borrow)]
    platform: Raw<'a>,
}

#[derive(Serialize)]
struct EventBody<'a> {
    name: Raw<'a>,
    #[serde(rename = "type")]
    type_: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Raw<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Raw<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Raw<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anonymous_id: Option<&'a str>,
}

#[derive(Serialize)]
struct MergeBody<'a> {
    primary: Raw<'a>,
    secondary: Raw<'a>,
}

impl<'a> Parts<'a> {
    /// Returns the v1 request, or `None` if v1 has no form for the operation.
    fn v1(&self) -> Result<Option<Request>, serde_json::Error> {
        if self.type_ != "person" {
            return Ok(None);
        }
        if &*self.action == "merge" {
            let body = MergeBody { primary: self.primary, secondary: self.secondary };
            return Ok(Some(request_to("POST", "/api/v1/merge_customers", json(&body)?)));
        }
        let Some((kind, value)) = self.identifier()? else { return Ok(None) };
        if kind == "anonymous_id" {
            let Some(type_) = self.event_type() else { return Ok(None) };
            let body = self.event(type_, Some(&value));
            return Ok(Some(request_to("POST", "/api/v1/events", json(&body)?)));
        }
        let person = match &*kind {
            "id" | "email" => path_parameter(&value).into_owned(),
            "cio_id" => format!("cio_{}", path_parameter(&value)),
            _ => return Ok(None),
        };
        self.of_person(&format!("/api/v1/customers/{person}"))
    }

    fn of_person(&self, person: &str) -> Result<Option<Request>, serde_json::Error> {
        let bodiless = |method, path| Request { method, path, body: None };
        if let Some(type_) = self.event_type() {
            let body = json(&self.event(type_, None))?;
            return Ok(Some(request_to("POST", format!("{person}/events"), body)));
        }
        Ok(Some(match &*self.action {
            "identify" => match self.person_attributes()? {
                Some(body) => request_to("PUT", person, body),
                None => return Ok(None),
            },
            "delete" => bodiless("DELETE", person.to_owned()),
            "suppress" | "unsuppress" => bodiless("POST", format!("{person}/{}", self.action)),
            "add_device" => match self.device()?.and_then(|d| d.flat().transpose()).transpose()? {
                Some(body) => request_to("PUT", format!("{person}/devices"), body),
                None => return Ok(None),
            },
            "delete_device" => match self.device()? {
                Some(device) => {
                    let token = path_parameter(&device.token);
                    bodiless("DELETE", format!("{person}/devices/{token}"))
                }
                None => return Ok(None),
            },
            _ => return Ok(None),
        }))
    }

    /// Returns the one member of `identifiers`: its kind and its value.
    fn identifier(&self) -> Result<Option<Named<'a>>, serde_json::Error> {
        let Some(raw) = self.identifiers else { return Ok(None) };
        let members: BTreeMap<Cow<'a, str>, Cow<'a, str>> = serde_json::from_str(raw.get())?;
        Ok(members.into_iter().next())
    }

    /// Returns v1's word for the kind of event; a screen is an `event` there.
    fn event_type(&self) -> Option<&'static str> {
        match &*self.action {
            "event" | "screen" => Some("event"),
            "page" => Some("page"),
            _ => None,
        }
    }

    fn event<'b>(&'b self, type_: &'b str, anonymous_id: Option<&'b str>) -> EventBody<'b> {
        EventBody {
            name: self.name,
            type_,
            data: self.attributes,
            timestamp: self.timestamp,
            id: self.id,
            anonymous_id,
        }
    }

    /// Returns the attributes with v1's `_timestamp` and relationships; `None` if they are no
    /// object.
    fn person_attributes(&self) -> Result<Option<Bytes>, serde_json::Error> {
        let attributes = self.attributes.map_or("{}", RawValue::get);
        if !attributes.starts_with('{') {
            return Ok(None);
        }
        let relations = match self.cio_relationships.map(RawValue::get) {
            None | Some("[]") => None,
            Some(list) => Some(to_raw_value(&serde_json::json!({
                "action": "add_relationships",
                "relationships": serde_json::from_str::<serde_json::Value>(list)?,
            }))?),
        };
        if self.timestamp.is_none() && relations.is_none() {
            return Ok(Some(Bytes::copy_from_slice(attributes.as_bytes())));
        }
        let mut members: Members<'_> = serde_json::from_str(attributes)?;
        if let Some(timestamp) = self.timestamp {
            members.insert("_timestamp".into(), timestamp);
        }
        if let Some(relations) = &relations {
            members.insert("cio_relationships".into(), relations);
        }
        json(&members).map(Some)
    }

    fn device(&self) -> Result<Option<Device<'a>>, serde_json::Error> {
        self.device.map(|raw| serde_json::from_str(raw.get())).transpose()
    }
}

impl Device<'_> {
    /// Returns v1's body, attributes beside the device's own members; `None` if the attributes are
    /// no object.
    fn flat(&self) -> Result<Option<Bytes>, serde_json::Error> {
        let attributes = self.attributes.map_or("{}", RawValue::get);
        if !attributes.starts_with('{') {
            return Ok(None);
        }
        let mut members: Members<'_> = serde_json::from_str(attributes)?;
        let token = to_raw_value(&self.token)?;
        members.insert("id".into(), &token);
        for (name, value) in [("last_used", self.last_used), ("platform", self.platform)] {
            if let Some(value) = value {
                members.insert(name.into(), value);
            }
        }
        json(&BTreeMap::from([("device", members)])).map(Some)
    }
}

fn request_to(method: &'static str, path: impl Into<String>, body: Bytes) -> Request {
    Request { method, path: path.into(), body: Some(body) }
}

fn json(value: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    serde_json::to_vec(value).map(Bytes::from)
}

/// What JavaScript's `encodeURIComponent` leaves as it is, besides letters and digits.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// Encodes a path parameter. A lone `.` or `..` would be removed from the path on the way.
fn path_parameter(text: &str) -> Cow<'_, str> {
    match text {
        "." => "%2E".into(),
        ".." => "%2E%2E".into(),
        text => utf8_percent_encode(text, COMPONENT).into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sent(operation: &Value) -> (&'static str, String, Value) {
        let request = request(&Bytes::from(operation.to_string())).unwrap();
        let body = request.body.map_or(Value::Null, |b| serde_json::from_slice(&b).unwrap());
        (request.method, request.path, body)
    }

    fn person(action: &str, id: Value, members: Value) -> Value {
        let mut operation = json!({ "type": "person", "action": action, "identifiers": id });
        for (name, value) in members.as_object().unwrap() {
            operation[name] = value.clone();
        }
        operation
    }

    #[test]
    fn every_row_of_the_table() {
        let id = || json!({ "id": "u/1" });
        for (operation, method, path, body) in [
            (
                person("identify", id(), json!({ "attributes": { "a": 1.50, "b": null } })),
                "PUT",
                "/api/v1/customers/u%2F1",
                json!({ "a": 1.5, "b": null }),
            ),
            (
                person("identify", json!({ "email": "c+d@x.io" }), json!({})),
                "PUT",
                "/api/v1/customers/c%2Bd%40x.io",
                json!({}),
            ),
            (
                person(
                    "identify",
                    json!({ "cio_id": "c1" }),
                    json!({ "attributes": { "id": "u" }, "timestamp": 7 }),
                ),
                "PUT",
                "/api/v1/customers/cio_c1",
                json!({ "id": "u", "_timestamp": 7 }),
            ),
            (
                person(
                    "identify",
                    id(),
                    json!({ "cio_relationships": [{ "identifiers": { "cio_object_id": "o" } }] }),
                ),
                "PUT",
                "/api/v1/customers/u%2F1",
                json!({ "cio_relationships": { "action": "add_relationships", "relationships": [{ "identifiers": { "cio_object_id": "o" } }] } }),
            ),
            (
                person(
                    "event",
                    id(),
                    json!({ "name": "e", "attributes": { "x": [1] }, "timestamp": 5, "id": "01HQX05C4NJXDYF2MRBF6GKJE6" }),
                ),
                "POST",
                "/api/v1/customers/u%2F1/events",
                json!({ "name": "e", "type": "event", "data": { "x": [1] }, "timestamp": 5, "id": "01HQX05C4NJXDYF2MRBF6GKJE6" }),
            ),
            (
                person("page", id(), json!({ "name": "p" })),
                "POST",
                "/api/v1/customers/u%2F1/events",
                json!({ "name": "p", "type": "page" }),
            ),
            (
                person("screen", id(), json!({ "name": "s" })),
                "POST",
                "/api/v1/customers/u%2F1/events",
                json!({ "name": "s", "type": "event" }),
            ),
            (
                person("page", json!({ "anonymous_id": "a \u{e9}" }), json!({ "name": "p" })),
                "POST",
                "/api/v1/events",
                json!({ "name": "p", "type": "page", "anonymous_id": "a é" }),
            ),
            (
                json!({ "type": "person", "action": "merge", "primary": { "id": "n" }, "secondary": { "email": "o" } }),
                "POST",
                "/api/v1/merge_customers",
                json!({ "primary": { "id": "n" }, "secondary": { "email": "o" } }),
            ),
            (
                person(
                    "add_device",
                    id(),
                    json!({ "device": { "token": "t", "last_used": 3, "platform": "ios", "attributes": { "platform": "x", "id": "y", "os": 1 } } }),
                ),
                "PUT",
                "/api/v1/customers/u%2F1/devices",
                json!({ "device": { "id": "t", "last_used": 3, "platform": "ios", "os": 1 } }),
            ),
            (
                person("add_device", id(), json!({ "device": { "token": "t" } })),
                "PUT",
                "/api/v1/customers/u%2F1/devices",
                json!({ "device": { "id": "t" } }),
            ),
            (
                person("delete_device", id(), json!({ "device": { "token": "tok/en 1" } })),
                "DELETE",
                "/api/v1/customers/u%2F1/devices/tok%2Fen%201",
                Value::Null,
            ),
            (person("delete", id(), json!({})), "DELETE", "/api/v1/customers/u%2F1", Value::Null),
            (
                person("suppress", id(), json!({})),
                "POST",
                "/api/v1/customers/u%2F1/suppress",
                Value::Null,
            ),
            (
                person("unsuppress", id(), json!({})),
                "POST",
                "/api/v1/customers/u%2F1/unsuppress",
                Value::Null,
            ),
        ] {
            assert_eq!(sent(&operation), (method, path.to_owned(), body), "{operation}");
        }
    }

    #[test]
    fn what_v1_cannot_say_goes_as_a_batch_of_one() {
        for operation in [
            json!({ "type": "object", "action": "identify", "identifiers": { "cio_object_id": "o" } }),
            json!({ "type": "delivery", "action": "event", "identifiers": { "id": "d" }, "name": "opened" }),
            person("add_relationships", json!({ "id": "u" }), json!({ "cio_relationships": [] })),
            person("identify", json!({ "phone": "+1" }), json!({})),
            person("identify", json!({ "anonymous_id": "a" }), json!({})),
            person("identify", json!({ "id": "u" }), json!({ "attributes": 5 })),
            person(
                "add_device",
                json!({ "id": "u" }),
                json!({ "device": { "token": "t", "attributes": [] } }),
            ),
        ] {
            let expected = ("POST", "/api/v2/batch".to_owned(), json!({ "batch": [operation] }));
            assert_eq!(sent(&operation), expected);
        }
    }

    #[test]
    fn path_parameters_are_encoded_as_rudderstack_does() {
        for (text, encoded) in [
            (".", "%2E"),
            ("..", "%2E%2E"),
            ("...", "..."),
            ("aZ09-_.!~*'()", "aZ09-_.!~*'()"),
            ("org/7 ü+@:%?#", "org%2F7%20%C3%BC%2B%40%3A%25%3F%23"),
        ] {
            assert_eq!(path_parameter(text), encoded);
        }
    }

    #[test]
    fn several_operations_share_a_batch_in_order() {
        let body =
            batch(&[Bytes::from_static(b"{\"a\":1}"), Bytes::from_static(b"{}")]).body.unwrap();
        assert_eq!(&body[..], br#"{"batch":[{"a":1},{}]}"#);
    }

    #[test]
    fn what_is_no_operation_is_an_error_and_no_panic() {
        for text in
            ["", "[]", "{}", r#"{"type":"person","action":"identify","identifiers":{"id":5}}"#]
        {
            assert!(request(&Bytes::copy_from_slice(text.as_bytes())).is_err(), "{text}");
        }
    }

    #[test]
    fn the_worked_cases_of_the_mapping_have_their_v1_form() {
        let cases = include_str!("../../tests/data/mapping.ndjson");
        let mut seen = 0;
        for line in cases.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let form = |name: &str| case["decided"].get(name).unwrap_or(&case[name]).clone();
            // Without a decision the v1 form is RudderStack's own, which may differ from v2's.
            let (Value::Array(v1), Value::Array(v2)) = (form("v1"), form("v2")) else { continue };
            if case.get("decided").is_some_and(|d| d.get("v1").is_none() || d.get("v2").is_none()) {
                continue;
            }
            assert_eq!(v1.len(), v2.len(), "{line}");
            for (request, operation) in v1.iter().zip(&v2) {
                let text = |member: &str| request[member].as_str().unwrap().to_owned();
                let (method, path, body) = sent(operation);
                assert_eq!((method, &path), (&*text("method"), &text("path")), "{line}");
                assert_eq!(body, request["body"], "{line}");
                seen += 1;
            }
        }
        assert!(seen > 40, "{seen}");
    }
}
