//! The gateway for RudderStack SDKs: their HTTP API, with RudderStack's statuses and texts.
//!
//! A request is one unit, as there: it is answered 200 when all its events are safe, and refused
//! as a whole if one of them is no object or names nobody. An event that is wrong in any other way
//! ends alone.
//!
//! It differs from RudderStack's gateway where that would hurt: broken gzip is answered with 400,
//! since SDKs repeat what got 500; another `Content-Encoding` with 415; unzipping stops at the
//! limit; 503 carries `Retry-After`. It also serves `/sourceConfig`, so that a browser SDK needs
//! nothing else.

mod answer;
mod client_ip;
mod cors;
mod gateway;
mod keys;
mod pixel;
mod source_config;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;

use self::client_ip::client_ip;
use self::gateway::Gateway;
use super::server::{self, Limits};
use super::tls::Acceptor;
use super::{Health, Submit};
use crate::config::RudderStackConfig;

pub use self::source_config::SourceConfigView;

/// A gateway that listens, but does not answer yet.
pub struct RudderStackSource {
    config: RudderStackConfig,
    view: SourceConfigView,
    listener: TcpListener,
    tls: Option<Acceptor>,
    health: Health,
}

impl fmt::Debug for RudderStackSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut form = f.debug_struct("RudderStackSource");
        form.field("config", &self.config).field("listener", &self.listener);
        form.finish_non_exhaustive()
    }
}

impl RudderStackSource {
    /// Listens on the configured address. What connects before [`RudderStackSource::run`] waits.
    ///
    /// # Errors
    ///
    /// When the address is in use or not one of this machine.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn bind(config: RudderStackConfig, public: SourceConfigView) -> io::Result<Self> {
        let listener = server::listen(config.listen)?;
        Ok(Self { config, view: public, listener, tls: None, health: Arc::new(|| true) })
    }

    /// Speaks TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Acceptor>) -> Self {
        self.tls = tls;
        self
    }

    /// Lets `/health` answer 503 while `health` says no; else it does so at a stop only.
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
            info!(%address, "Gateway listens.");
        }
        let (health, stopping) = (self.health, stop.clone());
        let health: Health = Arc::new(move || !*stopping.borrow() && health());
        let gateway = Gateway::new(&self.config, self.view, health, intake);
        let gateway = Arc::new(gateway);
        server::serve(self.listener, self.tls, gateway, stop, Limits::default()).await;
    }
}

#[cfg(test)]
mod tests;
