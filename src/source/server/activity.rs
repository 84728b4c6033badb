//! Tells when nothing happens on a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts the requests of one connection; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    in_work: AtomicUsize,
}

/// A request in work, until it is dropped.
#[derive(Debug)]
pub(super) struct InWork(Activity);

impl Activity {
    /// Counts a request.
    pub(super) fn begin(&self) -> InWork {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        self.0.in_work.fetch_add(1, Ordering::Relaxed);
        InWork(self.clone())
    }

    /// Returns how many requests there were; nothing while one is in work.
    pub(super) fn at_rest(&self) -> Option<u64> {
        let in_work = self.0.in_work.load(Ordering::Relaxed);
        (in_work == 0).then(|| self.0.begun.load(Ordering::Relaxed))
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.0.in_work.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_rests_between_requests() {
        let activity = Activity::default();
        assert_eq!(activity.at_rest(), Some(0));
        let (one, two) = (activity.begin(), activity.begin());
        drop(one);
        assert_eq!(activity.at_rest(), None);
        drop(two);
        assert_eq!(activity.at_rest(), Some(2));
    }
}
