//! Answers of the endpoints.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::replay::{Message, Refusal};

use super::Reloaded;

/// What every endpoint answers.
pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    of_body(status, kind, Full::new(body.into()).boxed_unsync())
}

fn of_body(
    status: StatusCode,
    kind: &'static str,
    body: UnsyncBoxBody<Bytes, Infallible>,
) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn with(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}

pub(super) fn text(text: &str) -> Answer {
    answer(StatusCode::OK, TEXT, format!("{text}\n"))
}

pub(super) fn error(status: StatusCode, text: &str) -> Answer {
    answer(status, TEXT, format!("{text}\n"))
}

pub(super) fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => answer(StatusCode::OK, JSON, body),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written"),
    }
}

pub(super) fn ready(reasons: &[String]) -> Answer {
    if reasons.is_empty() {
        return text("ready");
    }
    error(StatusCode::SERVICE_UNAVAILABLE, &reasons.join("\n"))
}

pub(super) fn metrics(rendered: Option<String>) -> Answer {
    match rendered {
        Some(text) => answer(StatusCode::OK, PROMETHEUS, text),
        None => not_supported("this process keeps no metrics"),
    }
}

pub(super) fn reloaded(result: Result<Reloaded, String>) -> Answer {
    match result {
        Ok(reloaded) => text(&reloaded.to_string()),
        Err(reasons) => error(StatusCode::UNPROCESSABLE_ENTITY, &reasons),
    }
}

/// Answers with messages as they come, one JSON object a line.
pub(super) fn replay(begun: Result<mpsc::Receiver<Message>, Refusal>) -> Answer {
    let messages = match begun {
        Ok(messages) => messages,
        Err(refusal) => {
            let status = match &refusal {
                Refusal::Busy => StatusCode::CONFLICT,
                Refusal::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
                Refusal::Unreadable(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            return error(status, &refusal.to_string());
        }
    };
    let lines = futures_util::stream::unfold(messages, |mut messages| async {
        let message = messages.recv().await?;
        let mut line = serde_json::to_vec(&message).unwrap_or_default();
        line.push(b'\n');
        Some((Ok(Frame::data(Bytes::from(line))), messages))
    });
    of_body(StatusCode::OK, NDJSON, StreamBody::new(lines).boxed_unsync())
}

pub(super) fn unauthorized() -> Answer {
    let refusal = error(StatusCode::UNAUTHORIZED, "send `Authorization: Bearer` with admin.token");
    with(refusal, WWW_AUTHENTICATE, "Bearer")
}

pub(super) fn wrong_method(allowed: &'static str) -> Answer {
    let refusal =
        error(StatusCode::METHOD_NOT_ALLOWED, &format!("wrong method, allowed: {allowed}"));
    with(refusal, ALLOW, allowed)
}

pub(super) fn not_found() -> Answer {
    error(
        StatusCode::NOT_FOUND,
        "no such endpoint; there are /livez /readyz /metrics /status /reload /pause /resume \
         /replay",
    )
}

pub(super) fn not_supported(text: &str) -> Answer {
    error(StatusCode::NOT_IMPLEMENTED, text)
}
