//! What of a client may change while it runs: credentials, and what answers mean.
//!
//! A request takes one snapshot when it begins and keeps it to its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::credentials::Credentials;
use crate::delivery::reply::Policy;

/// Longest wait for the files: they may lie on a disk that is not there any more.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// One state.
#[derive(Debug)]
pub struct Snapshot {
    pub credentials: Credentials,
    pub policy: Policy,
    /// Whether Customer.io has named the workspace of these credentials, and it is the pinned one.
    confirmed: AtomicBool,
}

impl Snapshot {
    pub fn new(credentials: Credentials, policy: Policy) -> Self {
        Self { credentials, policy, confirmed: AtomicBool::new(false) }
    }

    pub fn confirm(&self) {
        self.confirmed.store(true, Ordering::Relaxed);
    }

    pub fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Relaxed)
    }
}

/// The state now.
#[derive(Debug)]
pub struct Current {
    now: ArcSwap<Snapshot>,
    /// Why the credentials could not be read again the last time: told once, not at every probe.
    trouble: Mutex<Option<String>>,
    /// Held while the files are read, so that a read that hangs is the only one.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl Current {
    pub fn new(snapshot: Snapshot) -> Self {
        Self {
            now: ArcSwap::from_pointee(snapshot),
            trouble: Mutex::default(),
            reading: Arc::default(),
        }
    }

    pub fn get(&self) -> Arc<Snapshot> {
        self.now.load_full()
    }

    #[cfg(feature = "pipeline")]
    pub fn set(&self, snapshot: Snapshot) {
        self.now.store(Arc::new(snapshot));
        self.note(None);
    }

    /// Reads the credentials' files again and takes over what changed; what cannot be used leaves
    /// the known ones in place.
    pub async fn read_credentials_again(&self) {
        let known = self.get();
        if !known.credentials.are_in_files() {
            return;
        }
        let read = tokio::time::timeout(READ_LIMIT, self.read(Arc::clone(&known))).await;
        match read.unwrap_or_else(|_| Err("their files take too long to read".to_owned())) {
            Ok(fresh) => {
                self.note(None);
                if fresh.are(&known.credentials) {
                    return;
                }
                let fresh = Snapshot::new(fresh, known.policy.clone());
                // A new configuration that came meanwhile is newer than what was read.
                let before = self.now.compare_and_swap(&known, Arc::new(fresh));
                if Arc::ptr_eq(&before, &known) {
                    tracing::info!("New credentials for Customer.io were read from their files.");
                }
            }
            Err(why) => self.note(Some(why)),
        }
    }

    /// Reads on a thread that may block.
    async fn read(&self, known: Arc<Snapshot>) -> Result<Credentials, String> {
        let alone = Arc::clone(&self.reading).lock_owned().await;
        let read = tokio::task::spawn_blocking(move || {
            let _alone = alone;
            known.credentials.read_again()
        });
        read.await.unwrap_or_else(|_| Err("their files could not be read".to_owned()))
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
