//! The event's `integrations` object, by RudderStack's rules.
//!
//! 1. Missing: as `{}`. Present but no object (`null` too): no destination at all.
//! 2. `All` missing: true. Present but no boolean: no destination at all, named ones included.
//! 3. A boolean under our name decides. 4. An object under our name sends.
//! 5. Anything else under our name: `All` decides.
//!
//! Names compare exactly. Of several configured names the first that says anything decides.

use bytes::Bytes;
use smallvec::SmallVec;
use vrl::value::Value;

use super::{reader, scan};

/// The names under which `integrations` may speak of this destination.
#[derive(Clone, Debug)]
pub struct Integrations {
    names: Vec<Box<str>>,
    /// The names without case and punctuation, to notice near misses.
    looks: Vec<String>,
}

/// What the object said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// There is no `integrations`.
    Missing,
    /// Our name is `true` or an object.
    Named,
    /// Our name is `false`.
    NamedOff,
    /// `All` is true or missing, and our name says nothing.
    All,
    /// `All` is false, and our name says nothing.
    AllOff,
    /// `All` is no boolean.
    AllNotBoolean,
    /// `integrations` is no object.
    NotAnObject,
}

impl Said {
    /// Returns whether the event may pass.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(self, Self::Missing | Self::Named | Self::All)
    }

    /// Returns the word that `map --explain` shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "no_integrations",
            Self::Named => "named_true",
            Self::NamedOff => "named_false",
            Self::All => "all_true",
            Self::AllOff => "all_false",
            Self::AllNotBoolean => "all_not_boolean",
            Self::NotAnObject => "not_an_object",
        }
    }
}

/// A decision, and whether the object looks like a mistake of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What decided.
    pub said: Said,
    /// A name that is nearly ours, an `All` that is no boolean, or no object at all.
    pub suspicious: bool,
}

/// What one member says, as far as the rules care.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    Boolean(bool),
    Object,
    Other,
}

impl From<&Value> for Member {
    fn from(value: &Value) -> Self {
        match value {
            Value::Boolean(b) => Self::Boolean(*b),
            Value::Object(_) => Self::Object,
            _ => Self::Other,
        }
    }
}

impl From<&str> for Member {
    fn from(raw: &str) -> Self {
        match raw.as_bytes().first() {
            Some(b't') => Self::Boolean(true),
            Some(b'f') => Self::Boolean(false),
            Some(b'{') => Self::Object,
            _ => Self::Other,
        }
    }
}

impl Integrations {
    /// Makes the rule from the configured names.
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        let looks = names.iter().map(|n| look(n).collect()).collect();
        Self { names: names.iter().map(|n| n.as_str().into()).collect(), looks }
    }

    /// Decides; `raw` is the raw JSON of the member `integrations`.
    #[must_use]
    pub fn decide(&self, raw: Option<&Bytes>) -> Verdict {
        let Some(raw) = raw else {
            return Verdict { said: Said::Missing, suspicious: false };
        };
        self.glance(raw).unwrap_or_else(|| self.study(raw))
    }

    /// Decides without building anything; gives up on escapes and on what is no object.
    fn glance(&self, raw: &Bytes) -> Option<Verdict> {
        let mut reading = Reading::new(self);
        scan::members(std::str::from_utf8(raw).ok()?, |name, value| {
            reading.member(name, value.into());
            Some(())
        })?;
        Some(reading.verdict())
    }

    fn study(&self, raw: &Bytes) -> Verdict {
        let Some(Value::Object(object)) = reader::value(raw) else {
            return Verdict { said: Said::NotAnObject, suspicious: true };
        };
        let mut reading = Reading::new(self);
        for (name, value) in &object {
            reading.member(name, value.into());
        }
        reading.verdict()
    }
}

struct Reading<'r> {
    rule: &'r Integrations,
    all: Option<Member>,
    ours: SmallVec<[Option<Member>; 2]>,
    suspicious: bool,
}

impl<'r> Reading<'r> {
    fn new(rule: &'r Integrations) -> Self {
        Self {
            rule,
            all: None,
            ours: SmallVec::from_elem(None, rule.names.len()),
            suspicious: false,
        }
    }

    fn member(&mut self, name: &str, value: Member) {
        if name == "All" {
            self.all = Some(value);
        } else if let Some(i) = self.rule.names.iter().position(|n| &**n == name) {
            if let Some(slot) = self.ours.get_mut(i) {
                *slot = Some(value);
            }
        } else if self.rule.looks.iter().any(|l| l.chars().eq(look(name))) {
            self.suspicious = true;
        }
    }

    fn verdict(self) -> Verdict {
        let Some(all) = (match self.all {
            None => Some(true),
            Some(Member::Boolean(all)) => Some(all),
            Some(_) => None,
        }) else {
            return Verdict { said: Said::AllNotBoolean, suspicious: true };
        };
        let ours = self.ours.iter().find_map(|m| match m {
            Some(Member::Boolean(on)) => Some(*on),
            Some(Member::Object) => Some(true),
            _ => None,
        });
        let said = match (ours, all) {
            (Some(true), _) => Said::Named,
            (Some(false), _) => Said::NamedOff,
            (None, true) => Said::All,
            (None, false) => Said::AllOff,
        };
        Verdict { said, suspicious: self.suspicious }
    }
}

/// Reduces a name to what a reader would take for the same: lower-case letters and digits.
fn look(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Integrations {
        Integrations::new(&["Customer IO".to_owned()])
    }

    fn verdict(json: &str) -> Verdict {
        rule().decide(Some(&Bytes::copy_from_slice(json.as_bytes())))
    }

    #[test]
    fn the_rules_are_rudderstacks() {
        assert_eq!(rule().decide(None).said, Said::Missing);
        for (json, said) in [
            ("{}", Said::All),
            (r#"{"All":true}"#, Said::All),
            (r#"{"All":false}"#, Said::AllOff),
            (r#"{"All":false,"Customer IO":true}"#, Said::Named),
            (r#"{"All":true,"Customer IO":false}"#, Said::NamedOff),
            (r#"{"All":false,"Customer IO":{}}"#, Said::Named),
            (r#"{"All":false,"Customer IO":{"x":1}}"#, Said::Named),
            (r#"{"All":false,"Customer IO":"true"}"#, Said::AllOff),
            (r#"{"All":false,"Customer IO":null}"#, Said::AllOff),
            (r#"{"Customer IO":[]}"#, Said::All),
            (r#"{"Customer IO":1}"#, Said::All),
            (r#"{"All":"true","Customer IO":true}"#, Said::AllNotBoolean),
            (r#"{"All":null}"#, Said::AllNotBoolean),
            (r#"{"All":1}"#, Said::AllNotBoolean),
            (r#"{"all":false}"#, Said::All),
            ("null", Said::NotAnObject),
            ("[]", Said::NotAnObject),
            ("true", Said::NotAnObject),
            (r#"{"\u0041ll":false}"#, Said::AllOff),
            (r#"{"Customer IO":true,"Customer IO":false}"#, Said::NamedOff),
        ] {
            assert_eq!(verdict(json).said, said, "{json}");
        }
    }

    #[test]
    fn near_misses_of_our_name_are_suspicious_and_ignored() {
        for name in ["Customer.io", "CUSTOMERIO", "customerio", "customer io", "CUSTOMER IO "] {
            let json = serde_json::json!({ "All": false, name: true }).to_string();
            assert_eq!(verdict(&json), Verdict { said: Said::AllOff, suspicious: true }, "{name}");
        }
        assert!(!verdict(r#"{"All":true,"Customer IO":true,"Amplitude":false}"#).suspicious);
        assert!(verdict(r#"{"All":"false"}"#).suspicious);
        assert!(verdict("7").suspicious);
    }

    #[test]
    fn of_several_names_the_first_that_says_anything_decides() {
        let rule = Integrations::new(&["Customer IO".to_owned(), "Customer.io".to_owned()]);
        let said = |json: &'static str| rule.decide(Some(&Bytes::from_static(json.as_bytes())));
        let verdict = said(r#"{"Customer.io":false,"Customer IO":true}"#);
        assert_eq!(verdict, Verdict { said: Said::Named, suspicious: false });
        assert_eq!(said(r#"{"Customer.io":false,"Customer IO":null}"#).said, Said::NamedOff);
    }

    fn json() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        let value = prop_oneof![
            Just(serde_json::json!(true)),
            Just(serde_json::json!(false)),
            Just(serde_json::json!(null)),
            Just(serde_json::json!("true")),
            Just(serde_json::json!({ "a": [1, "}"] })),
            Just(serde_json::json!([])),
            Just(serde_json::json!(-1.5)),
        ];
        let name = prop_oneof![
            Just("All".to_owned()),
            Just("Customer IO".to_owned()),
            Just("customer.io".to_owned()),
            "[a\"\\\\é]{0,3}",
        ];
        proptest::collection::btree_map(name, value, 0..5)
            .prop_map(|m| serde_json::Value::Object(m.into_iter().collect()))
    }

    proptest::proptest! {
        #[test]
        fn a_glance_and_a_study_agree(object in json()) {
            let raw = Bytes::from(object.to_string());
            let rule = rule();
            if let Some(verdict) = rule.glance(&raw) {
                proptest::prop_assert_eq!(verdict, rule.study(&raw));
            }
        }
    }
}
