//! A limit in time for runs, beside the one in steps.
//!
//! A step may be as large as the values that a script has built up: `s = s + s` forty times is few
//! steps and more memory than there is. One thread looks at all runs from time to time, and
//! condemns those that take longer than any sensible script; the run sees that at its next step.
//! It costs a run one look at the clock, and a step one read of a number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How long one run may take. An ordinary one takes microseconds; a machine that stands still for
/// so long in the middle of one costs that event, which then is a dead letter.
const LIMIT: Duration = Duration::from_secs(1);
/// How often the runs are looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// One worker's run as the watching thread sees it.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// When the run began, in nanoseconds of the process's clock; 0 between runs.
    began: AtomicU64,
    /// The beginning of the run that has to end.
    condemned: AtomicU64,
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
        let mark = clock();
        self.began.store(mark, Ordering::Relaxed);
        mark
    }

    /// Tells whether the run with this mark has to end.
    pub(super) fn is_over(&self, mark: u64) -> bool {
        self.condemned.load(Ordering::Relaxed) == mark
    }

    /// Ends the run.
    pub(super) fn end(&self) {
        self.began.store(0, Ordering::Relaxed);
    }

    fn look(&self, now: u64) {
        let began = self.began.load(Ordering::Relaxed);
        if began != 0 && u128::from(now.saturating_sub(began)) > LIMIT.as_nanos() {
            self.condemned.store(began, Ordering::Relaxed);
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
                let now = clock();
                let mut all = runs().lock().unwrap_or_else(PoisonError::into_inner);
                all.retain(|watched| {
                    watched.upgrade().is_some_and(|w| {
                        w.look(now);
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

/// Nanoseconds since the first look at the clock; never 0.
fn clock() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed().as_nanos();
    u64::try_from(elapsed).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_that_takes_too_long_is_condemned_and_the_next_one_is_not() {
        let watched = Watched::default();
        let mark = watched.begin();
        watched.look(mark + 1);
        assert!(!watched.is_over(mark));
        watched.look(mark + 2_000_000_000);
        assert!(watched.is_over(mark));
        watched.end();
        let next = watched.begin();
        watched.look(next + 1);
        assert!(!watched.is_over(next));
    }

    #[test]
    fn between_runs_nobody_is_condemned() {
        let watched = Watched::default();
        let mark = watched.begin();
        watched.end();
        watched.look(mark + 2_000_000_000);
        assert!(!watched.is_over(mark));
    }
}
