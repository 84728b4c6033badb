//! Cross-origin requests: any origin, with credentials, any request header.
//!
//! The list of requested headers is echoed, since `*` covers neither `authorization` nor requests
//! with credentials.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use http::{Method, StatusCode};

use super::answer::Answer;

/// Answers a preflight; `None` for any other request.
pub fn preflight(method: &Method, headers: &HeaderMap) -> Option<Answer> {
    let requested = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    if method != Method::OPTIONS {
        return None;
    }
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let out = answer.headers_mut();
    out.insert(
        VARY,
        HeaderValue::from_static(
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        ),
    );
    if let Some(origin) = headers.get(ORIGIN)
        && matches!(requested.as_bytes(), b"GET" | b"POST" | b"HEAD")
    {
        allow(out, origin);
        out.insert(ACCESS_CONTROL_ALLOW_METHODS, requested.clone());
        if let Some(names) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            out.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        out.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("900"));
    }
    Some(answer)
}

/// Lets the page of `origin` read the answer, errors included.
pub fn share(answer: &mut Answer, origin: Option<&HeaderValue>) {
    let out = answer.headers_mut();
    out.insert(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        allow(out, origin);
    }
}

fn allow(out: &mut HeaderMap, origin: &HeaderValue) {
    out.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    out.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
}
