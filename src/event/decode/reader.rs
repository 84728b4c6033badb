//! The JSON grammar (RFC 8259) over a text that is known to be UTF-8.
//!
//! Two ways over a value: [`Reader::build`] makes a [`Value`] of what is needed, with strings as
//! slices of the text; [`Reader::skip`] only checks the syntax. Both accept exactly the same texts.
//! Building recurses at most [`MAX_DEPTH`] levels; skipping does not recurse, so that no input can
//! exhaust the stack, and what stands behind something too deep is still checked.

use std::borrow::Cow;

use bytestring::ByteString;
use smallvec::SmallVec;
use vrl::value::{KeyString, ObjectMap, Value};

use crate::event::{Need, Span};

/// Objects and arrays may be nested this deep, the outermost included.
pub const MAX_DEPTH: usize = 128;

/// What stands at a place where the grammar does not allow it. Never holds content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Offset in bytes.
    pub at: usize,
    /// Lower-case fragment.
    pub what: &'static str,
}

/// A walk over one JSON text.
#[derive(Debug)]
pub struct Reader<'a> {
    source: &'a ByteString,
    text: &'a str,
    bytes: &'a [u8],
    pos: usize,
    /// Something was nested deeper than [`MAX_DEPTH`]; it was checked, but not built.
    pub too_deep: bool,
    /// Offset of the first number beyond what an `f64` can hold.
    pub out_of_range: Option<usize>,
}

const EXPECTED_VALUE: &str = "expected a value";

impl<'a> Reader<'a> {
    /// Starts at the beginning of `source`.
    pub fn new(source: &'a ByteString) -> Self {
        let text: &'a str = source;
        Self { source, text, bytes: text.as_bytes(), pos: 0, too_deep: false, out_of_range: None }
    }

    /// Returns the offset of the next byte.
    pub fn position(&self) -> usize {
        self.pos
    }

    /// Returns the place from `start` to the next byte.
    pub fn span_from(&self, start: usize) -> Span {
        let offset = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span { start: offset(start), end: offset(self.pos) }
    }

    /// Returns the next byte without taking it.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.pos).copied()
    }

    /// Steps over white space.
    #[inline]
    pub fn blank(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.pos += 1;
        }
    }

    /// Checks that nothing but white space is left.
    pub fn end(&mut self) -> Result<(), Fault> {
        self.blank();
        if self.pos == self.bytes.len() { Ok(()) } else { Err(self.fault("expected the end")) }
    }

    /// Walks over the object at this place and calls `each` at every member's value, with the
    /// member's name and the offset at which the name begins.
    ///
    /// `each` must take exactly that value.
    pub fn members<F>(&mut self, mut each: F) -> Result<(), Fault>
    where
        F: FnMut(&mut Self, Cow<'a, str>, usize) -> Result<(), Fault>,
    {
        self.pos += 1;
        self.blank();
        if self.peek() == Some(b'}') {
            self.pos += 1;
            return Ok(());
        }
        loop {
            let start = self.pos;
            let key = self.key()?;
            each(self, key, start)?;
            self.blank();
            match self.peek() {
                Some(b',') => {
                    self.pos += 1;
                    self.blank();
                }
                Some(b'}') => {
                    self.pos += 1;
                    return Ok(());
                }
                _ => return Err(self.fault("expected `,` or `}`")),
            }
        }
    }

    /// Walks over the array at this place and calls `each` at every element.
    ///
    /// `each` must take exactly that element.
    pub fn elements<F>(&mut self, mut each: F) -> Result<(), Fault>
    where
        F: FnMut(&mut Self) -> Result<(), Fault>,
    {
        self.pos += 1;
        self.blank();
        if self.peek() == Some(b']') {
            self.pos += 1;
            return Ok(());
        }
        loop {
            each(self)?;
            self.blank();
            match self.peek() {
                Some(b',') => {
                    self.pos += 1;
                    self.blank();
                }
                Some(b']') => {
                    self.pos += 1;
                    return Ok(());
                }
                _ => return Err(self.fault("expected `,` or `]`")),
            }
        }
    }

    /// Builds what `need` names of the value at this place; `depth` containers are open around it.
    pub fn build(&mut self, need: &Need, depth: usize) -> Result<Value, Fault> {
        match self.peek() {
            Some(b'"') => self.string().map(Value::String),
            Some(b'{' | b'[') if depth >= MAX_DEPTH => {
                self.skip(depth)?;
                Ok(Value::Null)
            }
            Some(b'{') => {
                let mut object = ObjectMap::new();
                self.members(|reader, key, _| {
                    reader.member(need.member(&key), key, &mut object, depth + 1)
                })?;
                Ok(Value::Object(object))
            }
            Some(b'[') => {
                // Needs name members of objects only: of an array either nothing is read, or all.
                let mut array = Vec::new();
                self.elements(|reader| {
                    array.push(reader.build(&Need::All, depth + 1)?);
                    Ok(())
                })?;
                Ok(Value::Array(array))
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true").map(|()| Value::Boolean(true)),
            Some(b'f') => self.literal("false").map(|()| Value::Boolean(false)),
            Some(b'n') => self.literal("null").map(|()| Value::Null),
            _ => Err(self.fault(EXPECTED_VALUE)),
        }
    }

    /// Puts the value at this place into `object` as far as it is needed.
    #[inline]
    pub fn member(
        &mut self,
        need: Option<&Need>,
        key: Cow<'a, str>,
        object: &mut ObjectMap,
        depth: usize,
    ) -> Result<(), Fault> {
        match need {
            Some(need) => {
                let value = self.build(need, depth)?;
                object.insert(key_string(key), value);
                Ok(())
            }
            None => self.skip(depth),
        }
    }

    /// Checks the value at this place; `depth` containers are open around it.
    pub fn skip(&mut self, depth: usize) -> Result<(), Fault> {
        // The closing byte of each container that was opened here.
        let mut open: SmallVec<[u8; 64]> = SmallVec::new();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.pos += 1;
                    self.skip_string()?;
                }
                Some(opening @ (b'{' | b'[')) => {
                    self.pos += 1;
                    self.too_deep |= depth + open.len() >= MAX_DEPTH;
                    let closing = if opening == b'{' { b'}' } else { b']' };
                    self.blank();
                    if self.peek() == Some(closing) {
                        self.pos += 1;
                    } else {
                        open.push(closing);
                        if closing == b'}' {
                            self.skip_key()?;
                        }
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => {
                    self.scan_number()?;
                }
                Some(b't') => self.literal("true")?,
                Some(b'f') => self.literal("false")?,
                Some(b'n') => self.literal("null")?,
                _ => return Err(self.fault(EXPECTED_VALUE)),
            }
            // A value ended: go on in the container that holds it.
            loop {
                let Some(&closing) = open.last() else { return Ok(()) };
                self.blank();
                match self.peek() {
                    Some(b',') => {
                        self.pos += 1;
                        self.blank();
                        if closing == b'}' {
                            self.skip_key()?;
                        }
                        break;
                    }
                    Some(byte) if byte == closing => {
                        self.pos += 1;
                        open.pop();
                    }
                    _ if closing == b'}' => return Err(self.fault("expected `,` or `}`")),
                    _ => return Err(self.fault("expected `,` or `]`")),
                }
            }
        }
    }

    /// Reads the string at this place as a slice of the text, or as a new text if it has escapes.
    pub fn string(&mut self) -> Result<ByteString, Fault> {
        Ok(match self.text()? {
            Cow::Borrowed(text) => self.source.slice_ref(text),
            Cow::Owned(text) => ByteString::from(text),
        })
    }

    /// Reads the string at this place.
    #[inline]
    pub fn text(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.pos += 1;
        let start = self.pos;
        self.pos = plain_until(self.bytes, start);
        if self.peek() == Some(b'"') {
            let text = self.slice(start, self.pos)?;
            self.pos += 1;
            return Ok(Cow::Borrowed(text));
        }
        self.escaped_text(start).map(Cow::Owned)
    }

    #[cold]
    fn escaped_text(&mut self, start: usize) -> Result<String, Fault> {
        let mut out = String::from(self.slice(start, self.pos)?);
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    let character = self.escape()?;
                    out.push(character);
                }
                Some(_) => return Err(self.fault("control character in a string")),
                None => return Err(self.fault("unfinished string")),
            }
            let from = self.pos;
            self.pos = plain_until(self.bytes, from);
            out.push_str(self.slice(from, self.pos)?);
        }
    }

    /// Takes one escape. An unpaired surrogate becomes U+FFFD, as RudderStack's server has it.
    fn escape(&mut self) -> Result<char, Fault> {
        self.pos += 1;
        let byte = self.peek();
        self.pos += 1;
        Ok(match byte {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex4()?;
                let mut code = u32::from(first);
                if (0xD800..0xDC00).contains(&first)
                    && self.bytes.get(self.pos..self.pos + 2) == Some(br"\u")
                {
                    let back = self.pos;
                    self.pos += 2;
                    let second = self.hex4()?;
                    if (0xDC00..0xE000).contains(&second) {
                        code = 0x10000
                            + ((u32::from(first) - 0xD800) << 10)
                            + (u32::from(second) - 0xDC00);
                    } else {
                        self.pos = back;
                    }
                }
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => {
                self.pos -= 1;
                return Err(self.fault("unknown escape"));
            }
        })
    }

    fn hex4(&mut self) -> Result<u16, Fault> {
        let digits = self.bytes.get(self.pos..).and_then(<[u8]>::first_chunk::<4>);
        let mut code = 0u16;
        for digit in digits.ok_or_else(|| self.fault("unfinished escape"))? {
            let value = char::from(*digit).to_digit(16).and_then(|d| u16::try_from(d).ok());
            code = code << 4 | value.ok_or_else(|| self.fault("expected four hex digits"))?;
        }
        self.pos += 4;
        Ok(code)
    }

    /// Takes a string whose opening quote was taken.
    #[inline]
    fn skip_string(&mut self) -> Result<(), Fault> {
        loop {
            self.pos = plain_until(self.bytes, self.pos);
            match self.peek() {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.escape()?;
                }
                Some(_) => return Err(self.fault("control character in a string")),
                None => return Err(self.fault("unfinished string")),
            }
        }
    }

    #[inline]
    fn key(&mut self) -> Result<Cow<'a, str>, Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.fault("expected a member's name"));
        }
        let key = self.text()?;
        self.colon()?;
        Ok(key)
    }

    #[inline]
    fn skip_key(&mut self) -> Result<(), Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.fault("expected a member's name"));
        }
        self.pos += 1;
        self.skip_string()?;
        self.colon()
    }

    #[inline]
    fn colon(&mut self) -> Result<(), Fault> {
        self.blank();
        if self.peek() != Some(b':') {
            return Err(self.fault("expected `:`"));
        }
        self.pos += 1;
        self.blank();
        Ok(())
    }

    fn number(&mut self) -> Result<Value, Fault> {
        let start = self.pos;
        let integer = self.scan_number()?;
        let text = self.slice(start, self.pos)?;
        // `-0` is a float: an integer has no negative zero.
        if integer
            && text != "-0"
            && let Ok(number) = text.parse::<i64>()
        {
            return Ok(Value::Integer(number));
        }
        let number = text.parse::<f64>().map_err(|_| Fault { at: start, what: "not a number" })?;
        Ok(if number.is_finite() { Value::from_f64_or_zero(number) } else { Value::Null })
    }

    /// Takes a number; tells whether it has neither fraction nor exponent.
    fn scan_number(&mut self) -> Result<bool, Fault> {
        const EXPECTED_DIGIT: &str = "expected a digit";
        let start = self.pos;
        if self.peek() == Some(b'-') {
            self.pos += 1;
        }
        match self.peek() {
            Some(b'0') => self.pos += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.fault(EXPECTED_DIGIT)),
        }
        let mut integer = true;
        let mut may_overflow = self.pos - start > 300;
        if self.peek() == Some(b'.') {
            integer = false;
            self.pos += 1;
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.fault(EXPECTED_DIGIT));
            }
            self.digits();
        }
        if let Some(b'e' | b'E') = self.peek() {
            integer = false;
            may_overflow = true;
            self.pos += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.pos += 1;
            }
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.fault(EXPECTED_DIGIT));
            }
            self.digits();
        }
        if may_overflow && self.out_of_range.is_none() {
            let number = self.slice(start, self.pos)?.parse::<f64>();
            if !number.is_ok_and(f64::is_finite) {
                self.out_of_range = Some(start);
            }
        }
        Ok(integer)
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.pos += 1;
        }
    }

    fn literal(&mut self, word: &'static str) -> Result<(), Fault> {
        let end = self.pos + word.len();
        if self.bytes.get(self.pos..end) == Some(word.as_bytes()) {
            self.pos = end;
            Ok(())
        } else {
            Err(self.fault(EXPECTED_VALUE))
        }
    }

    #[inline]
    fn slice(&self, start: usize, end: usize) -> Result<&'a str, Fault> {
        self.text.get(start..end).ok_or(Fault { at: start, what: "not UTF-8" })
    }

    #[cold]
    fn fault(&self, what: &'static str) -> Fault {
        Fault { at: self.pos.min(self.bytes.len()), what }
    }
}

fn key_string(key: Cow<'_, str>) -> KeyString {
    match key {
        Cow::Borrowed(key) => KeyString::from(key),
        Cow::Owned(key) => KeyString::from(key),
    }
}

/// Returns the offset of the first quote, backslash, or control character from `from` on, or the
/// length of `bytes`. Eight bytes at a time, since most strings are shorter than what a call into
/// a vectorised search pays for.
#[inline]
fn plain_until(bytes: &[u8], from: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    // Marks the high bit of zero bytes; above the lowest mark there may be false ones.
    const fn zeros(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word
    }
    let mut at = from;
    let mut rest = bytes.get(from..).unwrap_or_default();
    while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let controls = word.wrapping_sub(ONES * 0x20) & !word;
        let quotes = zeros(word ^ (ONES * b'"' as u64));
        let backslashes = zeros(word ^ (ONES * b'\\' as u64));
        let found = (controls | quotes | backslashes) & HIGHS;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
        rest = tail;
    }
    at + rest.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')).unwrap_or(rest.len())
}
