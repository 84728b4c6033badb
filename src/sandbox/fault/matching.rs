//! Whether a request, or one item of it, is what a rule is for.

use serde_json::Value;

use super::Match;

/// What rules look at.
#[derive(Clone, Copy, Debug)]
pub(in crate::sandbox) struct Seen<'a> {
    pub(in crate::sandbox) method: &'a str,
    pub(in crate::sandbox) path: &'a str,
    pub(in crate::sandbox) body: &'a [u8],
}

impl Match {
    pub(super) fn fits(&self, seen: &Seen<'_>) -> bool {
        let method = |method: &String| method.eq_ignore_ascii_case(seen.method);
        let contains = |text: &String| {
            text.is_empty() || memchr::memmem::find(seen.body, text.as_bytes()).is_some()
        };
        self.method.as_ref().is_none_or(method)
            && self.path.as_ref().is_none_or(|pattern| glob(pattern, seen.path))
            && self.body_contains.as_ref().is_none_or(contains)
            && self.person.as_ref().is_none_or(|person| request_names(seen, person))
    }
}

/// Whether path or body name an identifier.
pub(in crate::sandbox) fn request_names(seen: &Seen<'_>, person: &str) -> bool {
    let mut segments = seen.path.split('/').map(|segment| {
        percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
    });
    if segments.any(|segment| segment == person || segment.strip_prefix("cio_") == Some(person)) {
        return true;
    }
    // Most requests do not name the person at all; parsing is for those that might.
    if memchr::memmem::find(seen.body, person.as_bytes()).is_none() {
        return false;
    }
    let Ok(body) = serde_json::from_slice::<Value>(seen.body) else { return false };
    match body.get("batch").and_then(Value::as_array) {
        Some(items) => items.iter().any(|item| item_names(item, person)),
        None => item_names(&body, person),
    }
}

/// Whether an operation names an identifier as its own, or as a side of a merge.
pub(in crate::sandbox) fn item_names(item: &Value, person: &str) -> bool {
    let direct = ["anonymous_id"].iter().filter_map(|name| item.get(name));
    let grouped = ["identifiers", "primary", "secondary"]
        .iter()
        .filter_map(|name| item.get(name).and_then(Value::as_object))
        .flat_map(|members| members.values());
    direct.chain(grouped).any(|value| value.as_str() == Some(person))
}

/// Matches `*` with any text.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, fits) in [
            ("/api/v2/*", "/api/v2/batch", true),
            ("/api/v2/batch", "/api/v2/batch", true),
            ("/api/v2/batch", "/api/v2/batches", false),
            ("*/events", "/api/v1/customers/u/events", true),
            ("/api/*/customers/*/events", "/api/v1/customers/u/events", true),
            ("/api/*/segments/*/events", "/api/v1/customers/u/events", false),
            ("*", "", true),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_person_is_found_in_path_and_identifiers_only() {
        let rule = Match { person: Some("u-1".to_owned()), ..Match::default() };
        let fits = |path: &str, body: Value| {
            let body = body.to_string();
            rule.fits(&Seen { method: "POST", path, body: body.as_bytes() })
        };
        assert!(fits("/api/v1/customers/u%2D1", json!(null)));
        assert!(fits("/", json!({"batch": [{"identifiers": {"id": "u-1"}}]})));
        assert!(fits("/", json!({"primary": {"id": "u-1"}})));
        assert!(!fits("/", json!({"batch": [{"attributes": {"id": "u-1"}}]})));
    }
}
