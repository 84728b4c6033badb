//! Fault rules in short form, as the command line takes them.
//!
//! `KIND[:ARGUMENT,…][@PERCENT%]`, such as `503@10%`, `429:retry-after=2@5%`, `reset:after_request`,
//! `latency:p50=20ms,p99=500ms`, `items@5%`. A text that begins with `{` is a rule in JSON.

use serde_json::{Map, Value, json};

use super::Rule;

/// Reads a rule.
///
/// # Errors
///
/// A text that says what is wrong.
pub fn parse(text: &str) -> Result<Rule, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| format!("fault rule: {error}"));
    }
    // Only the kind is repeated: the argument may be a credential.
    let kind = text.split([':', '@']).next().unwrap_or_default();
    expand(text)
        .and_then(|rule| serde_json::from_value(rule).map_err(|error| error.to_string()))
        .map_err(|why| format!("fault `{kind}`: {why}"))
}

fn expand(text: &str) -> Result<Value, String> {
    let (what, share) = match text.rsplit_once('@') {
        Some((what, share)) if share.ends_with('%') => (what, Some(percent(share)?)),
        _ => (text, None),
    };
    let (kind, argument) = what.split_once(':').unwrap_or((what, ""));
    let kind = kind.trim().replace('-', "_");
    let mut share = share;
    let effect = match kind.as_str() {
        "items" | "items_in_200" => {
            // Of a batch the share is that of its items.
            let mut chosen = named(argument)?;
            if let Some(share) = share.take() {
                chosen.insert("probability".to_owned(), json!(share));
            }
            if chosen.is_empty() {
                return Err("expected a share such as `items@5%`, or `items:person=ID`".to_owned());
            }
            json!({ kind.as_str(): chosen })
        }
        "latency" if argument.contains('=') => json!({"latency": named(argument)?}),
        "latency" | "close_idle" | "reset" | "bad_errors" if argument.is_empty() => {
            return Err(format!("expected an argument, as in `{kind}:…`"));
        }
        "latency" | "close_idle" => json!({ kind.as_str(): argument }),
        "reset" | "bad_errors" => json!({ kind.as_str(): argument.replace('-', "_") }),
        "slow_body" if !argument.is_empty() => json!({"slow_body": argument}),
        "whole_batch_400" if !argument.is_empty() => {
            json!({"whole_batch_400": argument.replace('-', "_")})
        }
        "hang" | "slow_body" | "whole_batch_400" => json!({ kind.as_str(): true }),
        "rate_limit" if argument.contains('=') => json!({"rate_limit": named(argument)?}),
        "rate_limit" => json!({"rate_limit": number(argument)?}),
        "unauthorized" => json!({"unauthorized": named(argument)?}),
        "redirect" => json!({"redirect": {"location": argument}}),
        "no_dedupe" => json!({"duplicate_id_ignored": false}),
        status => {
            let status: u16 = status
                .parse()
                .ok()
                .filter(|status| (200..600).contains(status))
                .ok_or_else(|| format!("unknown kind `{kind}`"))?;
            let mut effect = Map::from_iter([("status".to_owned(), json!(status))]);
            for (name, value) in named(argument)? {
                let value = if name == "html" { json!(true) } else { value };
                effect.insert(name, value);
            }
            Value::Object(effect)
        }
    };
    let when = share.map_or_else(|| json!({}), |share| json!({"probability": share}));
    Ok(json!({"when": when, "do": effect}))
}

fn percent(text: &str) -> Result<f64, String> {
    let number: f64 = text
        .trim_end_matches('%')
        .parse()
        .map_err(|_| format!("`{text}` is no share, expected such as `10%`"))?;
    if (0.0..=100.0).contains(&number) {
        Ok(number / 100.0)
    } else {
        Err(format!("`{text}` is not between 0% and 100%"))
    }
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

/// Reads `name=value,name`; a value that is JSON keeps its type.
fn named(text: &str) -> Result<Map<String, Value>, String> {
    let mut members = Map::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, "true"));
        if name.trim().is_empty() {
            return Err(format!("`{part}` has no name"));
        }
        let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
        members.insert(name.trim().replace('-', "_"), value);
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(text: &str) -> Value {
        let rule = serde_json::to_value(parse(text).unwrap()).unwrap();
        json!([rule["do"], rule["when"]])
    }

    #[test]
    fn short_forms_stand_for_rules() {
        for (text, expected) in [
            ("503@10%", json!([{"status": 503}, {"probability": 0.1}])),
            (
                "429:retry-after=2@5%",
                json!([{"status": 429, "retry_after": 2}, {"probability": 0.05}]),
            ),
            ("502:html", json!([{"status": 502, "html": true}, {}])),
            ("reset:after-request", json!([{"reset": "after_request"}, {}])),
            (
                "latency:p50=20ms,p99=1s",
                json!([{"latency": {"p50": "20ms", "p99": "1000ms", "after": false}}, {}]),
            ),
            ("items@5%", json!([{"items": {"probability": 0.05}}, {}])),
            ("items:person=u-1", json!([{"items": {"person": "u-1"}}, {}])),
            ("hang@1%", json!([{"hang": true}, {"probability": 0.01}])),
            ("rate-limit:10", json!([{"rate_limit": {"per_second": 10.0, "burst": 10.0}}, {}])),
            (r#"{"do":{"status":500},"when":{"every":3}}"#, json!([{"status": 500}, {"every": 3}])),
        ] {
            assert_eq!(effect(text), expected, "{text}");
        }
        let redirect = effect("redirect:https://track-eu.customer.io/api/v2/batch");
        assert_eq!(redirect[0]["redirect"]["status"], 307);
    }

    #[test]
    fn mistakes_are_named() {
        for text in ["", "teapot", "99", "503@ten%", "503@200%", "reset", "reset:never", "items"] {
            let error = parse(text).unwrap_err();
            let kind = text.split([':', '@']).next().unwrap();
            assert!(error.starts_with(&format!("fault `{kind}`: ")), "{error}");
        }
        assert!(parse(r#"{"do":{"statuss":500}}"#).unwrap_err().contains("statuss"));
    }
}
