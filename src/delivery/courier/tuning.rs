//! Other limits, put in force while it works.

use tokio::time::Instant;

use super::super::Tuning;
use super::Courier;

impl Courier {
    /// Puts other limits in force for whatever leaves from now on. A wait that is longer than the
    /// longest back-off now is shortened to that, unless Customer.io asked for it.
    pub(super) fn retune(&mut self, tuning: &Tuning, now: Instant) {
        let Tuning { requests_per_second, burst, batch, retry } = tuning.clone();
        self.limiter.retune(requests_per_second, burst, now);
        self.item_limit.retune(batch.max_items);
        self.working.set_cap(retry.max);
        self.gate.hasten(now + retry.max);
        self.shelf.hasten(now + retry.max);
        self.suspects.hasten(now + retry.max);
        (self.batch, self.retry) = (batch, retry);
        tracing::info!("Delivery goes on with other limits.");
    }
}
