//! Tells the log, now and then, that events end badly: how many, and for which reasons.
//!
//! No message per event: a broken sender would flood the log. What an event was stands in its dead
//! letter, never here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::outcome::{Ledger, OutcomeKind, ReasonCode};

/// Shortest time between two messages.
const PERIOD: Duration = Duration::from_secs(10);
/// How soon the first bad ending is told.
const LOOK: Duration = Duration::from_secs(1);

type Counts = BTreeMap<(OutcomeKind, Option<ReasonCode>), u64>;

/// The task that tells; it ends with this value.
#[derive(Debug)]
pub(super) struct Notice(JoinHandle<()>);

impl Notice {
    /// Starts the task on the current runtime.
    pub(super) fn start(ledger: Arc<Ledger>) -> Self {
        Self(tokio::spawn(watch(ledger)))
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch(ledger: Arc<Ledger>) {
    let mut told = Counts::new();
    loop {
        let now = ledger.snapshot().ended;
        let news = since(&told, &now);
        let pause = if news.is_empty() {
            LOOK
        } else {
            let events: u64 = news.iter().map(|(_, n)| n).sum();
            tracing::warn!(
                events,
                reasons = in_words(&news),
                "Events were malformed, failed, or were rejected; {}.",
                where_they_are(&news)
            );
            told = now;
            PERIOD
        };
        tokio::time::sleep(pause).await;
    }
}

/// Tells where to look for them. Nothing is left of a damaged row for a dead letter.
fn where_they_are(news: &[(String, u64)]) -> &'static str {
    if news.iter().any(|(name, _)| name == "rejected/internal") {
        "failed and rejected ones are in the dead letters, except for those of a damaged row of the \
         buffer"
    } else {
        "failed and rejected ones are in the dead letters"
    }
}

/// Bad endings that were not told yet, by `outcome/reason`.
fn since(told: &Counts, now: &Counts) -> Vec<(String, u64)> {
    let bad = [OutcomeKind::Malformed, OutcomeKind::Failed, OutcomeKind::Rejected];
    let news = now.iter().filter(|((kind, _), _)| bad.contains(kind)).map(|(key, n)| {
        let (kind, code) = key;
        let name = format!("{kind}/{}", code.map_or("", ReasonCode::as_str));
        (name, n - told.get(key).copied().unwrap_or(0).min(*n))
    });
    news.filter(|(_, n)| *n > 0).collect()
}

fn in_words(news: &[(String, u64)]) -> String {
    news.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Outcome, Tally};

    #[test]
    fn only_bad_endings_that_were_not_told_yet_are_news() {
        let ledger = Ledger::default();
        let mut tally = Tally::default();
        tally.end(&Outcome::Failed(ReasonCode::ScriptError.into()));
        tally.end(&Outcome::Withheld(ReasonCode::OnetrustDenied.into()));
        ledger.enter(&tally);
        let first = ledger.snapshot().ended;
        assert_eq!(in_words(&since(&Counts::new(), &first)), "failed/script_error 1");
        assert!(since(&first, &first).is_empty());
        let mut tally = Tally::default();
        tally.end(&Outcome::Failed(ReasonCode::ScriptError.into()));
        tally.end(&Outcome::Malformed(ReasonCode::InvalidJson.into()));
        ledger.enter(&tally);
        let second = ledger.snapshot().ended;
        let words = in_words(&since(&first, &second));
        assert_eq!(words, "malformed/invalid_json 1, failed/script_error 1");
        assert!(!where_they_are(&since(&first, &second)).contains("except"));
        let mut tally = Tally::default();
        tally.end(&Outcome::Rejected(ReasonCode::Internal.into()));
        ledger.enter(&tally);
        let third = since(&second, &ledger.snapshot().ended);
        assert!(where_they_are(&third).contains("except for those of a damaged row"));
    }
}
