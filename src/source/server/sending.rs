//! The body of an answer on its way.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};

use super::places::Leaving;

/// A body that tells the place of its connection when all of it is handed over. With HTTP/2 that is done
/// beside the connection, by a task for each request.
#[derive(Debug)]
pub(super) struct Sending<B> {
    body: B,
    _leaving: Leaving,
}

impl<B> Sending<B> {
    pub(super) fn new(body: B, leaving: Leaving) -> Self {
        Self { body, _leaving: leaving }
    }
}

impl<B: Body + Unpin> Body for Sending<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
