//! The wire format of protocol buffers: fields of a message, without a schema.
//!
//! Only what the receiver of one fixed protocol needs. Nothing is copied, and a field of nested
//! messages is stepped over in one move, so that damage inside of one event stays there.

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub &'static str);

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'a> {
    /// An integer, boolean, or member of an enumeration.
    Varint(u64),
    /// Eight bytes, little end first: a double.
    Fixed64(u64),
    /// Four bytes.
    Fixed32,
    /// A text, bytes, or a message.
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    /// Returns the bytes of a field that must hold some.
    pub fn bytes(self) -> Result<&'a [u8], Broken> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(WRONG_TYPE),
        }
    }

    /// Returns the integer of a field that must hold one.
    pub fn varint(self) -> Result<u64, Broken> {
        match self {
            Self::Varint(varint) => Ok(varint),
            _ => Err(WRONG_TYPE),
        }
    }
}

const ENDS_EARLY: Broken = Broken("a field ends early");
const WRONG_TYPE: Broken = Broken("a field has another type");
const NO_TAG: Broken = Broken("a field has no valid number and type");
const LONG_VARINT: Broken = Broken("an integer is longer than 64 bits");

/// A walk over the fields of one message.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Starts at the first field.
    pub fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Returns the next field with its number; `None` behind the last.
    #[inline]
    pub fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, Broken> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = u32::try_from(self.varint()?).map_err(|_| NO_TAG)?;
        let number = tag >> 3;
        if number == 0 {
            return Err(NO_TAG);
        }
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                let (bytes, rest) = self.rest.split_first_chunk().ok_or(ENDS_EARLY)?;
                self.rest = rest;
                Field::Fixed64(u64::from_le_bytes(*bytes))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ENDS_EARLY)?;
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or(ENDS_EARLY)?;
                self.rest = rest;
                Field::Bytes(bytes)
            }
            5 => {
                let (_, rest) = self.rest.split_first_chunk::<4>().ok_or(ENDS_EARLY)?;
                self.rest = rest;
                Field::Fixed32
            }
            // Groups are long out of use, and nothing here has any.
            _ => return Err(NO_TAG),
        };
        Ok(Some((number, field)))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Broken> {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Broken> {
        let mut value = 0;
        for n in 0..10 {
            let (&byte, rest) = self.rest.split_first().ok_or(ENDS_EARLY)?;
            self.rest = rest;
            if n == 9 && byte > 1 {
                return Err(LONG_VARINT);
            }
            value |= u64::from(byte & 0x7f) << (7 * n);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(LONG_VARINT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(message: &[u8]) -> Result<Vec<(u32, Field<'_>)>, Broken> {
        let (mut fields, mut found) = (Fields::of(message), Vec::new());
        while let Some(field) = fields.next()? {
            found.push(field);
        }
        Ok(found)
    }

    #[test]
    fn every_type_of_field_is_read() {
        let mut message = vec![0x08, 0xac, 0x02, 0x12, 2, b'h', b'i', 0x19];
        message.extend_from_slice(&1.5_f64.to_le_bytes());
        message.extend_from_slice(&[0x25, 1, 2, 3, 4, 0x22, 0]);
        let expected = [
            (1, Field::Varint(300)),
            (2, Field::Bytes(b"hi")),
            (3, Field::Fixed64(1.5_f64.to_bits())),
            (4, Field::Fixed32),
            (4, Field::Bytes(b"")),
        ];
        assert_eq!(all(&message).unwrap(), expected);
        assert_eq!(all(b"").unwrap(), []);
    }

    #[test]
    fn integers_have_64_bits_and_no_more() {
        let minus_one = [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert_eq!(all(&minus_one).unwrap(), [(1, Field::Varint(u64::MAX))]);
        for last in [&[2][..], &[0x81, 1]] {
            let message = [&minus_one[..10], last].concat();
            assert_eq!(all(&message), Err(LONG_VARINT), "{last:?}");
        }
    }

    #[test]
    fn what_is_cut_short_or_no_field_is_broken() {
        for broken in [&[0x08][..], &[0x08, 0x80], &[0x12, 3, 1, 2], &[0x19, 1], &[0x25, 1]] {
            assert_eq!(all(broken), Err(ENDS_EARLY), "{broken:?}");
        }
        for broken in
            [&[0x00, 1][..], &[0x0b], &[0x0c], &[0x0e], &[0x0f], &[255, 255, 255, 255, 127]]
        {
            assert_eq!(all(broken), Err(NO_TAG), "{broken:?}");
        }
        let huge = [0x12, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert_eq!(all(&huge), Err(ENDS_EARLY));
    }
}
