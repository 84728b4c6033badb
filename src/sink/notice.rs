//! Tells the log, now and then, that events end badly: how many, and for which reasons.
//!
//! No message per event: a broken sender would flood the log. What an event was stands in its dead
//! letter, never here. A malformed one leaves no letter, so what was wrong with one is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::outcome::{Ledger, OutcomeKind, ReasonCode};

/// Shortest time between two messages.
const PERIOD: Duration = Duration::from_secs(10);
/// How soon the first bad ending is told.
const LOOK: Duration = Duration::from_secs(1);

type Key = (OutcomeKind, Option<ReasonCode>);
type Counts = BTreeMap<Key, u64>;

/// The task that tells; it ends with this value.
#[derive(Debug)]
pub(super) struct Notice {
    teller: Arc<Teller>,
    task: JoinHandle<()>,
}

impl Notice {
    /// Starts the task on the current runtime.
    pub(super) fn start(ledger: Arc<Ledger>) -> Self {
        let teller = Arc::new(Teller { ledger, told: Mutex::default() });
        let task = tokio::spawn(watch(Arc::clone(&teller)));
        Self { teller, task }
    }

    /// Tells at once what was not told yet: at the end nobody looks again.
    pub(super) fn tell(&self) {
        self.teller.tell();
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct Teller {
    ledger: Arc<Ledger>,
    told: Mutex<Counts>,
}

impl Teller {
    /// Returns whether there was something to tell.
    fn tell(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.ledger.snapshot().ended;
        let news = since(&told, &now);
        if news.is_empty() {
            return false;
        }
        let events: u64 = news.iter().map(|(_, n)| n).sum();
        tracing::warn!(
            events,
            reasons = in_words(&news, &self.ledger.malformed_because()),
            "Events were malformed, failed, or were rejected; {}.",
            where_they_are(&news)
        );
        *told = now;
        true
    }
}

async fn watch(teller: Arc<Teller>) {
    loop {
        let pause = if teller.tell() { PERIOD } else { LOOK };
        tokio::time::sleep(pause).await;
    }
}

/// Tells where to look for them. Nothing is left of a damaged row for a dead letter.
fn where_they_are(news: &[(Key, u64)]) -> &'static str {
    let damaged = (OutcomeKind::Rejected, Some(ReasonCode::Internal));
    if news.iter().any(|(key, _)| *key == damaged) {
        "failed and rejected ones are in the dead letters, except for those of a damaged row of the \
         buffer"
    } else {
        "failed and rejected ones are in the dead letters"
    }
}

/// Bad endings that were not told yet.
fn since(told: &Counts, now: &Counts) -> Vec<(Key, u64)> {
    let bad = [OutcomeKind::Malformed, OutcomeKind::Failed, OutcomeKind::Rejected];
    let news = now.iter().filter(|((kind, _), _)| bad.contains(kind));
    let news = news.map(|(key, n)| (*key, n - told.get(key).copied().unwrap_or(0).min(*n)));
    news.filter(|(_, n)| *n > 0).collect()
}

/// Each by `outcome/reason` with its number, and an example of what made events malformed.
fn in_words(news: &[(Key, u64)], because: &BTreeMap<ReasonCode, Box<str>>) -> String {
    let words = news.iter().map(|((kind, code), n)| {
        let reason = code.map_or("", ReasonCode::as_str);
        let why = code.filter(|_| *kind == OutcomeKind::Malformed).and_then(|it| because.get(&it));
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        format!("{}/{reason} {n}{why}", kind.as_str())
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Outcome, Reason, Tally};

    #[test]
    fn only_bad_endings_that_were_not_told_yet_are_news() {
        let ledger = Ledger::default();
        let mut tally = Tally::default();
        tally.end(&Outcome::Failed(ReasonCode::ScriptError.into()));
        tally.end(&Outcome::Withheld(ReasonCode::OnetrustDenied.into()));
        ledger.enter(&tally);
        let first = ledger.snapshot().ended;
        assert_eq!(
            in_words(&since(&Counts::new(), &first), &BTreeMap::new()),
            "failed/script_error 1"
        );
        assert!(since(&first, &first).is_empty());
        let mut tally = Tally::default();
        tally.end(&Outcome::Failed(ReasonCode::ScriptError.into()));
        for detail in ["nothing at `.message`", "another"] {
            let reason = Reason::new(ReasonCode::NoEventAtPath, detail);
            tally.end(&Outcome::Malformed(reason));
        }
        ledger.enter(&tally);
        let second = ledger.snapshot().ended;
        let words = in_words(&since(&first, &second), &ledger.malformed_because());
        let malformed = "malformed/no_event_at_path 2 (nothing at `.message`)";
        assert_eq!(words, format!("{malformed}, failed/script_error 1"));
        assert!(!where_they_are(&since(&first, &second)).contains("except"));
        let mut tally = Tally::default();
        tally.end(&Outcome::Rejected(ReasonCode::Internal.into()));
        ledger.enter(&tally);
        let third = since(&second, &ledger.snapshot().ended);
        assert!(where_they_are(&third).contains("except for those of a damaged row"));
    }
}
