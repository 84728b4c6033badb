//! Answers of gRPC, and of HTTP to those who do not speak it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What a request is answered with.
pub type Answer = Response<Reply>;

/// Why a call failed, with gRPC's numbers.
///
/// Of these Vector repeats a request without end after `DeadlineExceeded`, `Internal`, and
/// `Unavailable`; after the others it drops the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// What must not stand in a `grpc-message` as it is.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// The body of an answer: a message, then trailers.
#[derive(Debug, Default)]
pub struct Reply {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, Bytes::len) as u64)
    }
}

/// Answers a call with its message. Even an empty one must be sent: without it Vector takes the
/// answer for a failure and repeats the request.
pub fn message(message: &[u8]) -> Answer {
    let mut data = vec![0];
    data.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    data.extend_from_slice(message);
    let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
    let mut answer =
        Response::new(Reply { data: Some(Bytes::from(data)), trailers: Some(trailers) });
    answer.headers_mut().insert(CONTENT_TYPE, GRPC);
    answer
}

/// Refuses a call. The text reaches the log of the sender.
pub fn refusal(code: Code, text: &str) -> Answer {
    let mut answer = Response::new(Reply::default());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(GRPC_STATUS, HeaderValue::from(code as u16));
    let text = utf8_percent_encode(text, ESCAPED).to_string();
    if let Ok(text) = HeaderValue::try_from(text) {
        headers.insert(GRPC_MESSAGE, text);
    }
    if code == Code::Unimplemented {
        headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("identity,gzip,zstd"));
    }
    answer
}

/// Answers a request that is no gRPC.
pub fn not_grpc(status: StatusCode) -> Answer {
    let text = "This is a source of the type `vector`: it speaks gRPC over HTTP/2, as Vector's sink \
                of the type `vector` does.\nFor JSON over HTTP configure a source of the type `http`.\n";
    let mut answer =
        Response::new(Reply { data: Some(Bytes::from_static(text.as_bytes())), trailers: None });
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    answer
}

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
