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

use std::net::SocketAddr;

use self::client_ip::client_ip;
use self::gateway::Gateway;
use super::server::{Kind, Listening, Respond};
use super::{Health, Submit};
use crate::config::RudderStackConfig;

pub use self::source_config::SourceConfigView;

/// A gateway that listens, but does not answer yet.
pub type RudderStackSource = Listening<GatewayConfig>;

/// What a gateway is made of.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Its own section.
    pub source: RudderStackConfig,
    /// What it shows of other sections.
    pub view: SourceConfigView,
}

impl Kind for GatewayConfig {
    fn address(&self) -> SocketAddr {
        self.source.listen
    }

    fn respond<S: Submit>(self, health: Health, submit: S) -> impl Respond {
        Gateway::new(&self.source, self.view, health, submit)
    }
}

#[cfg(test)]
mod tests;
