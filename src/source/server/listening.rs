//! What every source that listens has around its answers.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;

use super::{Limits, Respond, listen, serve};
use crate::source::tls::Acceptor;
use crate::source::{Health, Submit};

/// What one kind of source is made of.
pub trait Kind: fmt::Debug + Send + 'static {
    /// Returns the address to listen on.
    fn address(&self) -> SocketAddr;

    /// Returns what a connection may take.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Makes what answers requests, and hands their events to `submit`.
    fn respond<S: Submit>(self, health: Health, submit: S) -> impl Respond;
}

/// A source that listens, but does not answer yet.
pub struct Listening<K> {
    kind: K,
    listener: TcpListener,
    tls: Option<Acceptor>,
    health: Health,
}

impl<K: fmt::Debug> fmt::Debug for Listening<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut form = f.debug_struct("Listening");
        form.field("kind", &self.kind).field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl<K: Kind> Listening<K> {
    /// Listens on the configured address. What connects before [`Listening::run`] waits.
    ///
    /// # Errors
    ///
    /// When the address is in use or not one of this machine.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn bind(kind: K, tls: Option<Acceptor>) -> io::Result<Self> {
        let listener = listen(kind.address())?;
        Ok(Self { kind, listener, tls, health: Arc::new(|| true) })
    }

    /// Lets probes fail while `health` says no; else they do so at a stop only.
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
        let address = self.local_addr().ok();
        let limits = self.kind.limits();
        let (health, stopping) = (self.health, stop.clone());
        let health: Health = Arc::new(move || !*stopping.borrow() && health());
        let respond = Arc::new(self.kind.respond(health, intake));
        listens(&*respond, address);
        serve(self.listener, self.tls, respond, stop, limits).await;
    }
}

fn listens<R: Respond>(_: &R, address: Option<SocketAddr>) {
    info!(address = address.map(tracing::field::display), source = R::TYPE, "Source listens.");
}
