//! The JSON grammar (RFC 8259) over a text that is known to be UTF-8.
//!
//! Two ways over a value: [`Reader::build`] makes a [`Value`](vrl::value::Value) of what is needed,
//! with strings as slices of the text; [`Reader::skip`] only checks the syntax. Both accept exactly
//! the same texts.
//! Building recurses at most [`MAX_DEPTH`] levels; skipping does not recurse, so that no input can
//! exhaust the stack, and what stands behind something too deep is still checked.

mod build;
mod number;
mod skip;
mod text;

use std::borrow::Cow;

use bytestring::ByteString;

use crate::event::Span;

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
    fn colon(&mut self) -> Result<(), Fault> {
        self.blank();
        if self.peek() != Some(b':') {
            return Err(self.fault("expected `:`"));
        }
        self.pos += 1;
        self.blank();
        Ok(())
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
