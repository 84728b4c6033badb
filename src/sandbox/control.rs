//! `/_sandbox/`: reading what is stored, and control. No Basic auth; for this machine, or with a
//! bearer token.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, Request, Response};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::engine::Engine;
use super::fault::Rule;
use super::operation::Identifier;
use super::options::Span;
use super::request::{FromElsewhere, json_answer, meta_error, parameter, segments};

/// People that a search returns at most.
const SEARCH_LIMIT: usize = 1000;

pub(super) fn answer(engine: &mut Engine, request: &Request<Bytes>) -> Response<Bytes> {
    if !may_control(engine, request) {
        return meta_error(403, "only from this machine, or with the control token");
    }
    let decoded = segments(request.uri());
    let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let query = |name: &str| parameter(request.uri().query(), name);
    let number = |name: &str| query(name).and_then(|text| text.parse::<u64>().ok());
    let limit = number("limit").map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let now = engine.clock.now();
    let put = *request.method() == Method::PUT || *request.method() == Method::POST;
    let get = *request.method() == Method::GET;
    match parts.as_slice() {
        ["people"] if get => {
            let text = query("q").unwrap_or_default();
            let after = query("after").unwrap_or_default();
            let limit = limit.unwrap_or(SEARCH_LIMIT);
            shown(&engine.workspace().search(&text, &after, limit))
        }
        ["people", cio_id] if get => {
            found(engine.workspace().person(&Identifier::CioId((*cio_id).to_owned())))
        }
        ["objects"] if get => shown(&engine.workspace().objects()),
        ["anonymous"] if get => shown(&engine.workspace().unattached(now)),
        ["anonymous", id] if get => found(engine.workspace().unattached(now).remove(*id)),
        ["invites"] if get => shown(&engine.workspace().invites()),
        ["deliveries"] if get => shown(&engine.workspace().deliveries()),
        ["segments"] if get => shown(engine.workspace().segments()),
        ["suppressed"] if get => shown(engine.workspace().suppressed()),
        ["events"] if get => {
            let since = number("since").unwrap_or(0);
            let limit = limit.unwrap_or(usize::MAX);
            shown(&engine.workspace().events_since(since, limit, now))
        }
        ["activity"] if get => shown(&engine.workspace().activity()),
        ["requests"] if get => {
            let status = number("status");
            let since = number("since").unwrap_or(0);
            let fits = |record: &super::log::RequestRecord| {
                status.is_none_or(|status| u64::from(record.status) == status)
                    && record.number > since
            };
            let requests = engine.log.iter().filter(|record| fits(record));
            shown(&requests.take(limit.unwrap_or(usize::MAX)).collect::<Vec<_>>())
        }
        ["requests", number] if get => {
            found(number.parse().ok().and_then(|number| engine.log.get(number)))
        }
        ["stats"] if get => shown(&engine.stats()),
        ["options"] if get => shown(engine.workspace.options()),
        ["faults"] if get => shown(&engine.faults.in_force()),
        ["faults"] if put => match rules(request.body()) {
            Ok(rules) => {
                engine.set_faults(rules);
                shown(&engine.faults.in_force())
            }
            Err(error) => meta_error(400, &error),
        },
        ["state"] if get => match engine.snapshot() {
            Ok(snapshot) => super::request::answer(200, snapshot),
            Err(error) => meta_error(500, &error.to_string()),
        },
        ["state"] if put => match engine.restore(request.body()) {
            Ok(()) => json_answer(200, &json!({})),
            Err(error) => meta_error(400, &error),
        },
        ["reset"] if put => {
            engine.reset();
            json_answer(200, &json!({}))
        }
        ["clock"] if get => json_answer(200, &json!({"now": now})),
        ["clock"] if put => set_clock(engine, request.body()),
        _ => meta_error(404, "not found"),
    }
}

fn may_control(engine: &Engine, request: &Request<Bytes>) -> bool {
    let from_elsewhere = request.extensions().get::<FromElsewhere>().is_some();
    match &engine.identity.control_token {
        None => !from_elsewhere,
        Some(token) => {
            let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            let bearer = given.and_then(|value| value.strip_prefix("Bearer "));
            !from_elsewhere || bearer == Some(token.expose_secret())
        }
    }
}

/// Reads a list of fault rules; a mistake is named with the rule's position.
fn rules(body: &[u8]) -> Result<Vec<Rule>, String> {
    let all: Vec<&RawValue> = serde_json::from_slice(body)
        .map_err(|error| format!("expected a JSON list of fault rules: {error}"))?;
    let rule = |(position, rule): (usize, &RawValue)| {
        serde_json::from_str(rule.get()).map_err(|error| format!("rule {position}: {error}"))
    };
    all.into_iter().enumerate().map(rule).collect()
}

/// `{"set": unix seconds}`, `{"advance": "5m"}`, or `{"follow": true}`.
fn set_clock(engine: &mut Engine, body: &[u8]) -> Response<Bytes> {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return meta_error(400, "body is not valid JSON");
    };
    let advance = body.get("advance").map(|span| serde_json::from_value::<Span>(span.clone()));
    match (body.get("set").and_then(Value::as_f64), advance) {
        (Some(seconds), _) if seconds.abs() < 1e12 => {
            #[expect(clippy::cast_possible_truncation, reason = "in range, see above")]
            engine.clock.set((seconds * 1000.0) as i64);
        }
        (None, Some(Ok(span))) => engine.clock.advance(span.as_millis()),
        (None, None) if body.get("follow") == Some(&Value::Bool(true)) => {
            engine.clock.follow_system();
        }
        _ => return meta_error(400, "expected one of `set`, `advance`, and `follow`"),
    }
    let now = engine.clock.now();
    engine.workspace.settle(now);
    json_answer(200, &json!({"now": now}))
}

fn shown<T: Serialize + ?Sized>(value: &T) -> Response<Bytes> {
    // Written at once, without a tree in between: there may be a million events.
    match serde_json::to_vec(value) {
        Ok(mut json) => {
            json.push(b'\n');
            super::request::answer(200, json)
        }
        Err(error) => meta_error(500, &error.to_string()),
    }
}

fn found<T: Serialize>(value: Option<T>) -> Response<Bytes> {
    value.map_or_else(|| meta_error(404, "not found"), |value| shown(&value))
}
