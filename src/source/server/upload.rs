//! The body of a request on its way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::places::Begun;

/// A body that tells the place of its connection when all of it is there. Until then the connection
/// waits for its client, and not the client for us.
#[derive(Debug)]
pub struct Upload {
    body: Incoming,
    begun: Arc<Begun>,
}

impl Upload {
    pub(super) fn new(body: Incoming, begun: Arc<Begun>) -> Self {
        if body.is_end_stream() {
            begun.arrived();
        }
        Self { body, begun }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.begun.arrived();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.begun.arrived();
    }
}
