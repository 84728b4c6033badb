//! Strings, and what their escapes stand for.

use std::borrow::Cow;

use bytestring::ByteString;

use super::{Fault, Reader};

impl<'a> Reader<'a> {
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
    pub(super) fn escape(&mut self) -> Result<char, Fault> {
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
}

/// Returns the offset of the first quote, backslash, or control character from `from` on, or the
/// length of `bytes`. Eight bytes at a time, since most strings are shorter than what a call into
/// a vectorised search pays for.
#[inline]
pub(super) fn plain_until(bytes: &[u8], from: usize) -> usize {
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
