//! Vector's own protocol: gRPC, as its sink of the type `vector` speaks it.
//!
//! A call of `/vector.Vector/PushEvents` is one unit: it is answered OK when all its events are as far
//! as `ack` says. Log events are taken; metrics, traces, and what is no event end alone as malformed,
//! with a reason. The code of a refusal decides what Vector does: after UNAVAILABLE, INTERNAL, and
//! DEADLINE_EXCEEDED it repeats the same bytes without end, after others it drops the events.
//!
//! | a request that | is answered |
//! | --- | --- |
//! | finds no room, a full disk, or a pipeline that stops | UNAVAILABLE, within 30 s |
//! | is not delivered within 50 s, or until others need its place, with `ack: delivered` | UNAVAILABLE; the repeat waits on, and stores nothing again |
//! | comes too slowly, or ends early | DEADLINE_EXCEEDED, INTERNAL |
//! | is larger than `max_body`, or no list of events | INVALID_ARGUMENT |
//! | is compressed in another way than gzip or zstd | UNIMPLEMENTED |
//!
//! A refused request was not received, as everywhere: it is counted as an error of the source, and
//! nothing of it is stored, since the consent of what cannot be read is unknown.
//!
//! An event is written as JSON text and then read as that of every other source. The way over text
//! costs about a fifth of the walk that follows (`cargo bench --bench vector`), so that mapping, and
//! not decoding, limits the source; and what follows (spans, dead letters, replay) is the same for all
//! sources. What is Vector's own does not go along: metadata, secrets, and a `timestamp` of the kind
//! timestamp at the root, which is when Vector read the event. An event without `messageId` gets the
//! id that Vector's source gave it, which is the same in every repeat.

mod answer;
mod events;
mod json;
mod message;
mod refusal;
mod service;
mod unpack;
mod wire;

use std::net::{IpAddr, SocketAddr};

#[cfg(feature = "cli")]
use bytes::Bytes;
use http::{Request, Response};

use self::answer::Reply;
use self::service::Service;
use super::server::{Kind, Limits, Listening, Respond, Upload};
use super::{Health, Submit};
use crate::config::VectorConfig;

/// Bytes that a sender may be ahead of us. A batch is often some megabytes, and the round trip decides
/// how fast they come.
const WINDOW: u32 = 4 * 1024 * 1024;

/// A source that listens, but does not answer yet.
pub type VectorSource = Listening<VectorConfig>;

impl Kind for VectorConfig {
    fn address(&self) -> SocketAddr {
        self.listen
    }

    fn limits(&self) -> Limits {
        Limits { window: WINDOW, ..Limits::default() }
    }

    fn respond<S: Submit>(self, health: Health, submit: S) -> impl Respond {
        Service::new(&self, health, submit)
    }
}

impl<S: Submit> Respond for Service<S> {
    const TYPE: &'static str = service::TYPE;

    type Body = Reply;

    async fn respond(&self, request: Request<Upload>, peer: IpAddr) -> Response<Reply> {
        self.answer(request, peer).await
    }
}

/// Returns the events in the bytes of a `PushEventsRequest`, as a source takes them. `path` is its
/// `event_path`.
///
/// # Errors
///
/// What is wrong with bytes that are no list of events.
#[cfg(feature = "cli")]
pub fn decode(
    request: &Bytes,
    path: Option<&[String]>,
) -> Result<Vec<super::Incoming>, &'static str> {
    let mut events = events::Events::of(request, path);
    while events.next().map_err(|wire::Broken(what)| what)? {}
    Ok(events.into_elements())
}

#[cfg(test)]
mod tests;
