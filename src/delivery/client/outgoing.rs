//! A request body that knows whether it was handed to the connection.
//!
//! After that, and not before, the server may have applied it, whatever becomes of the connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::HandedOver;

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
