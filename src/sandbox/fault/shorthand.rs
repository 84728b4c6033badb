//! Fault rules in short form, as the command line takes them.
//!
//! `KIND[:ARGUMENT,…][@CONDITION,…]`, such as `503@10%`, `429:retry-after=2@5%`,
//! `reset:after-request@times=3`, `latency:p50=20ms,p99=500ms`. A text that begins with `{` is a rule
//! in JSON.

use std::str::FromStr;

use serde_json::{Map, Value, json};

use super::Rule;

/// The kinds with their forms, which errors show.
const FORMS: [(&str, &str); 15] = [
    ("STATUS", "503, 429:retry-after=2, 503:retry-after=date, 502:html, 400:body=TEXT"),
    ("rate-limit", "rate-limit:100, rate-limit:per-second=100,burst=5"),
    ("items", "items@5%, items:indexes=0+3, items:person=u-1"),
    ("items-in-200", "items-in-200@5%, items-in-200:indexes=0+3, items-in-200:person=u-1"),
    (
        "bad-errors",
        "bad-errors:index-out-of-range, bad-errors:index-missing, bad-errors:not-a-list, \
         bad-errors:cut, bad-errors:empty, bad-errors:html",
    ),
    ("whole-batch-400", "whole-batch-400, whole-batch-400:bad-items, whole-batch-400:person=u-1"),
    ("latency", "latency:200ms, latency:200ms,after, latency:p50=20ms,p99=500ms"),
    ("reset", "reset:accept, reset:after-request, reset:mid-response"),
    ("hang", "hang"),
    ("slow-body", "slow-body, slow-body:100ms"),
    ("close-idle", "close-idle:500ms"),
    (
        "unauthorized",
        "unauthorized, unauthorized:from=10s,to=30s, unauthorized:until=SITE_ID:API_KEY",
    ),
    ("redirect", "redirect:URL, redirect:308:URL"),
    ("no-dedupe", "no-dedupe"),
    ("none", "none (exempts from the rules behind it)"),
];

/// The conditions behind `@`.
const CONDITIONS: &str = "@10%, @every=10, @first=5, @times=3, @after=3s, @for=30s";

impl FromStr for Rule {
    type Err = String;

    /// Reads a rule, written short or as JSON. The error says what is wrong, and which forms there
    /// are.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            return serde_json::from_str(text).map_err(|error| format!("fault rule: {error}"));
        }
        // Only the kind is repeated: the argument may be a credential.
        let kind = text.split([':', '@']).next().unwrap_or_default();
        expand(text)
            .and_then(|rule| serde_json::from_value(rule).map_err(|error| error.to_string()))
            .map_err(|why| format!("fault `{kind}`: {why}; {}", forms(kind)))
    }
}

/// The right forms of a kind, or all kinds if there is none of this name.
fn forms(kind: &str) -> String {
    let kind = kind.trim().replace('_', "-");
    let is_status = kind.starts_with(|first: char| first.is_ascii_digit());
    let name = if is_status { "STATUS" } else { kind.as_str() };
    match FORMS.iter().find(|(known, _)| *known == name) {
        Some((_, forms)) => format!("the forms are {forms}, each with {CONDITIONS}"),
        None => {
            let kinds: Vec<_> = FORMS.iter().map(|(kind, _)| *kind).collect();
            format!("the kinds are {}", kinds.join(", "))
        }
    }
}

fn expand(text: &str) -> Result<Value, String> {
    let (mut what, mut when) = (text, Map::new());
    while let Some((before, conditions)) = what.rsplit_once('@')
        && is_conditions(conditions)
    {
        add_conditions(&mut when, conditions)?;
        what = before;
    }
    let (kind, argument) = match what.split_once(':') {
        Some((kind, argument)) => (kind, Some(argument.trim())),
        None => (what, None),
    };
    if kind.contains('@') {
        return Err("the condition behind `@` is unknown".to_owned());
    }
    let effect = effect(&kind.trim().replace('-', "_"), argument, &mut when)?;
    Ok(json!({"when": when, "do": effect}))
}

fn effect(
    kind: &str,
    argument: Option<&str>,
    when: &mut Map<String, Value>,
) -> Result<Value, String> {
    let effect = match (kind, argument) {
        ("hang", None) => json!({"hang": true}),
        ("slow_body", None) => json!({"slow_body": true}),
        ("whole_batch_400", None) => json!({"whole_batch_400": true}),
        ("no_dedupe", None) => json!({"duplicate_id_ignored": false}),
        ("unauthorized", None) => json!({"unauthorized": {}}),
        ("none", None) => json!({}),
        ("items" | "items_in_200", argument) => {
            // Of a batch the share is that of its items.
            let mut chosen = items(argument.unwrap_or_default())?;
            if let Some(share) = when.remove("probability") {
                chosen.insert("probability".to_owned(), share);
            }
            if chosen.is_empty() {
                return Err("which items?".to_owned());
            }
            json!({ kind: chosen })
        }
        ("hang" | "no_dedupe" | "none", Some(_)) => return Err("takes no argument".to_owned()),
        ("latency", Some(argument)) => json!({"latency": latency(argument)?}),
        ("slow_body" | "close_idle", Some(argument)) => json!({ kind: argument }),
        ("reset" | "bad_errors", Some(argument)) => json!({ kind: argument.replace('-', "_") }),
        ("whole_batch_400", Some(argument)) if argument.contains('=') => {
            json!({"whole_batch_400": true, "items": items(argument)?})
        }
        ("whole_batch_400", Some(argument)) => {
            json!({"whole_batch_400": argument.replace('-', "_")})
        }
        ("rate_limit", Some(argument)) if argument.contains('=') => {
            json!({"rate_limit": named(argument)?})
        }
        ("rate_limit", Some(argument)) => json!({"rate_limit": number(argument)?}),
        ("unauthorized", Some(argument)) => json!({"unauthorized": unauthorized(argument)?}),
        ("redirect", Some(argument)) => json!({"redirect": redirect(argument)}),
        ("latency" | "close_idle" | "reset" | "bad_errors" | "rate_limit" | "redirect", None) => {
            return Err("needs an argument".to_owned());
        }
        (status, argument) => fixed(status, argument.unwrap_or_default())?,
    };
    Ok(effect)
}

/// Whether the text behind an `@` is meant as conditions; an identifier may have an `@` of its own.
fn is_conditions(text: &str) -> bool {
    let known = ["every", "first", "times", "after", "for"];
    text.split(',').all(|part| {
        part.trim_end().ends_with('%')
            || part.split_once('=').is_some_and(|(name, _)| known.contains(&name.trim()))
    })
}

fn add_conditions(when: &mut Map<String, Value>, text: &str) -> Result<(), String> {
    for part in text.split(',').map(str::trim) {
        let (name, value) = match part.split_once('=') {
            Some((name @ ("after" | "for"), span)) => (name, json!(span)),
            Some((name, count)) => {
                let count: u64 = count.parse().map_err(|_| format!("`{count}` is no number"))?;
                (name, json!(count))
            }
            None => ("probability", json!(percent(part)?)),
        };
        if when.insert(name.trim().to_owned(), value).is_some() {
            return Err(format!("`@{name}` is given twice"));
        }
    }
    Ok(())
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
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| format!("`{text}` is no number"))
}

/// A fixed answer: `html`, `retry-after=…`, `body=…`.
fn fixed(kind: &str, argument: &str) -> Result<Value, String> {
    let status: u16 = kind.parse().map_err(|_| "unknown kind".to_owned())?;
    let mut effect = Map::from_iter([("status".to_owned(), json!(status))]);
    for (name, value) in named(argument)? {
        let value = if name == "html" { json!(true) } else { value };
        effect.insert(name, value);
    }
    Ok(Value::Object(effect))
}

/// `person=ID` or `indexes=0+3`; an identifier stays text.
fn items(text: &str) -> Result<Map<String, Value>, String> {
    let mut chosen = Map::new();
    for part in parts(text) {
        match part.split_once('=') {
            Some(("person", id)) => chosen.insert("person".to_owned(), json!(id)),
            Some(("indexes", list)) => {
                let indexes = list.split('+').map(|index| {
                    index.trim().parse().map_err(|_| format!("`{index}` is no position"))
                });
                let indexes: Vec<usize> = indexes.collect::<Result<_, String>>()?;
                chosen.insert("indexes".to_owned(), json!(indexes))
            }
            _ => return Err(format!("`{part}` is not understood")),
        };
    }
    Ok(chosen)
}

/// A span, or `p50=…,p99=…`; `after` waits when the request was applied.
fn latency(text: &str) -> Result<Value, String> {
    let mut pair = Map::new();
    for part in parts(text) {
        let (name, value) = match part.split_once('=') {
            Some((name, span)) => (name, json!(span)),
            None if part == "after" => ("after", json!(true)),
            None => ("p50", json!(part)),
        };
        pair.insert(name.trim().to_owned(), value);
    }
    if pair.contains_key("p50") { Ok(pair.into()) } else { Err("how long?".to_owned()) }
}

/// `from=…`, `to=…`, `until=SITE_ID:API_KEY`; all texts, and a key may contain anything but a comma.
fn unauthorized(text: &str) -> Result<Map<String, Value>, String> {
    let mut members = Map::new();
    for part in parts(text) {
        // The part may be a credential that lost its name: not repeated.
        let (name, value) = part.split_once('=').ok_or("an argument has no `=`")?;
        if !matches!(name, "from" | "to" | "until") {
            return Err("its arguments are `from`, `to`, and `until`".to_owned());
        }
        members.insert(name.to_owned(), json!(value));
    }
    Ok(members)
}

/// A URL, behind a status if it is not 307.
fn redirect(text: &str) -> Value {
    let behind_status = text.split_once(':').and_then(|(status, location)| {
        let status: u16 = status.parse().ok()?;
        Some(json!({"status": status, "location": location}))
    });
    behind_status.unwrap_or_else(|| json!({"location": text}))
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Reads `name=value,name`; a value that is JSON keeps its type.
fn named(text: &str) -> Result<Map<String, Value>, String> {
    let mut members = Map::new();
    for part in parts(text) {
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
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Rule, String> {
        text.parse()
    }

    fn effect(text: &str) -> Value {
        let rule = serde_json::to_value(parse(text).unwrap()).unwrap();
        json!([rule["do"], rule["when"]])
    }

    #[test]
    fn short_forms_stand_for_rules() {
        for (text, expected) in [
            ("503@10%", json!([{"status": 503}, {"probability": 0.1}])),
            ("503@every=10", json!([{"status": 503}, {"every": 10}])),
            (
                "503@first=5,times=3,50%",
                json!([{"status": 503}, {"first": 5, "times": 3, "probability": 0.5}]),
            ),
            (
                "hang@after=3s,for=30s",
                json!([{"hang": true}, {"after": "3000ms", "for": "30000ms"}]),
            ),
            (
                "429:retry-after=2@5%",
                json!([{"status": 429, "retry_after": 2}, {"probability": 0.05}]),
            ),
            ("503:retry-after=date", json!([{"status": 503, "retry_after": "date"}, {}])),
            ("502:html", json!([{"status": 502, "html": true}, {}])),
            ("400:body=no", json!([{"status": 400, "body": "no"}, {}])),
            ("reset:accept", json!([{"reset": "accept"}, {}])),
            ("reset:after-request", json!([{"reset": "after_request"}, {}])),
            ("reset:mid-response", json!([{"reset": "mid_response"}, {}])),
            (
                "latency:p50=20ms,p99=1s",
                json!([{"latency": {"p50": "20ms", "p99": "1000ms", "after": false}}, {}]),
            ),
            (
                "latency:20ms,after",
                json!([{"latency": {"p50": "20ms", "p99": "20ms", "after": true}}, {}]),
            ),
            ("items@5%", json!([{"items": {"probability": 0.05}}, {}])),
            ("items:indexes=0+3", json!([{"items": {"indexes": [0, 3]}}, {}])),
            ("items:person=7@times=1", json!([{"items": {"person": "7"}}, {"times": 1}])),
            ("items:person=ada@b.no", json!([{"items": {"person": "ada@b.no"}}, {}])),
            ("items-in-200@5%", json!([{"items_in_200": {"probability": 0.05}}, {}])),
            ("bad-errors:not-a-list", json!([{"bad_errors": "not_a_list"}, {}])),
            ("whole-batch-400", json!([{"whole_batch_400": true}, {}])),
            ("whole-batch-400:bad-items", json!([{"whole_batch_400": "bad_items"}, {}])),
            (
                "whole-batch-400:person=u",
                json!([{"whole_batch_400": true, "items": {"person": "u"}}, {}]),
            ),
            ("hang@1%", json!([{"hang": true}, {"probability": 0.01}])),
            ("slow-body", json!([{"slow_body": "1000ms"}, {}])),
            ("close-idle:5ms", json!([{"close_idle": "5ms"}, {}])),
            ("unauthorized", json!([{"unauthorized": {}}, {}])),
            (
                "unauthorized:from=10s,to=30s",
                json!([{"unauthorized": {"from": "10000ms", "to": "30000ms"}}, {}]),
            ),
            ("no-dedupe", json!([{"duplicate_id_ignored": false}, {}])),
            ("none", json!([{}, {}])),
            ("rate-limit:10", json!([{"rate_limit": {"per_second": 10.0, "burst": 10.0}}, {}])),
            (
                "rate-limit:per-second=10,burst=2",
                json!([{"rate_limit": {"per_second": 10.0, "burst": 2.0}}, {}]),
            ),
            (r#"{"do":{"status":500},"when":{"every":3}}"#, json!([{"status": 500}, {"every": 3}])),
        ] {
            assert_eq!(effect(text), expected, "{text}");
        }
        for (text, status) in
            [("redirect:https://eu.invalid/a@b", 307), ("redirect:308:https://eu.invalid/a@b", 308)]
        {
            let redirect = &effect(text)[0]["redirect"];
            assert_eq!(redirect, &json!({"status": status, "location": "https://eu.invalid/a@b"}));
        }
    }

    #[test]
    fn every_form_that_errors_show_is_accepted() {
        for (kind, forms) in FORMS {
            // A comma alone separates arguments, with a blank it separates forms.
            for form in forms.split(", ") {
                let form = form.split(" (").next().unwrap().trim();
                let given = form.replace("URL", "https://x.invalid");
                parse(&given).unwrap_or_else(|error| panic!("{kind}, {form}: {error}"));
                for condition in CONDITIONS.split(", ") {
                    let twice = given.contains('%') && condition.contains('%');
                    let read = parse(&format!("{given}{condition}"));
                    assert_eq!(read.is_err(), twice, "{given}{condition}");
                }
            }
        }
    }

    #[test]
    fn mistakes_are_named_with_the_right_forms() {
        for (text, shown) in [
            ("", "the kinds are STATUS"),
            ("teapot", "unknown kind; the kinds are STATUS, rate-limit, items"),
            ("99", "between 200 and 599"),
            ("503@ten%", "`ten%` is no share"),
            ("503@200%", "not between 0% and 100%"),
            ("503@evry=3", "behind `@` is unknown; the forms are 503, 429:retry-after=2"),
            ("503@every=0", "`when.every`"),
            ("503@every=3,every=4", "given twice"),
            ("503:htlm", "htlm"),
            ("reset", "reset:accept, reset:after-request, reset:mid-response"),
            ("reset:never", "never"),
            ("items", "items:indexes=0+3"),
            ("items:indexes=a", "`a` is no position"),
            ("hang:5s", "takes no argument"),
            ("latency", "latency:200ms"),
            ("latency:after", "how long?"),
            ("redirect:", "`redirect.location`"),
            ("unauthorized:until=key", "SITE_ID:API_KEY"),
            ("rate-limit:inf", "`inf` is no number"),
            ("rate-limit:0", "rate_limit"),
        ] {
            let error = parse(text).unwrap_err();
            let kind = text.split([':', '@']).next().unwrap();
            assert!(error.starts_with(&format!("fault `{kind}`: ")), "{error}");
            assert!(error.contains(shown), "{text}: {error}");
        }
        assert!(parse(r#"{"do":{"statuss":500}}"#).unwrap_err().contains("statuss"));
        let secret = parse("unauthorized:site:very-secret").unwrap_err();
        assert!(!secret.contains("very-secret"), "{secret}");
    }

    fn spans() -> impl Strategy<Value = Value> {
        prop_oneof![
            (0..100_000_u32).prop_map(|millis| json!(millis)),
            (0..10_000_000_u64).prop_map(|micros| json!(format!(
                "{}.{:06}s",
                micros / 1_000_000,
                micros % 1_000_000
            ))),
            (0..100_u32).prop_map(|hours| json!(format!("{hours}h"))),
        ]
    }

    fn effects() -> impl Strategy<Value = Value> {
        prop_oneof![
            (200..600_u16, 0..100_i64, ".*").prop_map(|(status, wait, body)| json!({"status": status, "retry_after": wait, "body": body})),
            (0.001..1e6_f64, 1.0..1e6_f64).prop_map(|(rate, burst)| json!({"rate_limit": {"per_second": rate, "burst": burst}})),
            (0.0..=1.0_f64, ".*", prop::collection::vec(any::<u16>(), 0..4)).prop_map(|(share, person, indexes)| json!({"items": {"probability": share, "person": person, "indexes": indexes}, "error": {"message": "x"}})),
            prop::sample::select(vec!["index_out_of_range", "index_missing", "not_a_list", "cut", "empty", "html"]).prop_map(|kind| json!({"bad_errors": kind})),
            spans().prop_map(|span| json!({"latency": span, "close_idle": span})),
            spans().prop_map(|span| json!({"slow_body": span, "duplicate_id_ignored": false})),
            spans().prop_map(|span| json!({"unauthorized": {"from": span}})),
            prop::sample::select(vec!["accept", "after_request", "mid_response"]).prop_map(|at| json!({"reset": at})),
            prop::sample::select(vec![json!(true), json!("bad_items")]).prop_map(|whole| json!({"whole_batch_400": whole})),
            Just(json!({"redirect": {"status": 308, "location": "https://x.invalid"}})),
            Just(json!({"hang": true})),
        ]
    }

    fn conditions() -> impl Strategy<Value = Value> {
        (0.0..=1.0_f64, 1..u64::MAX, any::<u64>(), spans(), spans()).prop_map(
            |(share, every, times, after, lasting)| {
                json!({"probability": share, "every": every, "first": times, "times": times, "after": after, "for": lasting})
            },
        )
    }

    proptest! {
        #[test]
        fn a_rule_as_shown_reads_as_itself(effect in effects(), when in conditions()) {
            let given = json!({"when": when, "do": effect}).to_string();
            let shown = serde_json::to_string(&parse(&given).unwrap()).unwrap();
            let again = serde_json::to_string(&parse(&shown).unwrap()).unwrap();
            prop_assert_eq!(shown, again);
        }

        #[test]
        fn any_text_is_a_rule_or_an_error(text in any::<String>()) {
            drop(parse(&text));
        }

        #[test]
        fn any_mixture_of_the_forms_parts_is_a_rule_or_an_error(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "503", "items", "items-in-200", "latency", "reset", "redirect", "unauthorized",
                    "rate-limit", "whole-batch-400", "slow-body", "bad-errors", "hang", ":", "@",
                    ",", "=", "%", "+", "-", "1", "1e400", "NaN", "0.5", "ms", "é", "until", "from",
                    "every", "for", "after", "p50", "p99", "person", "indexes", "retry-after",
                    "accept", "{", "}", "\"", "null", "18446744073709551616",
                ]),
                0..12,
            )
        ) {
            let text = parts.concat();
            if let Ok(rule) = parse(&text) {
                let shown = serde_json::to_string(&rule).unwrap();
                if !text.contains("until") {
                    prop_assert!(parse(&shown).is_ok(), "{} → {}", text, shown);
                }
            }
        }
    }
}
