//! Writes Vector's messages.

use serde_json::Value;

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn entries(members: &serde_json::Map<String, Value>) -> Vec<u8> {
    let entry = |(key, value): (&String, &Value)| {
        field(1, &[field(1, key.as_bytes()), field(2, &self::value(value))].concat())
    };
    members.iter().flat_map(entry).collect()
}

fn value(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => vec![0x48, 0],
        Value::Bool(boolean) => vec![0x30, u8::from(*boolean)],
        Value::Number(number) => match number.as_i64() {
            Some(integer) => [vec![0x20], varint(integer.cast_unsigned())].concat(),
            None => [vec![0x29], number.as_f64().unwrap().to_le_bytes().to_vec()].concat(),
        },
        Value::String(text) => field(1, text.as_bytes()),
        Value::Array(elements) => {
            let elements = elements.iter().flat_map(|element| field(1, &self::value(element)));
            field(8, &elements.collect::<Vec<_>>())
        }
        Value::Object(members) => field(7, &entries(members)),
    }
}

/// A track event in a log, whose `n` names the id that Vector's source gives it. An empty
/// `message_id` is none.
pub fn track(message_id: &str, user: &str, properties: &Value) -> Vec<u8> {
    let mut event = serde_json::json!({
        "type": "track", "userId": user, "event": "Sent", "properties": properties,
        "originalTimestamp": "2026-08-20T10:15:30.123Z"
    });
    if !message_id.is_empty() {
        event["messageId"] = message_id.into();
    }
    let id = 1 << 100 | u128::from(properties["n"].as_u64().unwrap());
    let metadata = field(4, &field(7, &id.to_be_bytes()));
    let Value::Object(members) = event else { unreachable!() };
    field(1, &[entries(&members), metadata].concat())
}

/// A request of wrapped events.
pub fn request(events: &[Vec<u8>]) -> Vec<u8> {
    events.iter().flat_map(|event| field(1, event)).collect()
}
