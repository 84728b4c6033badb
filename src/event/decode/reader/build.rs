//! A value out of its text, as far as it is needed.

use std::borrow::Cow;

use vrl::value::{KeyString, ObjectMap, Value};

use super::{EXPECTED_VALUE, Fault, MAX_DEPTH, Reader};
use crate::event::Need;

impl<'a> Reader<'a> {
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
}

fn key_string(key: Cow<'_, str>) -> KeyString {
    match key {
        Cow::Borrowed(key) => KeyString::from(key),
        Cow::Owned(key) => KeyString::from(key),
    }
}
