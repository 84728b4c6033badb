//! Holds: what an operator must mend stops delivery, and probes find out when it is mended.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::{Hold, metering};
use super::Courier;

impl Courier {
    pub(super) fn hold(&mut self, hold: Hold, now: Instant) {
        self.working.stop();
        let code = hold.code;
        let message = hold.message.clone();
        if let Some(known) = self.holding.hold()
            && known.code != code
        {
            metering::held(known.code, false);
        }
        if self.holding.begin(hold, now) {
            tracing::error!(
                reason = code,
                remedy = %message,
                next_try = ?self.holding.probe_at().map(|at| at.duration_since(now)).unwrap_or_default(),
                "Delivery is held; events are kept, and it goes on by itself once this is mended."
            );
        }
        metering::held(code, true);
    }

    /// Asks the region endpoint, if it is time to.
    pub(super) fn probe(&mut self, now: Instant) {
        if self.probing.is_some() {
            return;
        }
        let due = self.checking || self.holding.probe_at().is_some_and(|at| at <= now);
        if due {
            self.holding.probing();
            let destination = Arc::clone(&self.ends.destination);
            self.probing = Some(Box::pin(async move { destination.probe().await }));
        }
    }

    /// Takes the answer of the region endpoint.
    pub(super) fn probed(&mut self, answer: Result<(), Hold>, now: Instant) {
        let first = std::mem::take(&mut self.checking);
        self.take_probe(answer, first, now);
        if std::mem::take(&mut self.probe_again) {
            self.holding.probe_now(now);
        }
    }

    fn take_probe(&mut self, answer: Result<(), Hold>, first: bool, now: Instant) {
        match answer {
            Ok(()) => {
                if let Some(hold) = self.holding.end() {
                    metering::held(hold.code, false);
                    tracing::info!(
                        reason = hold.code,
                        "Customer.io answers again; delivery tries."
                    );
                    self.gate.try_one(now);
                }
            }
            Err(hold) if hold.code == "unreachable" && first && !self.workspace_pinned => {
                tracing::warn!(reason = %hold.message, "The credentials could not be checked.");
            }
            Err(hold) => {
                match self.holding.hold().map(|known| known.code) {
                    // That it cannot be asked does not tell whether the reason is still there.
                    Some(_) if hold.code == "unreachable" => {}
                    Some(known) if known != hold.code => {
                        self.hold(hold, now);
                    }
                    Some(_) if self.holding.should_try_data(self.pace.forbidden_data, now) => {
                        if let Some(hold) = self.holding.lift() {
                            metering::held(hold.code, false);
                        }
                        self.gate.try_one(now);
                        return;
                    }
                    Some(_) => {}
                    None => {
                        self.hold(hold, now);
                        return;
                    }
                }
                self.holding.plan(now);
            }
        }
    }
}
