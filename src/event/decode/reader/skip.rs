//! A value that nobody needs: its syntax is checked, and nothing is built.

use smallvec::SmallVec;

use super::text::plain_until;
use super::{EXPECTED_VALUE, Fault, MAX_DEPTH, Reader};

impl Reader<'_> {
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

    #[inline]
    fn skip_key(&mut self) -> Result<(), Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.fault("expected a member's name"));
        }
        self.pos += 1;
        self.skip_string()?;
        self.colon()
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
}
