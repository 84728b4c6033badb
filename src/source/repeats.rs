//! Requests whose events are stored and wait for delivery, with `ack: delivered`.
//!
//! Vector gives up a request after 60 s and sends the same bytes again, as long as an outage of
//! Customer.io lasts. Without this memory each time would store the events once more.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::Shared;
use sha2::{Digest as _, Sha256};

use super::message::Message;
use crate::source::submit::Acknowledged;

/// What identifies the bytes of a request.
pub type Fingerprint = [u8; 32];

/// An end for which several may wait.
pub type Awaited = Shared<Acknowledged>;

/// Requests that were taken and are not delivered yet; cheap to clone.
#[derive(Clone, Default)]
pub struct Repeats {
    waiting: Arc<Mutex<HashMap<Fingerprint, Awaited>>>,
}

impl fmt::Debug for Repeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repeats").field("waiting", &self.waiting().len()).finish()
    }
}

/// Returns what identifies a message. It is not to be forged: who could would have the events of
/// others taken for delivered.
pub fn fingerprint(message: &Message) -> Fingerprint {
    Sha256::digest(&message.bytes).into()
}

impl Repeats {
    /// Returns the end of a request that is waited for already.
    pub fn find(&self, message: &Fingerprint) -> Option<Awaited> {
        self.waiting().get(message).cloned()
    }

    /// Remembers a request until it ends, whether or not its sender waits.
    pub fn add(&self, message: Fingerprint, end: Acknowledged) -> Awaited {
        let end = end.shared();
        self.waiting().insert(message, end.clone());
        let (repeats, ended) = (self.clone(), end.clone());
        tokio::spawn(async move {
            // How it ends is told to those who wait.
            drop(ended.await);
            repeats.waiting().remove(&message);
        });
        end
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Fingerprint, Awaited>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
