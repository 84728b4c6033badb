//! A request as the sandbox sees it, and its answer with what happens on the wire.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::validate::ItemError;

/// Whether the connection comes from this machine; absent means yes.
#[derive(Clone, Copy, Debug)]
pub struct FromElsewhere;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// What is said.
    pub response: Response<Bytes>,
    /// How it is said.
    pub wire: Wire,
    /// The request's number; 0 if it was not for the Track API.
    pub number: u64,
}

/// What happens on the wire beside the answer itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// Wait before the answer is sent.
    pub delay: Duration,
    /// How the answer ends.
    pub ending: Ending,
    /// Close the connection when it has been idle for so long after this answer.
    pub close_idle: Option<Duration>,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// As it should.
    #[default]
    Whole,
    /// A TCP reset instead of an answer.
    Reset,
    /// A TCP reset after half of the body.
    ResetMidway,
    /// Never.
    Hang,
    /// One byte at a time, so far apart.
    Slow(Duration),
}

/// Builds an answer with the headers of the real Track API.
pub(super) fn answer(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status != StatusCode::NO_CONTENT {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    }
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate, max-age=0"),
    );
    headers.insert(http::header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    // The real service repeats its status line as a header.
    let text = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
    set_header(&mut response, "status", &text);
    response
}

/// Sets a header if name and value are possible.
pub(super) fn set_header(response: &mut Response<Bytes>, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        response.headers_mut().insert(name, value);
    }
}

/// JSON and a newline.
pub(super) fn json_answer(status: u16, body: &Value) -> Response<Bytes> {
    answer(status, format!("{body}\n"))
}

/// `{}`.
pub(super) fn accepted() -> Response<Bytes> {
    answer(200, Bytes::from_static(b"{}\n"))
}

/// `{"meta":{"error":…}}`.
pub(super) fn meta_error(status: u16, message: &str) -> Response<Bytes> {
    json_answer(status, &json!({"meta": {"error": message}}))
}

/// `{"meta":{"errors":[…]}}`.
pub(super) fn meta_errors(status: u16, message: &str) -> Response<Bytes> {
    json_answer(status, &json!({"meta": {"errors": [message]}}))
}

/// `{"errors":[…]}` of the v2 endpoints, without positions.
pub(super) fn v2_error(status: u16, error: &ItemError) -> Response<Bytes> {
    json_answer(status, &json!({"errors": [error]}))
}

/// `{"errors":[…]}` with positions.
pub(super) fn batch_errors(status: u16, errors: &[(usize, ItemError)]) -> Response<Bytes> {
    let one = |(index, error): &(usize, ItemError)| {
        json!({
            "batch_index": index,
            "reason": error.reason,
            "field": error.field,
            "message": error.message,
        })
    };
    json_answer(status, &json!({"errors": errors.iter().map(one).collect::<Vec<_>>()}))
}

/// Returns the decoded segments of a path below its first, such as `["people", "1"]` of
/// `/_sandbox/people/1`.
pub(super) fn segments(uri: &Uri) -> Vec<String> {
    let decoded = |part| percent_decode_str(part).decode_utf8_lossy().into_owned();
    uri.path().split('/').skip(2).map(decoded).collect()
}

/// Reads a parameter of a query.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(given, _)| *given == name)?;
    let value = value.replace('+', " ");
    Some(percent_decode_str(&value).decode_utf8_lossy().into_owned())
}
