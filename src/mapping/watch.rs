//! A limit in time for runs, beside the one in steps.
//!
//! A step may be as large as the values that a script has built up: `s = s + s` forty times is few
//! steps and more memory than there is. One thread looks at all runs from time to time, and
//! condemns those that take longer than any sensible script; the run sees that at its next step.
//! It costs a run one number, and a step one read of a number. Looks are counted, and not the time: a
//! machine that stands still does not look either, so that it costs no event.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// How often the runs are looked at.
const PERIOD: Duration = Duration::from_millis(100);
/// How many looks may see one run, which is about a second. An ordinary one takes microseconds.
const MOST_LOOKS: u64 = 10;

/// One worker's runs as the watching thread sees them.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Beginnings and ends so far: odd during a run, which it marks.
    run: AtomicU64,
    /// The run that has to end.
    condemned: AtomicU64,
    /// The run that the last look saw, and how many looks saw it; of the watching thread alone.
    seen: AtomicU64,
    looks: AtomicU64,
}

impl Watched {
    /// Makes the watch of one worker.
    pub(super) fn new() -> Arc<Self> {
        let watched = Arc::new(Self::default());
        let all = runs();
        all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&watched));
        watched
    }

    /// Begins a run and returns its mark.
    pub(super) fn begin(&self) -> u64 {
        let mark = self.run.load(Ordering::Relaxed) + 1;
        self.run.store(mark, Ordering::Relaxed);
        mark
    }

    /// Tells whether the run with this mark has to end.
    pub(super) fn is_over(&self, mark: u64) -> bool {
        self.condemned.load(Ordering::Relaxed) == mark
    }

    /// Ends the run with this mark.
    pub(super) fn end(&self, mark: u64) {
        self.run.store(mark + 1, Ordering::Relaxed);
    }

    fn look(&self) {
        let run = self.run.load(Ordering::Relaxed);
        if self.seen.swap(run, Ordering::Relaxed) != run {
            self.looks.store(0, Ordering::Relaxed);
        }
        let before = self.looks.fetch_add(1, Ordering::Relaxed);
        if run % 2 == 1 && before >= MOST_LOOKS {
            self.condemned.store(run, Ordering::Relaxed);
        }
    }
}

/// All workers of the process, and the thread that looks at them.
fn runs() -> &'static Mutex<Vec<Weak<Watched>>> {
    static RUNS: OnceLock<Mutex<Vec<Weak<Watched>>>> = OnceLock::new();
    RUNS.get_or_init(|| {
        let watch = || {
            loop {
                thread::sleep(PERIOD);
                let mut all = runs().lock().unwrap_or_else(PoisonError::into_inner);
                all.retain(|watched| {
                    watched.upgrade().is_some_and(|w| {
                        w.look();
                        true
                    })
                });
            }
        };
        if let Err(error) = thread::Builder::new().name("script-watch".to_owned()).spawn(watch) {
            tracing::warn!(%error, "No thread to watch scripts: only their steps are limited.");
        }
        Mutex::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_that_is_seen_too_often_is_condemned_and_the_next_one_is_not() {
        let watched = Watched::default();
        let mark = watched.begin();
        (0..MOST_LOOKS).for_each(|_| watched.look());
        assert!(!watched.is_over(mark));
        watched.look();
        assert!(watched.is_over(mark));
        watched.end(mark);
        let next = watched.begin();
        watched.look();
        assert!(!watched.is_over(next));
    }

    #[test]
    fn short_runs_and_what_is_between_them_are_not_condemned() {
        let watched = Watched::default();
        for _ in 0..2 * MOST_LOOKS {
            let mark = watched.begin();
            watched.look();
            assert!(!watched.is_over(mark));
            watched.end(mark);
        }
        (0..2 * MOST_LOOKS).for_each(|_| watched.look());
        let mark = watched.begin();
        watched.look();
        assert!(!watched.is_over(mark));
    }
}
