//! Tells the operator of refusals that lose events, without filling the log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The same refusal is told again after this time.
const AGAIN: Duration = Duration::from_secs(60);

/// When each kind of refusal was told last, and how many came since.
#[derive(Debug, Default)]
pub(in crate::source) struct Alarm(Mutex<HashMap<&'static str, (Instant, u64)>>);

impl Alarm {
    /// Counts a refusal; returns how many of its kind to tell of, if it is time.
    pub(in crate::source) fn due(&self, kind: &'static str) -> Option<u64> {
        self.due_at(kind, Instant::now())
    }

    fn due_at(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match told.get_mut(kind) {
            None => {
                told.insert(kind, (now, 0));
                Some(1)
            }
            Some((last, since)) => {
                *since += 1;
                (now.duration_since(*last) >= AGAIN).then(|| {
                    *last = now;
                    std::mem::take(since)
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_at_once_and_then_by_the_minute() {
        let (alarm, now) = (Alarm::default(), Instant::now());
        let told = ["a", "a", "b", "a"].map(|kind| alarm.due_at(kind, now));
        assert_eq!(told, [Some(1), None, Some(1), None]);
        let told = ["a", "a"].map(|kind| alarm.due_at(kind, now + AGAIN));
        assert_eq!(told, [Some(3), None]);
    }
}
