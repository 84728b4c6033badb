//! Two ends of the line: Customer.io that never answers, and one that always does.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rudder_customerio::internal::delivery::{Destination, Hold, Reply, Verdict};

/// Takes everything at once.
#[derive(Debug)]
pub struct Fast;

impl Destination for Fast {
    fn send(&self, bodies: Vec<Bytes>, _attempt: u32) -> BoxFuture<'_, Reply> {
        async move { Reply::Items(vec![Verdict::Delivered; bodies.len()]) }.boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Hold>> {
        async { Ok(()) }.boxed()
    }
}

/// Cannot be reached.
#[derive(Debug)]
pub struct Down;

impl Destination for Down {
    fn send(&self, _bodies: Vec<Bytes>, _attempt: u32) -> BoxFuture<'_, Reply> {
        async { Reply::Retry { after: None, why: "network", unknown: false } }.boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Hold>> {
        async { Ok(()) }.boxed()
    }
}
