//! The JSON of `/status`.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::buffer::BufferStats;
use crate::delivery::DeliveryStatus;
use crate::outcome::{LedgerSnapshot, OutcomeKind};
use crate::sink::SinkStats;

/// The state of the process. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Version of the program.
    pub version: &'static str,
    /// Time since the start.
    pub uptime_seconds: u64,
    /// The account of all events of this life of the process.
    pub ledger: Account,
    /// The account of all lives of the buffer; null if it lives in memory. There, `recovered` is 0:
    /// what one life left is in `buffered` until another one ends it.
    pub all_lives: Option<Account>,
    /// What delivery does.
    pub delivery: Delivery,
    /// What waits.
    pub buffer: Fill,
    /// Which scripts are in force.
    pub scripts: Mappings,
    /// Which configuration is in force.
    pub config: Configuration,
}

/// `ledger` and `all_lives`: every event that was received or recovered stands in exactly one of the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Account {
    pub received: u64,
    pub recovered: u64,
    pub malformed: u64,
    pub filtered: u64,
    pub withheld: u64,
    pub dropped: u64,
    pub failed: u64,
    pub delivered: u64,
    pub rejected: u64,
    pub buffered: u64,
    /// What the sum is off by; anything but 0 is a defect.
    pub gap: i64,
}

/// `delivery`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Delivery {
    /// `sending`, `waiting`, `held`, or `paused`.
    pub state: &'static str,
    /// Why it is not `sending`.
    pub reason: Option<String>,
    /// Since when it is so.
    pub since: Option<String>,
    /// Requests under way.
    pub in_flight: u64,
    /// Current limit in requests per second.
    pub rate: f64,
}

/// `buffer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fill {
    /// Events that wait.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bound.
    pub max_bytes: u64,
    /// Age of the oldest; null if none waits, or if damage hides it.
    pub oldest_seconds: Option<u64>,
}

/// `scripts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mappings {
    /// Hash of the scripts in force and their list.
    pub hash: String,
    /// Since when they are in force.
    pub loaded_at: String,
    /// Why the scripts were refused at the last reload; null if they were not.
    pub error: Option<String>,
}

/// `config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Configuration {
    /// Since when it is as it is.
    pub loaded_at: String,
    /// Paths of the keys that were read with other values than the process started with, and take
    /// effect with the next start.
    pub needs_restart: Vec<String>,
    /// Why the configuration was refused at the last reload; null if it was not.
    pub error: Option<String>,
}

impl Configuration {
    /// Tells what was read, and since when it is in force.
    #[must_use]
    pub fn new(
        loaded_at: DateTime<Utc>,
        needs_restart: Vec<String>,
        error: Option<String>,
    ) -> Self {
        Self { loaded_at: rfc3339(loaded_at), needs_restart, error }
    }
}

impl Status {
    /// Puts the state together.
    #[must_use]
    pub fn new(
        stats: &SinkStats,
        uptime: Duration,
        script_error: Option<String>,
        config: Configuration,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: uptime.as_secs(),
            ledger: Account::from(&stats.ledger),
            all_lives: stats.all_lives.as_ref().map(Account::from),
            delivery: Delivery::from(&stats.delivery),
            buffer: Fill::from(&stats.buffer),
            scripts: Mappings {
                hash: stats.script_hash.to_string(),
                loaded_at: rfc3339(stats.scripts_loaded_at),
                error: script_error,
            },
            config,
        }
    }
}

impl From<&LedgerSnapshot> for Account {
    fn from(ledger: &LedgerSnapshot) -> Self {
        let gap = ledger.gap().clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Self {
            received: ledger.received,
            recovered: ledger.recovered,
            malformed: ledger.total(OutcomeKind::Malformed),
            filtered: ledger.total(OutcomeKind::Filtered),
            withheld: ledger.total(OutcomeKind::Withheld),
            dropped: ledger.total(OutcomeKind::Dropped),
            failed: ledger.total(OutcomeKind::Failed),
            delivered: ledger.total(OutcomeKind::Delivered),
            rejected: ledger.total(OutcomeKind::Rejected),
            buffered: ledger.buffered,
            gap: i64::try_from(gap).unwrap_or(i64::MAX),
        }
    }
}

impl From<&DeliveryStatus> for Delivery {
    fn from(status: &DeliveryStatus) -> Self {
        let since = status.since.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        Self {
            state: status.state,
            reason: status.reason.clone(),
            since: since.map(rfc3339),
            in_flight: status.in_flight,
            rate: status.rate,
        }
    }
}

impl From<&BufferStats> for Fill {
    fn from(stats: &BufferStats) -> Self {
        let age =
            |oldest: DateTime<Utc>| u64::try_from((Utc::now() - oldest).num_seconds()).unwrap_or(0);
        Self {
            events: stats.events,
            bytes: stats.bytes,
            max_bytes: stats.max_bytes,
            oldest_seconds: stats.oldest.map(age),
        }
    }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
