//! Whether a connection is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Work {
    begun: AtomicU64,
    in_work: AtomicUsize,
}

/// A request in work; over when dropped.
#[derive(Debug)]
pub(super) struct Begun(Arc<Work>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.in_work.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Work {
    /// Counts a request.
    pub(super) fn begin(self: &Arc<Self>) -> Begun {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.in_work.fetch_add(1, Ordering::SeqCst);
        Begun(Arc::clone(self))
    }

    /// After how many requests the connection rests; `None` while one is in work.
    pub(super) fn rests_after(&self) -> Option<u64> {
        let begun = self.begun.load(Ordering::SeqCst);
        (self.in_work.load(Ordering::SeqCst) == 0).then_some(begun)
    }
}
