//! Numbers, and whether they fit.

use vrl::value::Value;

use super::{Fault, Reader};

impl Reader<'_> {
    pub(super) fn number(&mut self) -> Result<Value, Fault> {
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
    pub(super) fn scan_number(&mut self) -> Result<bool, Fault> {
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
}
