//! The v1 endpoints: each is translated to the v2 operation that means the same, and checked there;
//! errors are translated back.

use bytes::Bytes;
use http::Response;
use serde_json::{Map, Value, json};

use super::operation::{Identifier, Operation};
use super::options::Options;
use super::request::{meta_error, meta_errors};
use super::route::Route;
use super::validate::{self, ItemError, looks_like_email};

/// A v1 error: one text, in one of two envelopes.
#[derive(Debug)]
pub(super) enum Refused {
    /// `{"meta":{"error":…}}`.
    Error(String),
    /// `{"meta":{"errors":[…]}}`.
    Errors(String),
}

impl Refused {
    pub(super) fn into_answer(self) -> Response<Bytes> {
        match self {
            Self::Error(text) => meta_error(400, &text),
            Self::Errors(text) => meta_errors(400, &text),
        }
    }
}

type Members = Map<String, Value>;

fn refuse<T>(text: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Errors(text.into()))
}

/// Reads what a v1 request asks for.
pub(super) fn operation(
    route: &Route,
    query: Option<&str>,
    body: Members,
    options: &Options,
) -> Result<Operation, Refused> {
    match route {
        Route::Identify(p) => identify(p, body, options),
        Route::Delete(p) => simple(p, "delete", options),
        Route::Suppress(p) => simple(p, "suppress", options),
        Route::Unsuppress(p) => simple(p, "unsuppress", options),
        Route::AddDevice(p) => add_device(p, body, options),
        Route::DeleteDevice(p, token) => {
            let item = json!({"device": {"token": token}});
            check(p, "delete_device", item, options).map_err(|error| device_error(&error))
        }
        Route::Event(p) => event(Some(p), body, options),
        Route::AnonymousEvent => event(None, body, options),
        Route::Merge => merge(body, options),
        Route::Segment { segment, remove } => {
            let people = segment_people(segment, query, body, options)?;
            Ok(Operation::Segment { segment: segment.clone(), people, remove: *remove })
        }
        Route::Form => form(body, options),
        Route::Metrics => {
            const METRICS: [&str; 8] = [
                "bounced",
                "clicked",
                "converted",
                "deferred",
                "delivered",
                "dropped",
                "opened",
                "spammed",
            ];
            record(body, "metric", &METRICS)
        }
        Route::PushEvent => record(body, "event", &["opened", "converted", "delivered"]),
        Route::Unsubscribe(delivery) => {
            let mut record = Members::new();
            record.insert("delivery_id".to_owned(), json!(delivery));
            record.insert("unsubscribe".to_owned(), body.get("unsubscribe").cloned().into());
            Ok(Operation::Delivery(record))
        }
        Route::Region | Route::Entity | Route::Batch => refuse("not a v1 operation"),
    }
}

/// The identifier in a path; its kind is told from its shape.
fn path_identifiers(p: &str) -> Value {
    match p.strip_prefix("cio_") {
        Some(id) => json!({"cio_id": id}),
        None if looks_like_email(p) => json!({"email": p}),
        None => json!({"id": p}),
    }
}

fn check(p: &str, action: &str, item: Value, options: &Options) -> Result<Operation, ItemError> {
    let mut item = item;
    if let Some(members) = item.as_object_mut() {
        members.insert("type".to_owned(), json!("person"));
        members.insert("action".to_owned(), json!(action));
        members.entry("identifiers").or_insert_with(|| path_identifiers(p));
    }
    // The limit of v2 items does not hold here; the request's own was checked before.
    validate::operation(item, 0, options)
}

fn simple(p: &str, action: &str, options: &Options) -> Result<Operation, Refused> {
    check(p, action, json!({}), options).map_err(|error| text(&error, &[]))
}

/// Puts an error into words, with members renamed to those of the v1 body.
fn text(error: &ItemError, renamed: &[(&str, &str)]) -> Refused {
    let ItemError { field, message, .. } = error;
    let alone = field.is_empty()
        || field == "identifiers"
        || field.starts_with("identifiers.") && !field.ends_with(".anonymous_id")
        || message.starts_with("event name cannot be longer");
    if alone {
        return Refused::Errors(message.clone());
    }
    let mut field = field.clone();
    let mut message = message.clone();
    for (v2, v1) in renamed {
        if let Some(rest) = field.strip_prefix(v2) {
            let was_whole = rest.is_empty();
            field = format!("{v1}{rest}").trim_start_matches('.').to_owned();
            if was_whole {
                let word = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
                message = message.replacen(&word(v2), &word(v1), 1);
            }
            break;
        }
    }
    Refused::Errors(format!("{field}: {message}"))
}

fn device_error(error: &ItemError) -> Refused {
    text(error, &[("device.token", "device.id")])
}

fn identify(p: &str, mut body: Members, options: &Options) -> Result<Operation, Refused> {
    let mut unrelate = false;
    let relations = match body.remove("cio_relationships") {
        None | Some(Value::Null) => Value::Null,
        Some(Value::Object(mut given)) => {
            match given.get("action").and_then(Value::as_str) {
                Some("add_relationships") => {}
                Some("delete_relationships") => unrelate = true,
                _ => {
                    return refuse(
                        "cio_relationships.action: action must be one of add_relationships, \
                         delete_relationships",
                    );
                }
            }
            given.remove("relationships").unwrap_or_default()
        }
        Some(_) => return refuse("cio_relationships: must be an object"),
    };
    let item = json!({"attributes": body, "cio_relationships": relations});
    let renamed = [("attributes", ""), ("cio_relationships", "cio_relationships.relationships")];
    match check(p, "identify", item, options) {
        Ok(Operation::Identify { person, attributes, timestamp, relations, .. }) => {
            Ok(Operation::Identify { person, attributes, timestamp, relations, unrelate })
        }
        Ok(other) => Ok(other),
        Err(error) => Err(text(&error, &renamed)),
    }
}

fn add_device(p: &str, mut body: Members, options: &Options) -> Result<Operation, Refused> {
    let device = match body.remove("device") {
        // Two official clients put the attributes flat into the device.
        Some(Value::Object(mut flat)) => {
            let mut device = Members::new();
            for (v1, v2) in [("id", "token"), ("platform", "platform"), ("last_used", "last_used")]
            {
                if let Some(value) = flat.remove(v1) {
                    device.insert(v2.to_owned(), value);
                }
            }
            let attributes = match flat.remove("attributes") {
                Some(Value::Object(nested)) => {
                    flat.extend(nested);
                    Value::Object(flat)
                }
                None | Some(Value::Null) => Value::Object(flat),
                Some(other) => other,
            };
            device.insert("attributes".to_owned(), attributes);
            Value::Object(device)
        }
        other => other.unwrap_or_default(),
    };
    let item = json!({"device": device});
    check(p, "add_device", item, options).map_err(|error| device_error(&error))
}

fn event(p: Option<&String>, mut body: Members, options: &Options) -> Result<Operation, Refused> {
    let action = match body.get("type").and_then(Value::as_str) {
        Some("page") => "page",
        Some("screen") => "screen",
        _ => "event",
    };
    let mut take = |name: &str| body.remove(name).unwrap_or_default();
    let mut item = json!({
        "name": take("name"),
        "id": take("id"),
        "timestamp": take("timestamp"),
        "attributes": take("data"),
    });
    let visitor = take("anonymous_id");
    let nobody = p.is_none() && visitor.is_null();
    if p.is_none() {
        let visitor = if nobody { json!("-") } else { visitor };
        item["identifiers"] = json!({"anonymous_id": visitor});
    }
    let renamed = [("attributes", "data"), ("identifiers.anonymous_id", "anonymous_id")];
    match check(p.map_or("", String::as_str), action, item, options) {
        Ok(Operation::Event(_, event)) if nobody => Ok(Operation::Event(None, event)),
        Ok(operation) => Ok(operation),
        Err(error) => Err(text(&error, &renamed)),
    }
}

fn merge(mut body: Members, options: &Options) -> Result<Operation, Refused> {
    let item = json!({
        "primary": body.remove("primary"),
        "secondary": body.remove("secondary"),
    });
    check("", "merge", item, options)
        .map_err(|error| Refused::Error(format!("{}: {}", error.field, error.message)))
}

fn segment_people(
    segment: &str,
    query: Option<&str>,
    mut body: Members,
    options: &Options,
) -> Result<Vec<Identifier>, Refused> {
    if !options.segments.has(segment) {
        return refuse("segment not found");
    }
    let mut pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let kind = pairs.find(|(name, _)| *name == "id_type").map_or("id", |(_, value)| value);
    let make: fn(String) -> Identifier = match kind {
        "id" => Identifier::Id,
        "email" => Identifier::Email,
        "cio_id" => Identifier::CioId,
        _ => return refuse("id_type: id_type must be one of id, email, cio_id"),
    };
    let wrong = || Refused::Errors("ids: must be an array of 1 to 1000 strings".to_owned());
    let Some(Value::Array(ids)) = body.remove("ids") else { return Err(wrong()) };
    if !(1..=1000).contains(&ids.len()) {
        return Err(wrong());
    }
    let text = |id| if let Value::String(id) = id { Ok(make(id)) } else { Err(wrong()) };
    ids.into_iter().map(text).collect()
}

fn form(mut body: Members, options: &Options) -> Result<Operation, Refused> {
    let mut data = match body.remove("data") {
        None | Some(Value::Null) => return refuse("data: data is required"),
        Some(Value::Object(data)) => data,
        Some(_) => return refuse("data: must be an object"),
    };
    for ignored in ["form_id", "form_name", "form_type", "form_url", "form_url_param"] {
        data.remove(ignored);
    }
    if let Some((name, _)) = data.iter().find(|(_, value)| !value.is_string()) {
        return refuse(format!("data.{name}: values must be strings"));
    }
    let identifiers = match (data.remove("id"), data.remove("email")) {
        (Some(id), None) => json!({"id": id}),
        (None, Some(email)) => json!({"email": email}),
        _ => return refuse("data: must have exactly one identifier"),
    };
    let item = json!({"identifiers": identifiers, "attributes": data});
    check("", "identify", item, options).map_err(|error| {
        let field =
            error.field.replacen("identifiers", "data", 1).replacen("attributes", "data", 1);
        Refused::Errors(format!("{field}: {}", error.message))
    })
}

fn record(body: Members, what: &str, known: &[&str]) -> Result<Operation, Refused> {
    if !matches!(body.get("delivery_id"), Some(Value::String(id)) if !id.trim().is_empty()) {
        return refuse("delivery_id: delivery_id is required");
    }
    if !body.get(what).and_then(Value::as_str).is_some_and(|given| known.contains(&given)) {
        return refuse(format!("{what}: {what} must be one of {}", known.join(", ")));
    }
    Ok(Operation::Delivery(body))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn run(method: Method, path: &str, body: Value) -> Result<Operation, String> {
        let route = Route::find(&method, path).unwrap();
        let body = body.as_object().cloned().unwrap_or_default();
        operation(&route, None, body, &Options::default()).map_err(|refused| match refused {
            Refused::Error(text) | Refused::Errors(text) => text,
        })
    }

    fn error(method: Method, path: &str, body: Value) -> String {
        run(method, path, body).unwrap_err()
    }

    #[test]
    fn the_kind_of_a_path_identifier_follows_from_its_shape() {
        for (path, key) in
            [("cio_a3", "cio_id:a3"), ("A%40b.no", "email:a@b.no"), ("+47", "id:+47")]
        {
            let operation = run(Method::DELETE, &format!("/api/v1/customers/{path}"), json!({}));
            assert_eq!(operation.unwrap().people()[0].key(), key);
        }
    }

    #[test]
    fn errors_name_members_as_in_the_v1_body() {
        let customer = "/api/v1/customers/u";
        let text = error(Method::PUT, customer, json!({"email": "x"}));
        assert_eq!(text, "email: email is not valid");
        let events = "/api/v1/customers/u/events";
        let text = error(Method::POST, events, json!({"name": "x", "data": 7}));
        assert_eq!(text, "data: data must be an object");
        let text = error(Method::POST, "/api/v1/events", json!({"name": "x", "anonymous_id": 7}));
        assert_eq!(text, "anonymous_id: anonymous_id must be a non-empty string");
        let devices = "/api/v1/customers/u/devices";
        let text = error(Method::PUT, devices, json!({"device": {"platform": "ios"}}));
        assert_eq!(text, "device.id: id is required");
        let relations =
            json!({"cio_relationships": {"action": "add_relationships", "relationships": [7]}});
        let text = error(Method::PUT, customer, relations);
        assert_eq!(text, "cio_relationships.relationships[0]: must be an object");
        let text =
            error(Method::POST, "/api/v1/metrics", json!({"delivery_id": "d", "metric": "x"}));
        assert!(text.starts_with("metric: metric must be one of bounced"), "{text}");
    }

    #[test]
    fn device_attributes_are_taken_flat_and_nested() {
        let device = json!({"id": "t", "platform": "ios", "a": "1", "attributes": {"b": "2"}});
        let operation = run(Method::PUT, "/api/v1/customers/u/devices", json!({"device": device}));
        let Ok(Operation::AddDevice { device, .. }) = operation else { panic!("no device") };
        assert_eq!(Value::Object(device.attributes), json!({"a": "1", "b": "2"}));
    }

    #[test]
    fn an_unknown_event_type_is_an_event() {
        let body = json!({"name": "x", "type": "video"});
        let operation = run(Method::POST, "/api/v1/customers/u/events", body).unwrap();
        let Operation::Event(Some(_), event) = operation else { panic!("no event") };
        assert_eq!(event.kind.name(), "event");
    }
}
