//! Operations that were accepted and do not show yet (`apply_delay`, `apply_jitter`).

use std::collections::{BTreeMap, HashMap};

use super::Received;
use crate::sandbox::clock::Seconds;
use crate::sandbox::operation::Operation;
use crate::sandbox::options::Options;

/// Waiting operations in the order in which they become due: per person as received, across people
/// as chance has it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    waiting: BTreeMap<(u64, u64), (Received, Operation)>,
    last_due: HashMap<String, u64>,
    pushed: u64,
}

impl Pending {
    pub(super) fn push(
        &mut self,
        received: Received,
        operation: Operation,
        options: &Options,
        seed: u64,
    ) {
        self.pushed += 1;
        let jitter = u64::try_from(options.apply_jitter.0.as_millis()).unwrap_or(u64::MAX);
        let delay = u64::try_from(options.apply_delay.0.as_millis()).unwrap_or(u64::MAX);
        let random = fastrand::Rng::with_seed(seed ^ self.pushed.rotate_left(32)).u64(..=jitter);
        let mut due = millis(received.at).saturating_add(delay).saturating_add(random);
        for person in operation.people() {
            let last = self.last_due.entry(person.key()).or_default();
            due = due.max(*last);
            *last = due;
        }
        self.waiting.insert((due, self.pushed), (received, operation));
    }

    pub(super) fn pop(&mut self, now: Seconds) -> Option<(Received, Operation)> {
        let first = self.waiting.first_entry()?;
        if first.key().0 > millis(now) {
            return None;
        }
        let taken = first.remove();
        if self.waiting.is_empty() {
            self.last_due.clear();
        }
        Some(taken)
    }
}

fn millis(at: Seconds) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let millis = (at.0 * 1000.0).round() as u64;
    millis
}
