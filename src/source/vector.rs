//! Vector's own protocol: gRPC, as its `vector` sink speaks it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::server;
use super::tls::Acceptor;
use super::{Health, Submit};
use crate::config::VectorConfig;

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
    pub async fn run<S: Submit>(self, intake: S, mut stop: watch::Receiver<bool>) {
        let Self { listener, tls, health, .. } = self;
        // Ends either way: a sender that is gone stops it too.
        drop(stop.wait_for(|stop| *stop).await);
        drop((listener, tls, health, intake));
    }
}
