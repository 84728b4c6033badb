//! Who an operation is about: exactly one identifier of an allowed kind.

use serde_json::{Map, Value};

use super::{Checked, ItemError};
use crate::sandbox::operation::{Identifier, ObjectIdentifier};
use crate::sandbox::options::{NumericIds, Options};

/// Longest id, in bytes.
const MAX_ID_BYTES: usize = 150;
/// Longest e-mail address, in bytes.
const MAX_EMAIL_BYTES: usize = 254;

const ONE: &str = "must have exactly one identifier";

/// The kinds of identifiers that a place takes; others count as unknown members.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    person: bool,
    phone: bool,
    anonymous: bool,
}

impl Allowed {
    pub(super) fn person(options: &Options) -> Self {
        Self { person: true, phone: options.phone, anonymous: false }
    }

    pub(super) fn merge() -> Self {
        Self { person: true, phone: false, anonymous: false }
    }

    pub(super) fn or_anonymous(self) -> Self {
        Self { anonymous: true, ..self }
    }

    pub(super) fn anonymous() -> Self {
        Self { person: false, phone: false, anonymous: true }
    }

    fn takes(self, name: &str) -> bool {
        match name {
            "id" | "email" | "cio_id" => self.person,
            "phone" => self.phone,
            "anonymous_id" => self.anonymous,
            _ => false,
        }
    }
}

fn members(value: Option<Value>, field: &str) -> Checked<Map<String, Value>> {
    match value {
        None | Some(Value::Null) => {
            let name = field.rsplit('.').next().unwrap_or(field);
            Err(ItemError::required(field, format!("{name} is required")))
        }
        Some(Value::Object(members)) => Ok(members),
        Some(_) => Err(ItemError::invalid(field, "must be an object")),
    }
}

/// Checks the identifiers of a person.
pub(super) fn person(
    value: Option<Value>,
    field: &str,
    allowed: Allowed,
    options: &Options,
) -> Checked<Identifier> {
    let members = members(value, field)?;
    let mut known = members.into_iter().filter(|(name, _)| allowed.takes(name));
    match (known.next(), known.next()) {
        (Some((name, value)), None) => one(&name, value, field, options),
        _ => Err(ItemError::invalid(field, ONE)),
    }
}

/// Checks `primary` or `secondary` of a merge.
pub(super) fn merge_side(
    value: Option<Value>,
    field: &str,
    options: &Options,
) -> Checked<Identifier> {
    match value {
        Some(value) if !value.is_null() && !value.is_object() => {
            Err(ItemError::invalid(field, ONE))
        }
        value => person(value, field, Allowed::merge(), options),
    }
}

fn one(name: &str, value: Value, field: &str, options: &Options) -> Checked<Identifier> {
    let text = text(name, value, field, options)?;
    let at = || format!("{field}.{name}");
    let identifier = match name {
        "email" if !looks_like_email(&text) => {
            return Err(ItemError::invalid(at(), "email is not valid"));
        }
        "cio_id" if !text.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            return Err(ItemError::invalid(at(), "invalid identifier"));
        }
        "phone" if !is_phone(&text) => {
            return Err(ItemError::invalid(at(), "phone is not valid"));
        }
        "email" => Identifier::Email(text),
        "cio_id" => Identifier::CioId(text),
        "phone" => Identifier::Phone(text),
        "anonymous_id" => Identifier::Anonymous(short(name, text, field)?),
        _ => Identifier::Id(short(name, text, field)?),
    };
    Ok(identifier)
}

fn text(name: &str, value: Value, field: &str, options: &Options) -> Checked<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Ok(text),
        Value::Number(number) if options.numeric_ids == NumericIds::Accept => {
            Ok(number.to_string())
        }
        _ => Err(ItemError::invalid(
            format!("{field}.{name}"),
            format!("{name} must be a non-empty string"),
        )),
    }
}

fn short(name: &str, text: String, field: &str) -> Checked<String> {
    if text.len() > MAX_ID_BYTES {
        let message = format!("{name} cannot be longer than {MAX_ID_BYTES} bytes");
        return Err(ItemError::invalid(format!("{field}.{name}"), message));
    }
    Ok(text)
}

/// Checks the identifiers of an object.
pub(super) fn object(
    value: Option<Value>,
    field: &str,
    options: &Options,
) -> Checked<ObjectIdentifier> {
    let mut members = members(value, field)?;
    let by_cio = members.remove("cio_object_id");
    let type_id = members.remove("object_type_id");
    let object_id = members.remove("object_id");
    match (by_cio, type_id, object_id) {
        (Some(id), None, None) => {
            let id = text("cio_object_id", id, field, options)?;
            if id.bytes().all(|b| b.is_ascii_alphanumeric()) {
                Ok(ObjectIdentifier::CioObjectId(id))
            } else {
                Err(ItemError::invalid(format!("{field}.cio_object_id"), "invalid identifier"))
            }
        }
        (None, Some(type_id), Some(object_id)) => {
            let type_id = object_type(type_id, field, options)?;
            let object_id = text("object_id", object_id, field, options)?;
            let object_id = short("object_id", object_id, field)?;
            Ok(ObjectIdentifier::Pair { type_id, object_id })
        }
        _ => Err(ItemError::invalid(field, ONE)),
    }
}

fn object_type(value: Value, field: &str, options: &Options) -> Checked<String> {
    let refuse =
        |message: &str| Err(ItemError::invalid(format!("{field}.object_type_id"), message));
    let type_id = match value {
        Value::Number(number) if options.numeric_ids == NumericIds::Accept => number.to_string(),
        Value::String(text) if text.trim().is_empty() => {
            return refuse("object_type_id must be a non-empty string");
        }
        Value::String(text) => text,
        _ => return refuse("object_type_id must be a string"),
    };
    if !type_id.bytes().all(|b| b.is_ascii_digit()) {
        return refuse("object_type_id must be an integer as text");
    }
    if !options.object_types.has(&type_id) {
        return refuse("object_type_id does not exist");
    }
    Ok(type_id)
}

/// Checks the identifiers of a delivery.
pub(super) fn delivery(value: Option<Value>, options: &Options) -> Checked<String> {
    let mut members = members(value, "identifiers")?;
    match members.remove("id") {
        Some(id) => text("id", id, "identifiers", options),
        None => Err(ItemError::invalid("identifiers", ONE)),
    }
}

/// Tells whether a text has the shape of an e-mail address: one `@`, both sides non-empty, a dot
/// inside the right side, no blank or control character, at most 254 bytes.
pub(in crate::sandbox) fn looks_like_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let inner_dot = domain.trim_matches('.').contains('.');
    text.len() <= MAX_EMAIL_BYTES
        && !local.is_empty()
        && inner_dot
        && !domain.contains('@')
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn is_phone(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(value: Value) -> Checked<Identifier> {
        let options = Options::default();
        person(Some(value), "identifiers", Allowed::person(&options), &options)
    }

    #[test]
    fn unknown_members_do_not_count() {
        assert_eq!(check(json!({"id": "u", "other": 1})), Ok(Identifier::Id("u".into())));
        assert_eq!(check(json!({"phone": "+47"})).unwrap_err().message, ONE);
        assert_eq!(check(json!({"anonymous_id": "a"})).unwrap_err().message, ONE);
    }

    #[test]
    fn values_have_their_own_rules() {
        let cases = [
            (json!({"id": 7}), "id must be a non-empty string"),
            (json!({"id": "i".repeat(151)}), "id cannot be longer than 150 bytes"),
            (json!({"email": "a@b"}), "email is not valid"),
            (json!({"cio_id": "cio_a3"}), "invalid identifier"),
        ];
        for (value, message) in cases {
            assert_eq!(check(value).unwrap_err().message, message);
        }
    }

    #[test]
    fn numbers_are_taken_as_text_by_switch() {
        let options = Options { numeric_ids: NumericIds::Accept, ..Options::default() };
        let value = Some(json!({"id": 7}));
        let identifier = person(value, "identifiers", Allowed::person(&options), &options);
        assert_eq!(identifier, Ok(Identifier::Id("7".into())));
    }

    #[test]
    fn phones_need_the_workspace_setting() {
        let options = Options { phone: true, ..Options::default() };
        let check = |phone: &str| {
            let value = Some(json!({"phone": phone}));
            person(value, "identifiers", Allowed::person(&options), &options)
        };
        assert!(check("+4712345678").is_ok());
        assert_eq!(check("4712345678").unwrap_err().message, "phone is not valid");
    }

    #[test]
    fn object_pairs_count_as_one() {
        let options = Options { object_types: "1".to_owned().into_known(), ..Options::default() };
        let check = |value: Value| object(Some(value), "identifiers", &options);
        assert!(check(json!({"object_type_id": "1", "object_id": "acme"})).is_ok());
        assert_eq!(check(json!({"object_id": "acme"})).unwrap_err().message, ONE);
        let error = check(json!({"object_type_id": "2", "object_id": "acme"})).unwrap_err();
        assert_eq!(error.message, "object_type_id does not exist");
    }

    trait IntoKnown {
        fn into_known(self) -> crate::sandbox::options::Known;
    }

    impl IntoKnown for String {
        fn into_known(self) -> crate::sandbox::options::Known {
            crate::sandbox::options::Known::Only([self].into())
        }
    }

    #[test]
    fn e_mail_shape() {
        for right in ["a@b.c", "ada+news@example.org"] {
            assert!(looks_like_email(right), "{right}");
        }
        for wrong in ["", "a@b", "@b.c", "a@.c", "a@b.", "a@@b.c", "a b@c.d", "a@b\n.c"] {
            assert!(!looks_like_email(wrong), "{wrong:?}");
        }
    }
}
