//! Writes Vector's messages.

pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A field of bytes, a text, or a message.
pub fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

pub fn bytes(text: &[u8]) -> Vec<u8> {
    field(1, text)
}

pub fn integer(value: i64) -> Vec<u8> {
    [vec![0x20], varint(value.cast_unsigned())].concat()
}

pub fn float(value: f64) -> Vec<u8> {
    [vec![0x29], value.to_le_bytes().to_vec()].concat()
}

pub fn timestamp(seconds: i64, nanos: i64) -> Vec<u8> {
    let parts =
        [vec![0x08], varint(seconds.cast_unsigned()), vec![0x10], varint(nanos.cast_unsigned())];
    field(2, &parts.concat())
}

fn entry(key: &str, value: &[u8]) -> Vec<u8> {
    field(1, &[field(1, key.as_bytes()), field(2, value)].concat())
}

fn entries(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    members.iter().flat_map(|(key, value)| entry(key, value)).collect()
}

pub fn map(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    field(7, &entries(members))
}

pub fn array(elements: &[Vec<u8>]) -> Vec<u8> {
    field(8, &elements.iter().flat_map(|element| field(1, element)).collect::<Vec<_>>())
}

/// A log whose root has these members, and the id that its source gave it.
pub fn log(members: &[(&str, Vec<u8>)], id: Option<u128>) -> Vec<u8> {
    let id = id.map(|id| field(4, &field(7, &id.to_be_bytes()))).unwrap_or_default();
    field(1, &[entries(members), id].concat())
}

/// A log with another root than an object.
pub fn root(value: &[u8]) -> Vec<u8> {
    field(1, &[entry(".", &[0x48, 0]), field(2, value)].concat())
}

/// A request of wrapped events.
pub fn request(events: &[Vec<u8>]) -> Vec<u8> {
    events.iter().flat_map(|event| field(1, event)).collect()
}
