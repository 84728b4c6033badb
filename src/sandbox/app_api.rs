//! Look-alikes of the App API's reads, so that a check written here also runs against the real one.
//! Any bearer token is taken.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, Request, Response};
use serde_json::{Map, Value, json};

use super::engine::Engine;
use super::operation::{Identifier, ObjectIdentifier};
use super::request::{json_answer, meta_error, parameter, segments};
use super::workspace::view::PersonView;

pub(super) fn answer(engine: &mut Engine, request: &Request<Bytes>) -> Response<Bytes> {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !given.is_some_and(|value| value.starts_with("Bearer ")) {
        return meta_error(401, "Unauthorized request");
    }
    if *request.method() != Method::GET {
        return meta_error(405, "method not allowed");
    }
    let decoded = segments(request.uri());
    let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let query = |name: &str| parameter(request.uri().query(), name);
    let body = match parts.as_slice() {
        ["customers", id, what] => {
            let Some(who) = identifier(id, query("id_type").as_deref()) else {
                return meta_error(400, "id_type must be one of id, email, cio_id");
            };
            let person = engine.workspace().person(&who);
            person.and_then(|person| match *what {
                "attributes" => Some(customer(&person)),
                "activities" => {
                    Some(activities(&person, query("type").as_deref(), query("name").as_deref()))
                }
                "relationships" => Some(relationships(&person)),
                _ => None,
            })
        }
        ["objects", type_id, object_id, "attributes"] => {
            let object = ObjectIdentifier::Pair {
                type_id: (*type_id).to_owned(),
                object_id: (*object_id).to_owned(),
            };
            let found = engine.workspace().object(&object);
            found.map(|object| json!({"object": {"attributes": texts(object.attributes.iter())}}))
        }
        _ => None,
    };
    body.map_or_else(|| meta_error(404, "not found"), |body| json_answer(200, &body))
}

fn identifier(id: &str, id_type: Option<&str>) -> Option<Identifier> {
    match id_type {
        None | Some("id") => Some(Identifier::Id(id.to_owned())),
        Some("email") => Some(Identifier::Email(id.to_owned())),
        Some("cio_id") => Some(Identifier::CioId(id.strip_prefix("cio_").unwrap_or(id).to_owned())),
        Some(_) => None,
    }
}

/// Customer.io shows attributes as text, whatever was sent.
fn texts<'a>(attributes: impl Iterator<Item = (&'a String, &'a Value)>) -> Map<String, Value> {
    attributes.map(|(name, value)| (name.clone(), Value::String(text(value)))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn customer(person: &PersonView) -> Value {
    let all = person.attributes.iter();
    let mut attributes = texts(all.clone().map(|(name, attribute)| (name, &attribute.value)));
    let identifiers = [("id", &person.id), ("email", &person.email), ("phone", &person.phone)];
    for (name, value) in identifiers {
        if let Some(value) = value {
            attributes.insert(name.to_owned(), json!(value));
        }
    }
    attributes.insert("cio_id".to_owned(), json!(person.cio_id));
    let timestamps: Map<String, Value> =
        all.map(|(name, attribute)| (name.clone(), json!(attribute.at))).collect();
    let unsubscribed = person.attribute("unsubscribed").is_some_and(|value| {
        let text = text(value);
        text.eq_ignore_ascii_case("true") || text == "1"
    });
    let devices = person.devices.iter().map(|(token, device)| {
        json!({"id": token, "platform": device.platform, "last_used": device.last_used})
    });
    json!({"customer": {
        "id": person.id.clone().unwrap_or_default(),
        "identifiers": {"id": person.id, "email": person.email, "cio_id": person.cio_id},
        "attributes": attributes,
        "timestamps": timestamps,
        "unsubscribed": unsubscribed,
        "devices": devices.collect::<Vec<_>>(),
    }})
}

fn activities(person: &PersonView, kind: Option<&str>, name: Option<&str>) -> Value {
    let fits = |event: &&super::workspace::StoredEvent| {
        kind.is_none_or(|kind| event.kind.name() == kind)
            && name.is_none_or(|name| event.name.as_deref() == Some(name))
    };
    let shown = person.events.iter().filter(fits).map(|event| {
        let mut shown = json!({
            "id": event.id.clone().unwrap_or_else(|| event.sequence.to_string()),
            "type": event.kind,
            "timestamp": event.timestamp,
            "data": event.data,
        });
        if let (Some(name), Some(members)) = (&event.name, shown.as_object_mut()) {
            members.insert("name".to_owned(), json!(name));
        }
        shown
    });
    json!({"activities": shown.collect::<Vec<_>>()})
}

fn relationships(person: &PersonView) -> Value {
    let shown = person.relationships.iter().map(|relation| {
        json!({
            "object_type_id": relation.object_type_id,
            "identifiers": {
                "object_id": relation.object_id,
                "cio_object_id": relation.cio_object_id,
            },
            "attributes": texts(relation.attributes.iter()),
        })
    });
    json!({"cio_relationships": shown.collect::<Vec<_>>()})
}
