//! What an event says about consent: the lenient reader of `context.consentManagement`.
//!
//! RudderStack's server decodes the object into a typed record. Four rules reproduce that:
//!
//! 1. Names match in any ASCII letter case.
//! 2. Members are visited in ascending byte order of their names; a later one that matches the same
//!    field overwrites.
//! 3. `null` is never an error: it leaves a text as it was and makes a list empty; as an element of
//!    a list it is an empty text.
//! 4. The first wrong type stops the reading. What was read before stays; of a list with one wrong
//!    element nothing is kept.
//!
//! `allowedConsentIds` is not part of that record: whatever it is, it stops nothing.

use smallvec::SmallVec;
use vrl::value::Value;

use super::super::scan;
use crate::config::Strategy;

/// Consent ids without empty texts.
pub(super) type Ids<'a> = SmallVec<[&'a str; 8]>;

/// What an event says about consent. The default is an event that says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    /// The denied ids.
    pub denied: Ids<'a>,
    /// Whether a list of denied ids was there and readable.
    pub denied_read: bool,
    /// The allowed ids, if there is a readable list.
    pub allowed: Option<Ids<'a>>,
    /// The provider, or an empty text.
    pub provider: &'a str,
    /// The event's strategy: exactly `or`, or else *and*.
    pub strategy: Strategy,
    /// Whether a wrong type stopped the reading.
    pub malformed: bool,
}

impl Default for Answer<'_> {
    fn default() -> Self {
        Self {
            denied: Ids::new(),
            denied_read: false,
            allowed: None,
            provider: "",
            strategy: Strategy::And,
            malformed: false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Allowed,
    Denied,
    Provider,
    Strategy,
}

const FIELDS: [(&str, Field); 4] = [
    ("allowedConsentIds", Field::Allowed),
    ("deniedConsentIds", Field::Denied),
    ("provider", Field::Provider),
    ("resolutionStrategy", Field::Strategy),
];

impl Field {
    fn find(name: &str) -> Option<(Self, bool)> {
        let (exact, field) = FIELDS.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some((*field, *exact == name))
    }
}

fn strategy(text: &str) -> Strategy {
    if text == "or" { Strategy::Or } else { Strategy::And }
}

impl<'a> Answer<'a> {
    /// Reads the ordinary shape from the raw text, without building anything.
    ///
    /// Gives up, for [`Answer::study`] to decide, on every wrong type, escape, repeated name, and
    /// name in another letter case.
    pub(super) fn glance(raw: &'a str) -> Option<Self> {
        let mut answer = Self::default();
        let mut seen = [false; FIELDS.len()];
        scan::members(raw, |name, value| {
            let Some((field, exact)) = Field::find(name) else { return Some(()) };
            let seen = seen.get_mut(field as usize)?;
            if *seen || !exact {
                return None;
            }
            *seen = true;
            match field {
                Field::Allowed => answer.allowed = Some(raw_ids(value)?),
                Field::Denied => {
                    answer.denied = raw_ids(value)?;
                    answer.denied_read = true;
                }
                Field::Provider => answer.provider = raw_text(value)?,
                Field::Strategy => answer.strategy = strategy(raw_text(value)?),
            }
            Some(())
        })?;
        Some(answer)
    }

    /// Reads any value by the four rules.
    pub(super) fn study(value: &'a Value) -> Self {
        let mut answer = Self::default();
        match value {
            Value::Null => {}
            // The object's own order is the ascending byte order that the rules ask for.
            Value::Object(object) => {
                for (name, value) in object {
                    let Some((field, _)) = Field::find(name) else { continue };
                    if answer.read(field, value).is_none() {
                        answer.malformed = true;
                        break;
                    }
                }
            }
            _ => answer.malformed = true,
        }
        answer
    }

    fn read(&mut self, field: Field, value: &'a Value) -> Option<()> {
        match (field, value) {
            (Field::Allowed, value) => self.allowed = ids(value),
            (Field::Denied, value) => {
                self.denied = ids(value)?;
                self.denied_read = true;
            }
            (_, Value::Null) => {}
            (Field::Provider, value) => self.provider = value.to_str()?,
            (Field::Strategy, value) => self.strategy = strategy(value.to_str()?),
        }
        Some(())
    }
}

fn ids(value: &Value) -> Option<Ids<'_>> {
    let items = match value {
        Value::Null => return Some(Ids::new()),
        Value::Array(items) => items,
        _ => return None,
    };
    let mut ids = Ids::new();
    for item in items {
        match item {
            Value::Null => {}
            item => ids.extend(Some(item.to_str()?).filter(|id| !id.is_empty())),
        }
    }
    Some(ids)
}

fn raw_ids(raw: &str) -> Option<Ids<'_>> {
    let mut ids = Ids::new();
    scan::items(raw, |item| {
        ids.extend(Some(scan::text_of(item)?).filter(|id| !id.is_empty()));
        Some(())
    })?;
    Some(ids)
}

/// Reads a text; `null` too is left to the full reader, where it may mean an earlier value.
fn raw_text(raw: &str) -> Option<&str> {
    scan::text_of(raw)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::strategy::Strategy as _;
    use serde_json::json;

    use super::*;
    use crate::config::Strategy;

    fn study(json: serde_json::Value, check: impl FnOnce(&Answer<'_>)) {
        let value = serde_json::from_value(json).unwrap();
        check(&Answer::study(&value));
    }

    #[test]
    fn the_first_wrong_type_keeps_what_was_read_before() {
        study(
            json!({ "deniedConsentIds": ["a"], "provider": 5, "resolutionStrategy": "or" }),
            |a| {
                assert_eq!(
                    (a.denied.as_slice(), a.provider, a.strategy),
                    (&["a"][..], "", Strategy::And)
                );
                assert!(a.malformed && a.denied_read);
            },
        );
        // Upper case comes first in byte order, so that its mistake hides all others.
        study(
            json!({ "Provider": 5, "allowedConsentIds": ["b"], "deniedConsentIds": ["a"] }),
            |a| {
                assert_eq!((a.denied.len(), &a.allowed), (0, &None));
                assert!(a.malformed && !a.denied_read);
            },
        );
        study(json!({ "DENIEDCONSENTIDS": ["a"], "deniedConsentIds": ["b", 1] }), |a| {
            assert_eq!(a.denied.as_slice(), ["a"]);
            assert!(a.malformed);
        });
    }

    #[test]
    fn null_leaves_texts_and_empties_lists() {
        let json = json!({
            "DENIEDCONSENTIDS": ["a"], "deniedConsentIds": null,
            "PROVIDER": "ketch", "provider": null,
            "RESOLUTIONSTRATEGY": "or", "resolutionStrategy": null,
        });
        study(json, |a| {
            assert_eq!((a.denied.len(), a.provider, a.strategy), (0, "ketch", Strategy::Or));
            assert!(!a.malformed && a.denied_read);
        });
        study(json!({ "deniedConsentIds": ["a", null, ""] }), |a| {
            assert_eq!(a.denied.as_slice(), ["a"]);
        });
        study(json!(null), |a| assert_eq!(*a, Answer::default()));
    }

    #[test]
    fn names_match_in_ascii_letter_case_only() {
        study(json!({ "deniedConſentIds": ["a"], "denied_consent_ids": ["a"] }), |a| {
            assert_eq!(*a, Answer::default());
        });
        study(json!({ "dEnIeDcOnSeNtIdS": ["a"] }), |a| assert_eq!(a.denied.as_slice(), ["a"]));
    }

    #[test]
    fn allowed_ids_of_any_shape_stop_nothing() {
        for allowed in [json!(5), json!({}), json!(["a", 1]), json!("a")] {
            study(json!({ "allowedConsentIds": allowed, "deniedConsentIds": ["a"] }), |a| {
                assert_eq!(
                    (a.denied.as_slice(), &a.allowed, a.malformed),
                    (&["a"][..], &None, false)
                );
            });
        }
    }

    #[test]
    fn the_ordinary_shape_is_read_at_a_glance() {
        let raw = r#" { "provider":"oneTrust", "x":{"deniedConsentIds":[1]},
            "deniedConsentIds" : [ "C0002" , "", "C0004" ], "allowedConsentIds":["C0001"],
            "resolutionStrategy":"or" } "#;
        let answer = Answer::glance(raw).unwrap();
        assert_eq!(answer.denied.as_slice(), ["C0002", "C0004"]);
        assert_eq!(answer.allowed.unwrap().as_slice(), ["C0001"]);
        assert_eq!((answer.provider, answer.strategy), ("oneTrust", Strategy::Or));
        assert_eq!(Answer::glance("{}"), Some(Answer::default()));
        for unusual in [
            r#"{"deniedConsentIds":["a\u0062"]}"#,
            r#"{"deniedConsentIds":[],"deniedConsentIds":["a"]}"#,
            r#"{"Provider":"a"}"#,
            r#"{"provider":null}"#,
            r#"{"allowedConsentIds":5}"#,
            "[]",
        ] {
            assert_eq!(Answer::glance(unusual), None, "{unusual}");
        }
    }

    /// JSON texts near the shape, with repeated names, escapes, other cases, and wrong types.
    fn texts() -> impl proptest::strategy::Strategy<Value = String> {
        let text = prop_oneof![
            4 => "[a-c]{0,2}".prop_map(|s| format!("\"{s}\"")),
            1 => Just("null".to_owned()),
            1 => Just("\"\\u0061\"".to_owned()),
            1 => Just("7".to_owned()),
            1 => Just("\"or\"".to_owned()),
        ];
        let list = prop_oneof![
            8 => prop::collection::vec(text.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(" ,"))),
            1 => text.clone(),
            1 => Just("{\"a\":[]}".to_owned()),
        ];
        let member = prop_oneof![
            4 => list.prop_map(|v| format!("\"deniedConsentIds\":{v}")),
            2 => text.clone().prop_map(|v| format!("\"provider\": {v}")),
            2 => text.clone().prop_map(|v| format!("\"resolutionStrategy\":{v}")),
            1 => text.clone().prop_map(|v| format!("\"allowedConsentIds\":[{v}]")),
            1 => text.clone().prop_map(|v| format!("\"allowedConsentIds\":{v}")),
            1 => text.clone().prop_map(|v| format!("\"PROVIDER\":{v}")),
            1 => text.clone().prop_map(|v| format!("\"deni\\u0065dConsentIds\":[{v}]")),
            1 => text.prop_map(|v| format!("\"other\" :{{\"provider\":{v}}}")),
        ];
        prop::collection::vec(member, 0..5).prop_map(|m| format!("{{{}}}", m.join(",")))
    }

    proptest! {
        #[test]
        fn a_glance_and_a_study_agree(text in texts()) {
            let value = serde_json::from_str(&text).unwrap();
            if let Some(answer) = Answer::glance(&text) {
                prop_assert_eq!(answer, Answer::study(&value));
            }
        }
    }
}
