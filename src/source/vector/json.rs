//! Values of Vector as JSON text, in one pass over the wire and without a tree in between.
//!
//! | value | JSON |
//! | --- | --- |
//! | bytes | text; what is no UTF-8 becomes U+FFFD |
//! | timestamp | RFC 3339 text with as many decimals as it needs (0, 3, 6, or 9) and `Z` |
//! | integer, float | the same number; a float keeps its point, so `2.0` stays one |
//! | map, array, boolean, null | the same |
//! | a value without a kind | null |

use chrono::{DateTime, SecondsFormat};

use super::wire::{Broken, Field, Fields};
use crate::event::decode::MAX_DEPTH;
use crate::outcome::{Reason, ReasonCode};

/// Why a value cannot become JSON. Never holds content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is no protocol buffer.
    Broken(Broken),
    /// A float that is not a number or infinite.
    NotFinite,
    /// A timestamp that no calendar has, or of a year with more than four digits.
    NoTime,
    /// Nested deeper than events may be.
    TooDeep,
}

impl From<Broken> for Flaw {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<Flaw> for Reason {
    fn from(flaw: Flaw) -> Self {
        let (code, detail) = match flaw {
            Flaw::Broken(Broken(what)) => {
                (ReasonCode::InvalidJson, format!("broken protocol buffer: {what}"))
            }
            Flaw::NotFinite => {
                (ReasonCode::InvalidJson, "a float is infinite or not a number".to_owned())
            }
            Flaw::NoTime => (ReasonCode::InvalidJson, "a timestamp is out of range".to_owned()),
            Flaw::TooDeep => {
                (ReasonCode::TooDeep, format!("nested deeper than {MAX_DEPTH} levels"))
            }
        };
        Self::new(code, detail)
    }
}

/// What a `Value` holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind<'a> {
    Bytes(&'a [u8]),
    /// Seconds and nanoseconds, not read yet.
    Timestamp(&'a [u8]),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Members, as fields 1 of a message.
    Map(&'a [u8]),
    /// Elements, as fields 1 of a message.
    Array(&'a [u8]),
    Null,
}

impl<'a> Kind<'a> {
    /// Reads which kind a `Value` has. If it names several the last counts.
    #[inline]
    pub fn of(value: &'a [u8]) -> Result<Self, Broken> {
        let (mut fields, mut kind) = (Fields::of(value), Self::Null);
        while let Some((number, field)) = fields.next()? {
            kind = match (number, field) {
                (1, field) => Self::Bytes(field.bytes()?),
                (2, field) => Self::Timestamp(field.bytes()?),
                (4, field) => Self::Integer(field.varint()?.cast_signed()),
                (5, Field::Fixed64(bits)) => Self::Float(f64::from_bits(bits)),
                (5, _) => return Err(Broken("a float has not eight bytes")),
                (6, field) => Self::Boolean(field.varint()? != 0),
                (7, field) => Self::Map(field.bytes()?),
                (8, field) => Self::Array(field.bytes()?),
                (9, field) => {
                    field.varint()?;
                    Self::Null
                }
                _ => kind,
            };
        }
        Ok(kind)
    }

    /// Returns what the kind is called in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bytes(_) => "a text",
            Self::Timestamp(_) => "a timestamp",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Boolean(_) => "a boolean",
            Self::Map(_) => "an object",
            Self::Array(_) => "an array",
            Self::Null => "null",
        }
    }
}

/// Splits a map's entry into key and `Value`. A key that is missing is the empty text, a value null.
#[inline]
pub fn entry(entry: &[u8]) -> Result<(&[u8], &[u8]), Broken> {
    let (mut fields, mut key, mut value) = (Fields::of(entry), &[][..], &[][..]);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => key = field.bytes()?,
            2 => value = field.bytes()?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// Appends a value; `depth` containers are open around it.
pub fn write(kind: Kind<'_>, depth: usize, out: &mut Vec<u8>) -> Result<(), Flaw> {
    match kind {
        Kind::Bytes(text) => write_text(text, out),
        Kind::Timestamp(time) => write_timestamp(time, out)?,
        Kind::Integer(integer) => write_number(&integer, out),
        Kind::Float(float) if float.is_finite() => write_number(&float, out),
        Kind::Float(_) => return Err(Flaw::NotFinite),
        Kind::Boolean(true) => out.extend_from_slice(b"true"),
        Kind::Boolean(false) => out.extend_from_slice(b"false"),
        Kind::Null => out.extend_from_slice(b"null"),
        Kind::Map(_) | Kind::Array(_) if depth >= MAX_DEPTH => return Err(Flaw::TooDeep),
        Kind::Map(members) => {
            let mut fields = Fields::of(members);
            out.push(b'{');
            let start = out.len();
            while let Some((number, field)) = fields.next()? {
                if number == 1 {
                    let (key, value) = entry(field.bytes()?)?;
                    separate(start, out);
                    write_member(key, Kind::of(value)?, depth, out)?;
                }
            }
            out.push(b'}');
        }
        Kind::Array(elements) => {
            let mut fields = Fields::of(elements);
            out.push(b'[');
            let start = out.len();
            while let Some((number, field)) = fields.next()? {
                if number == 1 {
                    separate(start, out);
                    write(Kind::of(field.bytes()?)?, depth + 1, out)?;
                }
            }
            out.push(b']');
        }
    }
    Ok(())
}

/// Appends one member of an object around which `depth` containers are open.
#[inline]
pub fn write_member(
    key: &[u8],
    value: Kind<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Flaw> {
    write_text(key, out);
    out.push(b':');
    write(value, depth + 1, out)
}

/// Appends a comma unless nothing was written since `start`.
#[inline]
pub fn separate(start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
        out.push(b',');
    }
}

/// Appends a text in quotes.
#[inline]
pub fn write_text(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 4);
    out.push(b'"');
    if is_plain(text) {
        out.extend_from_slice(text);
    } else {
        write_special(text, out);
    }
    out.push(b'"');
}

/// Tells whether a text is ASCII that needs no escape, as nearly every text is.
///
/// Eight bytes at a time, without a way out: texts are short, and branches would cost more.
#[inline]
fn is_plain(text: &[u8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    /// The high bit of some byte is set if a byte is below `n`, which is 128 at most.
    const fn below(word: u64, n: u64) -> u64 {
        word.wrapping_sub(ONES * n) & !word
    }
    let (words, rest) = text.as_chunks::<8>();
    let mut special = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ (ONES * b'"' as u64), 1);
        let backslash = below(word ^ (ONES * b'\\' as u64), 1);
        special |= word | below(word, b' ' as u64) | quote | backslash;
    }
    let rest = rest.iter().fold(false, |any, &byte| any | !byte.is_ascii() | must_escape(byte));
    special & HIGH == 0 && !rest
}

#[cold]
fn write_special(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        write_escaped(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn write_escaped(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| must_escape(byte)) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, tail)) = tail.split_first() else { return };
        rest = tail;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let digit =
                    |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(rest);
}

#[inline]
fn must_escape(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

fn write_number(number: &impl serde::Serialize, out: &mut Vec<u8>) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, number).is_err() {
        // Writing a finite number to memory has no way to fail; the text must stay JSON even so.
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

fn write_timestamp(time: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
    /// First second of the year 0, and first of the year 10000.
    const YEARS: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;
    let (mut fields, mut seconds, mut nanos) = (Fields::of(time), 0, 0);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => seconds = field.varint()?.cast_signed(),
            2 => nanos = field.varint()?,
            _ => {}
        }
    }
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let time = nanos
        .filter(|_| YEARS.contains(&seconds))
        .and_then(|nanos| DateTime::from_timestamp(seconds, nanos))
        .ok_or(Flaw::NoTime)?;
    out.push(b'"');
    out.extend_from_slice(time.to_rfc3339_opts(SecondsFormat::AutoSi, true).as_bytes());
    out.push(b'"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::proto::{self, bytes, float, integer, map, timestamp};
    use super::*;

    fn text(value: &[u8]) -> Result<String, Flaw> {
        let mut out = Vec::new();
        write(Kind::of(value)?, 0, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_kind_of_value_has_its_text() {
        for (value, expected) in [
            (bytes(b"a\"\\\n\r\t\x00\x1f/\xc3\xa9"), r#""a\"\\\n\r\t\u0000\u001f/é""#),
            (bytes(b""), r#""""#),
            (bytes(&[0xfe, 0xff, 0, 0x80, b'x']), "\"\u{fffd}\u{fffd}\\u0000\u{fffd}x\""),
            (integer(0), "0"),
            (integer(i64::MIN), "-9223372036854775808"),
            (integer(9_007_199_254_740_993), "9007199254740993"),
            (float(2.0), "2.0"),
            (float(-0.0), "-0.0"),
            (float(5e-324), "5e-324"),
            (float(0.1), "0.1"),
            (vec![0x30, 1], "true"),
            (vec![0x30, 0], "false"),
            (vec![0x48, 0], "null"),
            (vec![], "null"),
            (vec![0x3a, 0], "{}"),
            (vec![0x42, 0], "[]"),
            (proto::array(&[integer(1), vec![0x42, 0], vec![]]), "[1,[],null]"),
            (
                map(&[("", integer(1)), ("a.b", map(&[("é", float(1.5))]))]),
                r#"{"":1,"a.b":{"é":1.5}}"#,
            ),
            (timestamp(1_787_220_930, 0), r#""2026-08-20T10:15:30Z""#),
            (timestamp(-1, 500_000_000), r#""1969-12-31T23:59:59.500Z""#),
            (timestamp(0, 1), r#""1970-01-01T00:00:00.000000001Z""#),
            // Of several kinds the last counts; what is unknown does not.
            ([integer(1), bytes(b"x"), vec![0x58, 1]].concat(), r#""x""#),
        ] {
            assert_eq!(text(&value).as_deref(), Ok(expected), "{value:?}");
        }
        let float = text(&float(1e300)).unwrap();
        assert!(float.contains(['.', 'e']), "{float} reads as an integer");
    }

    #[test]
    fn a_byte_that_is_not_plain_is_seen_at_every_place() {
        for byte in 0..=255 {
            let plain = (0x20..0x80).contains(&byte) && byte != b'"' && byte != b'\\';
            for (length, at) in (1..20).flat_map(|length| (0..length).map(move |at| (length, at))) {
                for around in [b' ', b'!', b'#', b'[', b']', 0x7f] {
                    let mut text = vec![around; length];
                    text[at] = byte;
                    assert_eq!(is_plain(&text), plain, "{byte} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn what_json_cannot_hold_is_named() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(text(&map(&[("a", float(value))])), Err(Flaw::NotFinite));
        }
        for (seconds, nanos) in
            [(i64::MAX, 0), (i64::MIN, 0), (253_402_300_800, 0), (0, 1_000_000_000), (0, -1)]
        {
            assert_eq!(text(&timestamp(seconds, nanos)), Err(Flaw::NoTime), "{seconds} {nanos}");
        }
        for broken in [
            &[0x0a, 5, b'x'][..],
            &[0x20],
            &[0x29, 1],
            &[0x2d, 0, 0, 0, 0],
            &[0x08, 1],
            &[0x42, 2, 0x0a, 9],
        ] {
            assert!(matches!(text(broken), Err(Flaw::Broken(_))), "{broken:?}");
        }
    }

    #[test]
    fn nesting_is_bounded_where_that_of_events_is() {
        let nested = |levels: usize| {
            (0..levels).fold(integer(1), |value, n| {
                if n % 2 == 0 { proto::array(&[value]) } else { map(&[("d", value)]) }
            })
        };
        assert!(text(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(text(&nested(MAX_DEPTH + 1)), Err(Flaw::TooDeep));
        assert_eq!(text(&nested(3000)), Err(Flaw::TooDeep));
    }
}
