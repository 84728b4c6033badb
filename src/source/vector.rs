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
//! | is not delivered within 50 s, with `ack: delivered` | UNAVAILABLE; the repeat waits on, and stores nothing again |
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
mod repeats;
mod room;
mod service;
mod unpack;
mod wire;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

#[cfg(feature = "cli")]
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;

use self::answer::Reply;
use self::service::Service;
use super::server::{self, Limits, Respond};
use super::tls::Acceptor;
use super::{Health, Submit};
use crate::config::VectorConfig;

/// Bytes that a sender may be ahead of us. A batch is often some megabytes, and the round trip decides
/// how fast they come.
const WINDOW: u32 = 4 * 1024 * 1024;

/// A source that listens, but does not answer yet.
pub struct VectorSource {
    config: VectorConfig,
    listener: TcpListener,
    tls: Option<Acceptor>,
    health: Health,
}

impl fmt::Debug for VectorSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut form = f.debug_struct("VectorSource");
        form.field("config", &self.config).field("listener", &self.listener);
        form.finish_non_exhaustive()
    }
}

impl VectorSource {
    /// Listens on the configured address. What connects before [`VectorSource::run`] waits.
    ///
    /// # Errors
    ///
    /// When the address is in use or not one of this machine.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn bind(config: VectorConfig, tls: Option<Acceptor>) -> io::Result<Self> {
        let listener = server::listen(config.listen)?;
        Ok(Self { config, listener, tls, health: Arc::new(|| true) })
    }

    /// Lets health checks fail while `health` says no; else they do so at a stop only.
    #[must_use]
    pub fn with_health(mut self, health: Health) -> Self {
        self.health = health;
        self
    }

    /// Returns the address on which it listens, with the port that the system chose for port 0.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers requests until `stop` becomes true, or its sender is dropped; then finishes those
    /// that are in work.
    pub async fn run<S: Submit>(self, intake: S, stop: watch::Receiver<bool>) {
        if let Ok(address) = self.local_addr() {
            info!(%address, "Vector source listens.");
        }
        let (health, stopping) = (self.health, stop.clone());
        let health: Health = Arc::new(move || !*stopping.borrow() && health());
        let service = Arc::new(Service::new(&self.config, health, intake));
        let limits = Limits { window: WINDOW, ..Limits::default() };
        server::serve(self.listener, self.tls, service, stop, limits).await;
    }
}

impl<S: Submit> Respond for Service<S> {
    const TYPE: &'static str = service::TYPE;

    type Body = Reply;

    async fn respond(&self, request: Request<Incoming>, _: IpAddr) -> Response<Reply> {
        self.answer(request).await
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
