//! Customer.io Track API v2 operations: grammar, limits, conflict keys, event id.

pub mod event_id;
pub mod grammar;
pub mod keys;
pub mod v1;
pub mod warnings;
mod wire;

use bytes::Bytes;
use smallvec::SmallVec;
use vrl::value::{ObjectMap, Value};

use self::grammar::{Action, Form, Type};
use self::wire::{NOT_FINITE, Wire};
use crate::event::identity::IdInput;
use crate::outcome::{Reason, ReasonCode};
use crate::telemetry::names;

pub use keys::ConflictKeys;

/// Largest operation that Customer.io takes, in bytes of compact JSON.
pub const MAX_OPERATION_BYTES: usize = 32_768;

/// What an operation does, as far as delivery has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Anything that may share a batch with earlier operations of its keys.
    Ordinary,
    /// Merges two people: waits for both and for `merge_settle`.
    Merge,
    /// Deletes or suppresses (or lifts a suppression): never shares a batch with its keys.
    Barrier,
}

impl From<Form> for Effect {
    fn from(form: Form) -> Self {
        match form.action {
            Action::Merge => Self::Merge,
            Action::Delete | Action::Suppress | Action::Unsuppress => Self::Barrier,
            _ => Self::Ordinary,
        }
    }
}

/// One checked operation, serialised once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Hashes of every identity that the operation names.
    pub keys: ConflictKeys,
    /// How it is ordered against others.
    pub effect: Effect,
    /// The JSON that is stored and sent.
    pub body: Bytes,
}

/// Operations of one event; nearly always one.
pub type Operations = SmallVec<[Operation; 1]>;

/// Checks what a script returned, adds event ids, and serialises.
///
/// `script` names the file in messages. An empty array gives no operation (the caller drops the
/// event). `buffer` is scratch space that keeps its capacity.
///
/// # Errors
///
/// `invalid_operation`, `operation_too_large`, or `bad_event_id`, with a text that names script
/// and member.
pub fn prepare(
    root: Value,
    script: &str,
    id_input: &IdInput,
    buffer: &mut Vec<u8>,
) -> Result<Operations, Reason> {
    let mut press = Press { script, id_input, given_ids: 0, buffer };
    match root {
        Value::Object(operation) => Ok(smallvec::smallvec![press.one(operation, None)?]),
        Value::Array(items) => items
            .into_iter()
            .enumerate()
            .map(|(i, item)| match item {
                Value::Object(operation) => press.one(operation, Some(i)),
                _ => Err(invalid(grammar::not_an_object(script, i))),
            })
            .collect(),
        _ => Err(invalid(grammar::not_a_result(script))),
    }
}

/// What the operations of one event share on their way.
struct Press<'a> {
    script: &'a str,
    id_input: &'a IdInput,
    given_ids: u32,
    buffer: &'a mut Vec<u8>,
}

impl Press<'_> {
    fn one(&mut self, mut operation: ObjectMap, index: Option<usize>) -> Result<Operation, Reason> {
        let form =
            grammar::check(&operation).map_err(|fault| invalid(fault.tell(self.script, index)))?;
        warnings::look(&operation, form, &mut |code| {
            metrics::counter!(names::WARNINGS, "code" => code).increment(1);
        });
        let keys = ConflictKeys::of(&operation, form);
        self.give_id(&mut operation, form, index)?;
        let body = self.serialize(operation, index)?;
        Ok(Operation { keys, effect: form.into(), body })
    }

    /// Gives an event of a person its id, unless the script has set one.
    fn give_id(
        &mut self,
        operation: &mut ObjectMap,
        form: Form,
        index: Option<usize>,
    ) -> Result<(), Reason> {
        let is_event = matches!(form.action, Action::Event | Action::Page | Action::Screen);
        if form.type_ != Type::Person || !is_event {
            return Ok(());
        }
        match operation.get("id") {
            None | Some(Value::Null) => {
                let id = event_id::event_id(self.id_input, self.given_ids);
                self.given_ids += 1;
                operation.insert("id".into(), Value::from(id));
                Ok(())
            }
            Some(id) if id.to_str().is_some_and(event_id::is_ulid) => Ok(()),
            Some(_) => {
                let place = self.place("id", index);
                let text = format!("{place} must be a ULID (26 characters of Crockford base 32)");
                Err(Reason::new(ReasonCode::BadEventId, text))
            }
        }
    }

    fn serialize(&mut self, operation: ObjectMap, index: Option<usize>) -> Result<Bytes, Reason> {
        self.buffer.clear();
        let operation = Value::Object(operation);
        // Writing to memory cannot fail: what fails is a number.
        serde_json::to_writer(&mut *self.buffer, &Wire(&operation))
            .map_err(|_| invalid(format!("{}: {NOT_FINITE}", self.script)))?;
        let size = self.buffer.len();
        if size > MAX_OPERATION_BYTES {
            // The scratch space of ordinary operations is small.
            *self.buffer = Vec::new();
            let subject = index.map_or("operation".to_owned(), |i| format!("operations[{i}]"));
            let text = format!(
                "{}: {subject} size ({size} bytes) exceeds Customer.io's limit of \
                 {MAX_OPERATION_BYTES} bytes per operation",
                self.script
            );
            return Err(Reason::new(ReasonCode::OperationTooLarge, text));
        }
        Ok(Bytes::copy_from_slice(self.buffer))
    }

    fn place(&self, member: &str, index: Option<usize>) -> String {
        match index {
            Some(i) => format!("{}: operations[{i}].{member}", self.script),
            None => format!("{}: {member}", self.script),
        }
    }
}

fn invalid(text: String) -> Reason {
    Reason::new(ReasonCode::InvalidOperation, text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vrl::value::KeyString;

    use super::*;

    fn input() -> IdInput {
        IdInput {
            message_id: "msg-0001".into(),
            type_name: "track".into(),
            name: "Order Completed".into(),
            user_id: "u-100".into(),
            anonymous_id: "anon-1".into(),
            ms: 1_709_296_496_789,
        }
    }

    fn ready(root: Value) -> Result<Operations, Reason> {
        prepare(root, "x.vrl", &input(), &mut Vec::new())
    }

    fn from(json: serde_json::Value) -> Result<Operations, Reason> {
        ready(serde_json::from_value(json).unwrap())
    }

    fn bodies(operations: &Operations) -> Vec<serde_json::Value> {
        operations.iter().map(|o| serde_json::from_slice(&o.body).unwrap()).collect()
    }

    fn event(members: serde_json::Value) -> serde_json::Value {
        let mut operation = json!({ "type": "person", "action": "event", "identifiers": { "id": "u" }, "name": "e" });
        for (name, value) in members.as_object().unwrap() {
            operation[name] = value.clone();
        }
        operation
    }

    #[test]
    fn ids_are_counted_over_the_operations_that_get_one() {
        let own = "01arz3ndektsv4rrffq69g5fav";
        let identify =
            json!({ "type": "person", "action": "identify", "identifiers": { "id": "u" } });
        let delivery = json!({ "type": "delivery", "action": "event", "identifiers": { "id": "d" }, "name": "opened" });
        let operations = from(json!([
            identify,
            event(json!({})),
            event(json!({ "id": own })),
            event(json!({ "id": null, "action": "screen" })),
            delivery,
        ]))
        .unwrap();
        let ids: Vec<_> = bodies(&operations).iter().map(|b| b["id"].clone()).collect();
        assert_eq!(
            ids,
            [
                json!(null),
                json!("01HQX05C4NJXDYF2MRBF6GKJE6"),
                json!(own),
                json!("01HQX05C4NSS1QANJA7Q0AQTY1"),
                json!(null)
            ]
        );
    }

    #[test]
    fn a_scripts_id_that_is_no_ulid_fails_the_event() {
        for id in [json!("msg-1"), json!(""), json!(7)] {
            let reason = from(json!([event(json!({})), event(json!({ "id": id }))])).unwrap_err();
            assert_eq!(reason.code, ReasonCode::BadEventId);
            assert!(reason.detail.unwrap().starts_with("x.vrl: operations[1].id must be a ULID"));
        }
    }

    #[test]
    fn an_empty_array_is_no_operation_and_no_error() {
        assert_eq!(from(json!([])).unwrap().len(), 0);
    }

    #[test]
    fn one_bad_operation_fails_all() {
        let reason = from(json!([event(json!({})), { "type": "person" }])).unwrap_err();
        assert_eq!(reason.code, ReasonCode::InvalidOperation);
        assert!(reason.detail.unwrap().starts_with("x.vrl: operations[1].action must be"));
        for root in [json!(5), json!([5])] {
            assert_eq!(from(root).unwrap_err().code, ReasonCode::InvalidOperation);
        }
    }

    #[test]
    fn the_limit_is_of_the_bytes_that_are_sent() {
        let with = |n: usize| from(event(json!({ "attributes": { "x": "é".repeat(n / 2) } })));
        let empty = with(0).unwrap()[0].body.len();
        let room = MAX_OPERATION_BYTES - empty;
        assert_eq!(room % 2, 0, "the fixture must be able to hit the limit");
        assert_eq!(with(room).unwrap()[0].body.len(), MAX_OPERATION_BYTES);
        let reason = with(room + 2).unwrap_err();
        assert_eq!(reason.code, ReasonCode::OperationTooLarge);
        let detail = reason.detail.unwrap();
        assert!(detail.starts_with("x.vrl: ") && detail.contains("(32770 bytes)"), "{detail}");
    }

    #[test]
    fn effects_follow_the_action() {
        let of = |action: &str| {
            let operation = json!({ "type": "person", "action": action, "identifiers": { "id": "u" },
                "name": "n", "primary": { "id": "a" }, "secondary": { "id": "b" } });
            from(operation).unwrap()[0].effect
        };
        assert_eq!(of("merge"), Effect::Merge);
        for action in ["delete", "suppress", "unsuppress"] {
            assert_eq!(of(action), Effect::Barrier);
        }
        assert_eq!(of("identify"), Effect::Ordinary);
    }

    #[test]
    fn values_that_json_does_not_know_become_texts_or_are_refused() {
        let time = chrono::DateTime::from_timestamp(1_709_296_496, 500_000_000).unwrap();
        let with = |value: Value| {
            let mut root: Value =
                serde_json::from_value(event(json!({ "attributes": {} }))).unwrap();
            let attributes = root.as_object_mut().unwrap().get_mut("attributes").unwrap();
            attributes.as_object_mut().unwrap().insert(KeyString::from("x"), value);
            ready(root)
        };
        let shown = |value: Value| bodies(&with(value).unwrap())[0]["attributes"]["x"].clone();
        assert_eq!(shown(Value::from(time)), json!("2024-03-01T12:34:56.500Z"));
        assert_eq!(shown(Value::Bytes(Bytes::from_static(b"a\xff"))), json!("a\u{fffd}"));
        let infinite = Value::Array(vec![Value::from_f64_or_zero(f64::INFINITY)]);
        let reason = with(infinite).unwrap_err();
        assert_eq!(reason.code, ReasonCode::InvalidOperation);
        assert!(reason.detail.unwrap().contains("not finite"));
    }
}
