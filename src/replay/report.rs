//! What a replay tells.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counts of a replay so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes that there are.
    pub of_bytes: u64,
    /// Letters that were read.
    pub letters: u64,
    /// Selected letters that were not replayed before, by outcome and reason (`rejected refused`).
    pub selected: BTreeMap<String, u64>,
    /// Selected letters that were replayed before.
    pub done_before: u64,
    /// Letters that were handed to delivery, or would be.
    pub replayed: u64,
    /// How many of these Customer.io may have applied at the time.
    pub unknown: u64,
    /// Letters whose event ends before delivery by today's rules, by outcome and reason.
    pub kept_back: BTreeMap<String, u64>,
    /// Letters whose event still fails; they stay dead letters, by outcome and reason.
    pub still_failing: BTreeMap<String, u64>,
    /// The first few different failures among these.
    pub examples: Vec<Example>,
    /// Lines that are no letters, and files that cannot be read.
    pub unreadable: u64,
    /// Letters that became new dead letters while the replay waited for their end.
    pub failed_again: u64,
    /// Why it waits, if it does.
    pub waiting: Option<String>,
}

/// What some letters still fail of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Outcome and reason, such as `failed script_error`.
    pub failure: String,
    /// What the script or the check says.
    pub detail: String,
    /// How many letters fail of just this.
    pub letters: u64,
}

/// How many different failures are told.
const EXAMPLES: usize = 5;
/// How much of a detail is told, in characters.
const DETAIL: usize = 300;

impl Report {
    /// Counts a letter whose event still fails.
    pub(super) fn fails(&mut self, failure: String, detail: Option<&str>) {
        *self.still_failing.entry(failure.clone()).or_default() += 1;
        let Some(detail) = detail else { return };
        let detail: String = detail.chars().take(DETAIL).collect();
        let same = |e: &&mut Example| e.failure == failure && e.detail == detail;
        if let Some(known) = self.examples.iter_mut().find(same) {
            known.letters += 1;
        } else if self.examples.len() < EXAMPLES {
            self.examples.push(Example { failure, detail, letters: 1 });
        }
    }

    /// Tells whether every selected letter is done with.
    #[must_use]
    #[cfg(feature = "cli")]
    pub fn is_clean(&self) -> bool {
        self.still_failing.is_empty() && self.unreadable == 0 && self.failed_again == 0
    }
}

/// How a replay ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", content = "why", rename_all = "snake_case")]
pub enum Ending {
    /// Every letter was looked at.
    Done,
    /// It was asked to stop; the same selection goes on later.
    Stopped,
    /// It cannot go on now; text for the operator.
    Failed(String),
}

/// What a replay says while it goes on; one JSON object a line at the endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// What an operator should know before it goes on.
    Warning {
        /// Text for the operator.
        text: String,
    },
    /// Something about a file or a line; shows nothing of its content.
    Notice {
        /// Text for the operator.
        text: String,
    },
    /// How far it is.
    Progress {
        /// The counts so far.
        report: Report,
    },
    /// The last message.
    End {
        /// The final counts.
        report: Report,
        /// How it ended.
        ending: Ending,
    },
}
