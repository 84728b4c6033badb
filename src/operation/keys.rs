//! Conflict keys: which operations must not overtake each other.
//!
//! Every identity that an operation names gives a key, and also what an identify is about to make
//! an identity of the same person: its attributes `id`, `email`, `phone`, `cio_id`, and
//! `anonymous_id`. A key too many costs a little waiting; a key too few costs the order. So an `id`
//! that could be taken for an e-mail address or for a `cio_` id has that key too.
//!
//! Keys are stored with their operations: the way they are made is frozen.

use smallvec::SmallVec;
use vrl::value::{ObjectMap, Value};
use xxhash_rust::xxh3::xxh3_64;

use super::grammar::{Action, Form, Type};

/// Hashes of each identity that an operation names, sorted and without repeats.
///
/// Stable across processes: `xxh3_64` of the identity's kind and value (an e-mail in lower case).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConflictKeys(pub SmallVec<[u64; 4]>);

impl ConflictKeys {
    /// Collects the keys of a checked operation.
    #[must_use]
    pub fn of(operation: &ObjectMap, form: Form) -> Self {
        let mut found = Collector::default();
        if form.type_ == Type::Delivery {
            if let Some(Value::Object(identifiers)) = operation.get("identifiers") {
                found.texts(identifiers, &[("id", "delivery")]);
            }
            return found.finish();
        }
        for member in ["identifiers", "primary", "secondary"] {
            found.identifiers(operation.get(member));
        }
        if form.type_ == Type::Person && form.action == Action::Identify {
            found.person(operation.get("attributes"));
        }
        if form.action == Action::IdentifyAnonymous {
            found.texts(operation, &[("anonymous_id", "anonymous_id")]);
        }
        let relations = operation.get("cio_relationships").and_then(Value::as_array);
        for relation in relations.into_iter().flatten().filter_map(Value::as_object) {
            found.identifiers(relation.get("identifiers"));
        }
        found.finish()
    }
}

/// Members that name a person, and the kind of identity they are.
const PERSON: [(&str, &str); 5] = [
    ("id", "id"),
    ("email", "email"),
    ("phone", "phone"),
    ("cio_id", "cio_id"),
    ("anonymous_id", "anonymous_id"),
];

#[derive(Default)]
struct Collector {
    keys: SmallVec<[u64; 4]>,
    scratch: SmallVec<[u8; 160]>,
}

impl Collector {
    fn identifiers(&mut self, identifiers: Option<&Value>) {
        self.person(identifiers);
        let Some(identifiers) = identifiers.and_then(Value::as_object) else { return };
        let text = |member: &str| identifiers.get(member).and_then(Value::to_str);
        if let (Some(type_id), Some(id)) = (text("object_type_id"), text("object_id")) {
            self.add("object", &[type_id, id]);
            return;
        }
        // A kind that is not known here may be one that Customer.io has added.
        for (kind, value) in identifiers {
            if !PERSON.iter().any(|(known, _)| *known == kind.as_str()) {
                self.add(kind, &[value.to_str().unwrap_or_default()]);
            }
        }
    }

    fn person(&mut self, members: Option<&Value>) {
        if let Some(members) = members.and_then(Value::as_object) {
            self.texts(members, &PERSON);
        }
    }

    fn texts(&mut self, members: &ObjectMap, kinds: &[(&str, &str)]) {
        for (member, kind) in kinds {
            match members.get(*member).and_then(Value::to_str) {
                None | Some("") => {}
                Some(value) if *kind == "email" => self.email(value),
                Some(value) => {
                    self.add(kind, &[value]);
                    if *kind == "id" {
                        self.look_alikes(value);
                    }
                }
            }
        }
    }

    /// The Track API v1 tells the kind of an identifier from its shape, and v2 may.
    fn look_alikes(&mut self, id: &str) {
        if id.contains('@') {
            self.email(id);
        }
        if let Some(cio_id) = id.strip_prefix("cio_") {
            self.add("cio_id", &[cio_id]);
        }
    }

    fn email(&mut self, address: &str) {
        if address.bytes().any(|b| b.is_ascii_uppercase() || !b.is_ascii()) {
            self.add("email", &[&address.to_lowercase()]);
        } else {
            self.add("email", &[address]);
        }
    }

    /// Adds the hash of the kind and the parts, each behind a NUL.
    fn add(&mut self, kind: &str, parts: &[&str]) {
        self.scratch.clear();
        self.scratch.extend_from_slice(kind.as_bytes());
        for part in parts {
            self.scratch.push(0);
            self.scratch.extend_from_slice(part.as_bytes());
        }
        self.keys.push(xxh3_64(&self.scratch));
    }

    fn finish(mut self) -> ConflictKeys {
        self.keys.sort_unstable();
        self.keys.dedup();
        ConflictKeys(self.keys)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::grammar;
    use super::*;

    fn keys(json: serde_json::Value) -> Vec<u64> {
        let value: Value = serde_json::from_value(json).unwrap();
        let operation = value.as_object().unwrap();
        ConflictKeys::of(operation, grammar::check(operation).unwrap()).0.to_vec()
    }

    fn hashes(identities: &[&str]) -> Vec<u64> {
        let mut hashes: Vec<u64> = identities.iter().map(|i| xxh3_64(i.as_bytes())).collect();
        hashes.sort_unstable();
        hashes
    }

    #[test]
    fn every_identity_that_is_named_gives_a_key() {
        for (operation, identities) in [
            (
                json!({ "type": "person", "action": "event", "name": "e", "identifiers": { "id": "u-1" }, "attributes": { "email": "x@y.z" } }),
                &["id\0u-1"][..],
            ),
            (
                json!({ "type": "person", "action": "event", "name": "e", "identifiers": { "anonymous_id": "a" } }),
                &["anonymous_id\0a"],
            ),
            (
                json!({ "type": "person", "action": "identify", "identifiers": { "email": "Ada@Example.ORG" } }),
                &["email\0ada@example.org"],
            ),
            (
                json!({ "type": "person", "action": "delete", "identifiers": { "cio_id": "c1" } }),
                &["cio_id\0c1"],
            ),
            (
                json!({ "type": "person", "action": "suppress", "identifiers": { "phone": "+1" } }),
                &["phone\0+1"],
            ),
            (
                json!({ "type": "person", "action": "suppress", "identifiers": { "new_kind": "x" } }),
                &["new_kind\0x"],
            ),
            (
                json!({ "type": "person", "action": "identify", "identifiers": { "id": "u" }, "attributes":
                    { "email": "ÄDA@x.io", "anonymous_id": "a", "phone": null, "name": "n", "id": "u", "cio_id": "" } }),
                &["id\0u", "email\0äda@x.io", "anonymous_id\0a"],
            ),
            (
                json!({ "type": "person", "action": "merge", "primary": { "id": "new" }, "secondary": { "email": "o@x.io" } }),
                &["id\0new", "email\0o@x.io"],
            ),
            (
                json!({ "type": "person", "action": "add_device", "identifiers": { "id": "u" }, "device": { "token": "t" } }),
                &["id\0u"],
            ),
            (
                json!({ "type": "object", "action": "identify", "identifiers": { "object_type_id": "1", "object_id": "acme" },
                    "attributes": { "email": "x@y.z" }, "cio_relationships": [{ "identifiers": { "id": "u" } }] }),
                &["object\x001\0acme", "id\0u"],
            ),
            (
                json!({ "type": "person", "action": "add_relationships", "identifiers": { "id": "u" },
                    "cio_relationships": [{ "identifiers": { "object_type_id": "1", "object_id": "acme" } }, { "identifiers": { "cio_object_id": "o" } }] }),
                &["object\x001\0acme", "cio_object_id\0o", "id\0u"],
            ),
            (
                json!({ "type": "object", "action": "identify_anonymous", "anonymous_id": "a", "identifiers": { "cio_object_id": "o" } }),
                &["cio_object_id\0o", "anonymous_id\0a"],
            ),
            (
                json!({ "type": "delivery", "action": "event", "name": "opened", "identifiers": { "id": "d" } }),
                &["delivery\0d"],
            ),
        ] {
            assert_eq!(keys(operation.clone()), hashes(identities), "{operation}");
        }
    }

    #[test]
    fn an_id_that_looks_like_another_kind_waits_for_that_kind_too() {
        let of = |id: &str| {
            keys(json!({ "type": "person", "action": "delete", "identifiers": { "id": id } }))
        };
        assert_eq!(of("A@x.io"), hashes(&["id\0A@x.io", "email\0a@x.io"]));
        assert_eq!(of("cio_9"), hashes(&["id\0cio_9", "cio_id\09"]));
        assert_eq!(of("U"), hashes(&["id\0U"]));
    }

    #[test]
    fn keys_are_the_same_in_every_process_and_version() {
        let key =
            keys(json!({ "type": "person", "action": "delete", "identifiers": { "id": "u-100" } }));
        assert_eq!(key, [15_811_246_896_859_881_778]);
    }

    proptest::proptest! {
        #[test]
        fn keys_are_sorted_without_repeats(ids in proptest::collection::vec("[ab]{1,2}", 0..8)) {
            let relations: Vec<_> = ids.iter().map(|id| json!({ "identifiers": { "id": id } })).collect();
            let keys = keys(json!({ "type": "object", "action": "add_relationships",
                "identifiers": { "cio_object_id": "o" }, "cio_relationships": relations }));
            proptest::prop_assert!(keys.windows(2).all(|w| w[0] < w[1]));
            let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
            proptest::prop_assert_eq!(keys.len(), distinct.len() + 1);
        }
    }
}
