//! Answers, and what they make a sender do.
//!
//! Vector sends again after 408, 429, and any 5xx but 501, without end; any other 4xx makes it drop the
//! batch. So 4xx says that a repetition can never work, and 503 everything else.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use http_body_util::Full;

use super::elements::{MAX_ELEMENTS, Uncut};
use crate::source::Refused;
use crate::source::body::Unread;
use crate::source::repeats::NotDelivered;
use crate::source::server::OVERLOAD;

/// What the source answers with.
pub(super) type Answer = Response<Full<Bytes>>;

/// Why a request is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The events cannot be taken now: how long to wait, the label of the metric, and the text.
    Unavailable(Duration, &'static str, &'static str),
    /// No token, or another one.
    WrongToken,
    /// A browser sends it on behalf of a page, and no token is asked for.
    FromPage,
    /// The method is none by which events are sent.
    WrongMethod,
    /// gRPC, as Vector's `vector` sink speaks it.
    Grpc,
    /// The body was not read.
    Unread(Unread),
    /// The body does not hold elements.
    Uncut(Uncut),
}

impl Refusal {
    /// Returns the label of the metric.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Unavailable(_, label, _) => label,
            Self::Unread(Unread::Full(_)) => OVERLOAD,
            Self::WrongToken => "unauthorized",
            Self::FromPage | Self::WrongMethod => "invalid_request",
            Self::Grpc | Self::Uncut(Uncut::Native) => "codec",
            Self::Unread(Unread::BrokenOff | Unread::TooSlow) => "body_unreadable",
            Self::Unread(Unread::BrokenCoding | Unread::UnknownCoding) => "encoding",
            Self::Unread(Unread::TooLarge) | Self::Uncut(Uncut::TooMany) => "too_large",
            Self::Uncut(Uncut::Empty | Uncut::NotJson) => "invalid_json",
        }
    }

    /// Tells whether senders drop what is refused so, which the operator has to know.
    pub(super) fn is_final(self) -> bool {
        !matches!(
            self,
            Self::Unavailable(..)
                | Self::Unread(Unread::Full(_) | Unread::BrokenOff | Unread::TooSlow)
        )
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Unavailable(..) | Self::Unread(Unread::Full(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::FromPage => StatusCode::FORBIDDEN,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Grpc | Self::Uncut(Uncut::Native) | Self::Unread(Unread::UnknownCoding) => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Self::Unread(Unread::BrokenOff | Unread::TooSlow) => StatusCode::REQUEST_TIMEOUT,
            Self::Unread(Unread::BrokenCoding) | Self::Uncut(Uncut::Empty | Uncut::NotJson) => {
                StatusCode::BAD_REQUEST
            }
            Self::Unread(Unread::TooLarge) | Self::Uncut(Uncut::TooMany) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
        }
    }

    /// Says what is wrong and what to do. `max_body` is the limit of bodies in bytes.
    pub(super) fn text(self, max_body: u64) -> String {
        let text = match self {
            Self::Unavailable(_, _, why) => why,
            Self::WrongToken => {
                "the token is missing or wrong: send the source's `token` as Bearer token, or as user \
                 or password of Basic (Vector: `auth` of the sink)"
            }
            Self::FromPage => "web pages may not send here unless the source has a `token`",
            Self::WrongMethod => {
                "send events with POST or PUT; GET and HEAD tell whether they are taken"
            }
            Self::Grpc => {
                "this source speaks HTTP: send with Vector's `http` sink, or to a source of type `vector`"
            }
            Self::Unread(Unread::Full(_)) => "too many bodies at once; send again",
            Self::Unread(Unread::BrokenOff) => "the body broke off; send again",
            Self::Unread(Unread::TooSlow) => "the body did not arrive in time; send again",
            Self::Unread(Unread::BrokenCoding) => "the body is not what its Content-Encoding says",
            Self::Unread(Unread::UnknownCoding) => {
                "the Content-Encoding is not known: use gzip, zstd, deflate (zlib), snappy, or none"
            }
            Self::Unread(Unread::TooLarge) => {
                return format!(
                    "the body is larger than {max_body} bytes after unpacking: raise the source's \
                     `max_body`, or send less at once (Vector: `batch.max_bytes`)"
                );
            }
            Self::Uncut(Uncut::TooMany) => {
                return format!(
                    "the body holds more than {MAX_ELEMENTS} elements: send less at once (Vector: \
                     `batch.max_events`)"
                );
            }
            Self::Uncut(Uncut::Empty) => "the body is empty",
            Self::Uncut(Uncut::NotJson) => {
                "the body is not JSON: send an object, an array, {\"batch\":[…]}, or NDJSON"
            }
            Self::Uncut(Uncut::Native) => {
                "the body is in a codec of Vector's own: set `encoding.codec` of the sink to json"
            }
        };
        text.to_owned()
    }

    /// Makes the answer.
    pub(super) fn answer(self, max_body: u64) -> Answer {
        let mut answer = error(self.status(), &self.text(max_body));
        let headers = answer.headers_mut();
        match self {
            Self::Unavailable(after, ..) | Self::Unread(Unread::Full(after)) => {
                let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
            }
            Self::WrongToken => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::WrongMethod => {
                headers.insert(ALLOW, HeaderValue::from_static("POST, PUT, GET, HEAD"));
            }
            _ => {}
        }
        answer
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        const LATER: Duration = Duration::from_secs(5);
        let (after, why) = match refused {
            Refused::Full(after) => (after, "there is no room now; send again"),
            Refused::Closed => (LATER, "the process is stopping; send again"),
            Refused::Unavailable => (LATER, "events cannot be stored now; send again"),
        };
        Self::Unavailable(after, refused.label(), why)
    }
}

impl From<NotDelivered> for Refusal {
    fn from(_: NotDelivered) -> Self {
        let why = "the events are taken, but not delivered yet; send the same again to wait on, or set \
                   the source's `ack` to buffered";
        Self::Unavailable(Duration::from_secs(1), NotDelivered::LABEL, why)
    }
}

impl From<Unread> for Refusal {
    fn from(unread: Unread) -> Self {
        Self::Unread(unread)
    }
}

/// Answers that the events are safe.
pub(super) fn ok() -> Answer {
    with(StatusCode::OK, Bytes::from_static(b"{}\n"))
}

/// Answers a probe.
pub(super) fn health(events_are_taken: bool) -> Answer {
    if events_are_taken {
        return ok();
    }
    let why = "events cannot be taken now; /readyz of the admin endpoint tells why";
    error(StatusCode::SERVICE_UNAVAILABLE, why)
}

fn error(status: StatusCode, text: &str) -> Answer {
    let body = serde_json::json!({ "error": text });
    with(status, Bytes::from(format!("{body}\n")))
}

fn with(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Answer::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
