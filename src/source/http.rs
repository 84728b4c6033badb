//! JSON over HTTP, as Vector's `http` sink, Fluent Bit, curl, and services of one's own send it.
//!
//! `POST` or `PUT` to any path with an object, an array, `{"batch": [ … ]}`, or NDJSON. The answer is 200
//! when all events are as far as `ack` says; an element that is no event ends alone. What may pass is
//! answered with 503, so that senders try again; 4xx is for what never can: most senders drop it then, and
//! the log says so. `GET` and `HEAD` answer 200 while new events are taken.

mod answer;
mod elements;
mod receiver;
mod token;

use std::net::SocketAddr;

use self::receiver::Receiver;
use super::server::{Kind, Limits, Listening, Respond};
use super::{Health, Submit};
use crate::config::{Ack, HttpConfig};

/// A source that listens, but does not answer yet.
pub type HttpSource = Listening<HttpConfig>;

impl Kind for HttpConfig {
    fn address(&self) -> SocketAddr {
        self.listen
    }

    fn limits(&self) -> Limits {
        // Who hangs up before the answer comes back for it, which has to be seen. Without such a wait
        // there is nothing to come back for.
        Limits { half_close: self.ack == Ack::Buffered, ..Limits::default() }
    }

    fn respond<S: Submit>(self, health: Health, submit: S) -> impl Respond {
        Receiver::new(&self, health, submit)
    }
}

#[cfg(test)]
mod tests;
