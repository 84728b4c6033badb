//! Requests, with a body that knows whether it was handed to the connection.
//!
//! After that, and not before, the server may have applied it, whatever becomes of the connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri};
use hyper::body::{Body, Frame, SizeHint};

use super::HandedOver;
use super::current::Snapshot;

const RETRY_COUNT: HeaderName = HeaderName::from_static("x-retry-count");

/// Makes a request by the credentials of now; `attempt` counts from 0.
pub fn request(
    current: &Snapshot,
    method: Method,
    uri: Uri,
    body: Bytes,
    attempt: u32,
) -> Request<Outgoing> {
    let outgoing = Outgoing::new(body);
    let length = outgoing.len();
    if length == 0 && method != Method::GET {
        // Nobody tells when a request without a body is written.
        outgoing.handed_over.store(true, Ordering::Relaxed);
    }
    let mut request = Request::new(outgoing);
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(AUTHORIZATION, current.credentials.authorization());
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("rudder-customerio/", env!("CARGO_PKG_VERSION"))),
    );
    if length > 0 {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if method == Method::POST || method == Method::PUT {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if attempt > 0 {
        headers.insert(RETRY_COUNT, HeaderValue::from(attempt));
    }
    *request.method_mut() = method;
    request
}

/// One piece of bytes as a body. A clone is a body of its own with the same flag.
#[derive(Clone, Debug)]
pub struct Outgoing {
    data: Bytes,
    handed_over: HandedOver,
}

impl Outgoing {
    pub fn new(data: Bytes) -> Self {
        Self { data, handed_over: Arc::new(AtomicBool::new(false)) }
    }

    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Returns the flag that is set when the body is handed over.
    pub fn handed_over(&self) -> HandedOver {
        Arc::clone(&self.handed_over)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.data.is_empty() {
            return Poll::Ready(None);
        }
        self.handed_over.store(true, Ordering::Relaxed);
        let data = std::mem::take(&mut self.data);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.len() as u64)
    }
}
