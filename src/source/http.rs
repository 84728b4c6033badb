//! JSON over HTTP, as Vector's `http` sink, Fluent Bit, curl, and services of one's own send it.
//!
//! `POST` or `PUT` to any path with an object, an array, `{"batch": [ … ]}`, or NDJSON. The answer is 200
//! when all events are as far as `ack` says; an element that is no event ends alone. What may pass is
//! answered with 503, so that senders try again; 4xx is for what never can: most senders drop it then, and
//! the log says so. `GET` and `HEAD` answer 200 while new events are taken.

mod alarm;
mod answer;
mod elements;
mod receiver;
mod token;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;

use self::receiver::Receiver;
use super::server::{self, Limits};
use super::tls::Acceptor;
use super::{Health, Submit};
use crate::config::HttpConfig;

/// A source that listens, but does not answer yet.
pub struct HttpSource {
    config: HttpConfig,
    listener: TcpListener,
    tls: Option<Acceptor>,
    health: Health,
}

impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut form = f.debug_struct("HttpSource");
        form.field("config", &self.config).field("listener", &self.listener);
        form.finish_non_exhaustive()
    }
}

impl HttpSource {
    /// Listens on the configured address. What connects before [`HttpSource::run`] waits.
    ///
    /// # Errors
    ///
    /// When the address is in use or not one of this machine.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn bind(config: HttpConfig, tls: Option<Acceptor>) -> io::Result<Self> {
        let listener = server::listen(config.listen)?;
        Ok(Self { config, listener, tls, health: Arc::new(|| true) })
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
        if let Ok(address) = self.listener.local_addr() {
            info!(%address, "Source http listens.");
        }
        let (health, stopping) = (self.health, stop.clone());
        let health: Health = Arc::new(move || !*stopping.borrow() && health());
        let receiver = Arc::new(Receiver::new(&self.config, health, intake));
        server::serve(self.listener, self.tls, receiver, stop, Limits::default()).await;
    }
}

#[cfg(test)]
mod tests;
