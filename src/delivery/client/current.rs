//! What of a client may change while it runs: credentials, and what answers mean.
//!
//! A request takes one snapshot when it begins and keeps it to its end.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::credentials::Credentials;
use crate::delivery::reply::Policy;

/// One state.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub credentials: Credentials,
    pub policy: Policy,
}

/// The state now.
#[derive(Debug)]
pub struct Current {
    now: ArcSwap<Snapshot>,
    /// Why the credentials could not be read again the last time: told once, not at every probe.
    trouble: Mutex<Option<String>>,
}

impl Current {
    pub fn new(snapshot: Snapshot) -> Self {
        Self { now: ArcSwap::from_pointee(snapshot), trouble: Mutex::default() }
    }

    pub fn get(&self) -> Arc<Snapshot> {
        self.now.load_full()
    }

    pub fn set(&self, snapshot: Snapshot) {
        self.now.store(Arc::new(snapshot));
        self.note(None);
    }

    /// Reads the credentials' files again and takes over what changed; what cannot be used leaves
    /// the known ones in place.
    pub async fn read_credentials_again(&self) {
        let known = self.get();
        match known.credentials.read_again().await {
            Ok(fresh) => {
                self.note(None);
                if fresh.are(&known.credentials) {
                    return;
                }
                let fresh = Snapshot { credentials: fresh, policy: known.policy.clone() };
                // A new configuration that came meanwhile is newer than what was read.
                let before = self.now.compare_and_swap(&known, Arc::new(fresh));
                if Arc::ptr_eq(&before, &known) {
                    tracing::info!("New credentials for Customer.io were read from their files.");
                }
            }
            Err(why) => self.note(Some(why)),
        }
    }

    /// Returns the state if its credentials are others than those of `used`, after reading them
    /// again.
    pub async fn newer_than(&self, used: &Snapshot) -> Option<Arc<Snapshot>> {
        self.read_credentials_again().await;
        let now = self.get();
        (!now.credentials.are(&used.credentials)).then_some(now)
    }

    fn note(&self, trouble: Option<String>) {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == trouble {
            return;
        }
        if let Some(why) = &trouble {
            tracing::error!(
                reason = %why,
                "The credentials could not be read again; those known are kept."
            );
        }
        *known = trouble;
    }
}
