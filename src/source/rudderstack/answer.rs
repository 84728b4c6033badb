//! The gateway's answers: RudderStack's statuses and texts.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::event::split::Unsplit;
use crate::source::Refused;
use crate::source::body::Unread;
use crate::source::repeats::NotDelivered;
use crate::source::server::OVERLOAD;

/// Wait that is asked for while nothing tells how long it takes.
const LATER: Duration = Duration::from_secs(5);

/// What the gateway answers with.
pub type Answer = Response<Full<Bytes>>;

/// Why a request is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The events cannot be taken now: the label of the metric, and how long to wait.
    Unavailable(&'static str, Duration),
    /// No usable Basic user.
    NoKeyInHeader,
    /// A beacon without a key.
    NoKeyInQuery,
    /// An unknown key.
    UnknownKey,
    /// A source that is switched off.
    Disabled,
    /// The body ended early or took too long.
    Unreadable,
    /// The body is not what its `Content-Encoding` says.
    BrokenEncoding,
    /// A `Content-Encoding` other than gzip.
    UnknownEncoding,
    /// The body is larger than `max_body` after unzipping.
    TooLarge,
    /// The body does not hold events.
    Unsplit(Unsplit),
}

impl Refusal {
    /// Returns the label of the metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unavailable(label, _) => label,
            Self::NoKeyInHeader | Self::NoKeyInQuery | Self::UnknownKey => "unauthorized",
            Self::Disabled => "source_disabled",
            Self::Unreadable => "body_unreadable",
            Self::BrokenEncoding | Self::UnknownEncoding => "encoding",
            Self::TooLarge => "too_large",
            Self::Unsplit(Unsplit::InvalidJson) => "invalid_json",
            Self::Unsplit(_) => "invalid_request",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Unavailable(..) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoKeyInHeader | Self::NoKeyInQuery | Self::UnknownKey => StatusCode::UNAUTHORIZED,
            Self::Disabled => StatusCode::NOT_FOUND,
            Self::Unreadable => StatusCode::INTERNAL_SERVER_ERROR,
            Self::UnknownEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BrokenEncoding | Self::Unsplit(_) => StatusCode::BAD_REQUEST,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Unavailable(..) => "Service Unavailable\n",
            Self::NoKeyInHeader => "failed to read writekey from header\n",
            Self::NoKeyInQuery => "failed to read writekey from query params\n",
            Self::UnknownKey => "invalid write key\n",
            Self::Disabled => "source is disabled\n",
            // A broken gzip body is answered with the same text, but with 400: SDKs send again
            // what was answered with 500.
            Self::Unreadable | Self::BrokenEncoding => "failed to read body from request\n",
            Self::UnknownEncoding => "content encoding is not supported\n",
            Self::TooLarge => "request size exceeds max limit\n",
            Self::Unsplit(Unsplit::InvalidJson) => "invalid json\n",
            Self::Unsplit(Unsplit::NotAnObject) => "event is not a valid rudder event\n",
            Self::Unsplit(Unsplit::NoIds) => "request neither has anonymousId nor userId\n",
            Self::Unsplit(Unsplit::Empty) => "empty batch payload\n",
        }
    }

    /// Makes the answer.
    pub fn answer(self) -> Answer {
        let mut answer = error(self.status(), self.text());
        if let Self::Unavailable(_, after) = self {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        answer
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let after = match refused {
            Refused::Full(after) => after,
            Refused::Closed | Refused::Unavailable => LATER,
        };
        Self::Unavailable(refused.label(), after)
    }
}

impl From<NotDelivered> for Refusal {
    fn from(_: NotDelivered) -> Self {
        Self::Unavailable(NotDelivered::LABEL, Duration::from_secs(1))
    }
}

impl From<Unread> for Refusal {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Full(after) => Self::Unavailable(OVERLOAD, after),
            Unread::BrokenOff | Unread::TooSlow => Self::Unreadable,
            Unread::BrokenCoding => Self::BrokenEncoding,
            Unread::UnknownCoding => Self::UnknownEncoding,
            Unread::TooLarge => Self::TooLarge,
        }
    }
}

/// Answers that the events are safe.
pub fn ok() -> Answer {
    with(StatusCode::OK, "text/plain; charset=utf-8", Bytes::from_static(b"ok"))
}

/// Answers a probe while events cannot be taken.
pub fn unhealthy() -> Answer {
    error(StatusCode::SERVICE_UNAVAILABLE, "Cannot connect to db\n")
}

/// Answers with JSON.
pub fn json(body: Vec<u8>) -> Answer {
    with(StatusCode::OK, "application/json; charset=utf-8", Bytes::from(body))
}

/// Answers an unknown path.
pub fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// Answers a method that the path does not know.
pub fn wrong_method(allow: &'static str) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    answer.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static(allow));
    answer
}

/// Answers with a transparent image of one pixel.
pub fn gif() -> Answer {
    const PIXEL: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";
    let mut answer = with(StatusCode::OK, "image/gif", Bytes::from_static(PIXEL));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn error(status: StatusCode, text: &'static str) -> Answer {
    let body = Bytes::from_static(text.as_bytes());
    let mut answer = with(status, "text/plain; charset=utf-8", body);
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn with(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Answer::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
