//! What `run` says itself: text for people, or log events where the log is JSON.

use std::process::ExitCode;

use crate::delivery::DeliveryStatus;
use crate::diagnostic::{Diagnostic, Severity};
use crate::outcome::{LedgerSnapshot, OutcomeKind};
use crate::pipeline::Ended;

use super::exit;
use crate::cli::output::{self, Tone, count};

/// How it is said.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    /// Whether every line must be a JSON object.
    pub json: bool,
    /// Whether text is coloured.
    pub color: bool,
}

/// Why a drain left something.
#[derive(Debug)]
pub struct Why {
    /// Whether a second signal came.
    pub at_once: bool,
    /// What delivery did last.
    pub delivery: DeliveryStatus,
}

impl Voice {
    /// Tells why the command ends.
    pub fn failed(self, text: &str) -> ExitCode {
        if self.json {
            tracing::error!(reason = text, "The start failed.");
        } else {
            output::say(format!("{} {text}", output::paint(Tone::Bad, "error:", self.color)));
        }
        ExitCode::from(exit::FAILURE)
    }

    /// Shows diagnostics.
    pub fn report(self, diagnostics: &[Diagnostic]) {
        if !self.json {
            return output::report(diagnostics, self.color);
        }
        for Diagnostic { severity, code, message, place, help } in diagnostics {
            let (file, line, key) = match place {
                Some(place) => (
                    Some(&*place.file),
                    Some(place.line).filter(|line| *line > 0),
                    place.key.as_deref(),
                ),
                None => (None, None, None),
            };
            let help = help.as_deref();
            match severity {
                Severity::Warning => tracing::warn!(code, file, line, key, help, "{message}"),
                Severity::Error => tracing::error!(code, file, line, key, help, "{message}"),
            }
        }
    }

    /// Shows the account, and what is left.
    pub fn tell(self, ended: &Ended, why: &Why) {
        let (ledger, left) = (&ended.drained.ledger, ended.drained.undelivered);
        if self.json {
            log_account(ledger);
        } else {
            output::say(output::account(ledger));
        }
        let events = count(usize::try_from(left).unwrap_or(usize::MAX), "event");
        if left > 0
            && let Some(trouble) = &ended.drained.trouble
        {
            return self.tell_trouble(left, &events, trouble);
        }
        match (left, ended.drained.durable, self.json) {
            (0, ..) => {}
            (_, true, true) => {
                tracing::info!(
                    events = left,
                    reason = why.in_words(),
                    "Events stay in the buffer and are delivered at the next start.",
                );
            }
            (_, true, false) => {
                output::say(format!(
                    "left in the buffer: {events}, to be delivered at the next start ({})",
                    why.in_words(),
                ));
            }
            (_, false, true) => tracing::error!(
                events = left,
                reason = why.in_words(),
                "Events that waited in memory are lost.",
            ),
            (_, false, false) => output::say(format!(
                "{} lost {events} that waited in memory: {}",
                output::paint(Tone::Bad, "error:", self.color),
                why.in_words(),
            )),
        }
    }
}

impl Voice {
    /// Tells that the next start will not deliver what is left by itself.
    fn tell_trouble(self, left: u64, events: &str, trouble: &str) {
        if self.json {
            tracing::error!(
                events = left,
                reason = trouble,
                "Events are left that the next start does not deliver by itself.",
            );
        } else {
            let bad = output::paint(Tone::Bad, "error:", self.color);
            output::say(format!(
                "{bad} {events} left that the next start does not deliver by itself: {trouble}"
            ));
        }
    }
}

impl Why {
    fn in_words(&self) -> String {
        let DeliveryStatus { state, reason, .. } = &self.delivery;
        let because = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        match *state {
            "held" | "paused" => format!("delivery was {state}{because}"),
            _ if self.at_once => "the second signal did not wait for deliveries".to_owned(),
            "waiting" => format!(
                "delivery waited to try again{because}; a longer drain_timeout waits longer"
            ),
            _ => "a longer drain_timeout waits longer".to_owned(),
        }
    }
}

fn log_account(ledger: &LedgerSnapshot) {
    tracing::info!(
        received = ledger.received,
        recovered = ledger.recovered,
        malformed = ledger.total(OutcomeKind::Malformed),
        filtered = ledger.total(OutcomeKind::Filtered),
        withheld = ledger.total(OutcomeKind::Withheld),
        dropped = ledger.total(OutcomeKind::Dropped),
        failed = ledger.total(OutcomeKind::Failed),
        delivered = ledger.total(OutcomeKind::Delivered),
        rejected = ledger.total(OutcomeKind::Rejected),
        buffered = ledger.buffered,
        "Ended.",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_names_its_true_reason() {
        let words = |state, reason: Option<&str>, at_once| {
            let reason = reason.map(str::to_owned);
            let delivery = DeliveryStatus { state, reason, since: None, in_flight: 0, rate: 0.0 };
            Why { at_once, delivery }.in_words()
        };
        assert_eq!(words("held", Some("unauthorized"), true), "delivery was held (unauthorized)");
        assert!(words("sending", None, true).contains("second signal"));
        assert_eq!(words("sending", None, false), "a longer drain_timeout waits longer");
        assert!(words("waiting", Some("timeout"), false).contains("(timeout); a longer"));
    }
}
