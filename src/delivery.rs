//! From the buffer to Customer.io: order per person, batches, limits, answers, retries.
//!
//! One task owns order, timers, and what is under way; requests are tasks of their own. Nothing here
//! is shared but the [`DeliveryHandle`], so there are no locks in the way of an operation:
//!
//! `buffer → order (who may go) → batch → limit → client → reply → settle | retry | dead letter`

pub mod batch;
pub mod client;
pub mod dead_letter;
pub mod limit;
pub mod order;
pub mod reply;
pub mod retry;

mod control;
mod courier;
pub(crate) mod metering;
mod parcel;
mod progress;
mod settling;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::buffer::{Buffer, Sequence};
use crate::config::{Api, BatchConfig, CustomerIoConfig, RetryConfig};
#[cfg(feature = "pipeline")]
use crate::diagnostic::Diagnostic;
use crate::outcome::Outcome;

pub use control::DeliveryHandle;
pub use dead_letter::{DeadLetter, DeadLetters, Unwritten};

/// What became of one operation of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Accepted.
    Delivered,
    /// Refused for good.
    Rejected(Refusal),
    /// Not applied, through no fault of its own: send again at once.
    Again,
    /// Refused for a reason that passes (`retry.item_reasons`): send again later.
    Later(Refusal),
    /// May have been applied or not: resend singly, with the same ids.
    Unknown,
}

/// Customer.io's words about a refused operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// `reason` of the error.
    pub reason: Option<String>,
    /// `field` of the error.
    pub field: Option<String>,
    /// `message` of the error.
    pub message: Option<String>,
    /// HTTP status of the answer.
    pub status: Option<u16>,
}

/// What an answer to a batch means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// One verdict per operation.
    Items(Vec<Verdict>),
    /// Try the same again. With `after`, and after a 429, it is not a failure that counts.
    Retry {
        /// How long the server asked to wait.
        after: Option<Duration>,
        /// Closed code such as `http_503`, `network`, `timeout` (a metric label).
        why: &'static str,
        /// Whether it may have been applied.
        unknown: bool,
    },
    /// Stop the destination, keep everything, probe.
    Hold(Hold),
    /// Halve the batch and try the parts.
    Split(Refusal),
    /// The answer to a second try at once, whatever it says: the first, on a connection that
    /// broke, had been handed over and may have been applied.
    Doubtful(Box<Reply>),
}

/// Why delivery is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Closed code: `unauthorized`, `forbidden`, `protocol`, `redirected`, `proxy`, `tls`,
    /// `wrong_region`, `wrong_workspace`; from a probe also `unreachable`, which says nothing about
    /// the reason for which delivery is held.
    pub code: &'static str,
    /// Text for the operator; names URL and status, never a secret.
    pub message: String,
}

/// Where batches go; the real one is `client`, tests have their own.
pub trait Destination: Send + Sync + std::fmt::Debug {
    /// Sends the operations of the given bodies in one request, and reads the answer. `attempt`
    /// counts from 0.
    fn send(&self, bodies: Vec<bytes::Bytes>, attempt: u32) -> BoxFuture<'_, Reply>;

    /// Asks the region endpoint whether the credentials work, after reading those again that come
    /// from files.
    fn probe(&self) -> BoxFuture<'_, Result<(), Hold>>;

    /// Takes over what may change while it runs: credentials, and what an answer means.
    ///
    /// # Errors
    ///
    /// Diagnostics of values that cannot be used; then everything stays as it was.
    #[cfg(feature = "pipeline")]
    fn reconfigure(&self, _config: &CustomerIoConfig) -> Result<(), Vec<Diagnostic>> {
        Ok(())
    }
}

/// What of a delivery may change while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Sustained requests per second.
    pub requests_per_second: u32,
    /// Requests that may leave at once.
    pub burst: u32,
    /// How requests are filled.
    pub batch: BatchConfig,
    /// What is tried again, and for how long.
    pub retry: RetryConfig,
}

impl From<&CustomerIoConfig> for Tuning {
    fn from(config: &CustomerIoConfig) -> Self {
        Self {
            requests_per_second: config.requests_per_second,
            burst: config.burst,
            batch: match config.api {
                Api::V2 => config.batch.clone(),
                // Each operation is a request of its own; `concurrency` makes up for it.
                Api::V1 => BatchConfig { max_items: 1, ..config.batch.clone() },
            },
            retry: config.retry.clone(),
        }
    }
}

/// State for `/status` and metrics.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DeliveryStatus {
    /// `sending`, `waiting` (back-off), `held`, or `paused`.
    pub state: &'static str,
    /// Why it is not `sending`. When `held`: `unauthorized`, `forbidden`, `protocol`, `redirected`,
    /// `proxy`, `tls`, `wrong_region`, `wrong_workspace`; `dead_letters` while those cannot be
    /// written; `buffer_damaged` while a damaged row stands in the way.
    pub reason: Option<String>,
    /// Unix seconds since when.
    pub since: Option<i64>,
    /// Requests in flight.
    pub in_flight: u64,
    /// Current limit in requests per second, which a 429 lowers for a while.
    pub rate: f64,
}

/// Called once for every event whose operations have all ended, after its dead letter is durable.
pub type OnSettled = Arc<dyn Fn(Sequence, &Outcome) + Send + Sync>;

/// How delivery paces itself, as far as the `customerio` section does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Operations that are read ahead of those that travel (`buffer.read_ahead`), with their
    /// bodies in memory. Operations that wait behind their own person's, or for another try, do
    /// not count.
    pub read_ahead: usize,
    /// Bodies that are read ahead weigh at most about this many bytes, together with dead letters
    /// that are not durable yet.
    ///
    /// Half of it is for those who may travel at once: at 32 MiB some 30 full requests, four rounds
    /// of eight in flight, while the next are being read. More would only be memory.
    pub read_ahead_bytes: u64,
    /// Operations that may wait behind others of their people, or for another try. Nothing is read
    /// beyond, so that memory stays bounded: about 60 MB for as many as this by default, twice as
    /// much if each also has a key that no other has.
    pub most_parked: usize,
    /// First pause between probes of a held delivery; doubles with each.
    pub probe_first: Duration,
    /// Longest pause between probes.
    pub probe_longest: Duration,
    /// While delivery is `forbidden`, one request with data is tried this often, even if the probe
    /// is refused.
    pub forbidden_data: Duration,
    /// Shortest wait for a `Retry-After`.
    pub least_asked_wait: Duration,
    /// First pause after a body could not be fetched from the buffer; doubles up to 32 times as
    /// much.
    pub fetch_pause: Duration,
    /// First pause after dead letters could not be written; doubles up to 30 times as much.
    pub dead_letter_pause: Duration,
    /// How often a rate that a 429 lowered is raised by a step.
    pub rate_raised_every: Duration,
    /// How often dead letters are looked at for their age.
    pub dead_letter_age_check: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            read_ahead: 20_000,
            read_ahead_bytes: 32 << 20,
            most_parked: 1_000_000,
            probe_first: Duration::from_secs(5),
            probe_longest: Duration::from_secs(300),
            forbidden_data: Duration::from_secs(300),
            least_asked_wait: Duration::from_secs(1),
            fetch_pause: Duration::from_secs(1),
            dead_letter_pause: Duration::from_secs(1),
            rate_raised_every: Duration::from_secs(60),
            dead_letter_age_check: Duration::from_secs(600),
        }
    }
}

/// Starts the delivery task on the current runtime.
///
/// The task reads from `buffer` until it is closed and empty, settles each event in it, and then
/// ends (join the handle). Dropping or aborting the task loses nothing that the buffer keeps.
pub fn start_paced(
    buffer: Arc<dyn Buffer>,
    destination: Arc<dyn Destination>,
    config: &CustomerIoConfig,
    dead_letters: Arc<DeadLetters>,
    on_settled: OnSettled,
    pace: Pace,
) -> (DeliveryHandle, tokio::task::JoinHandle<()>) {
    let (handle, orders) = DeliveryHandle::new(f64::from(config.requests_per_second));
    let ends = courier::Ends { buffer, destination, dead_letters, on_settled };
    let courier = courier::Courier::new(ends, config, pace, handle.clone());
    (handle, tokio::spawn(courier.run(orders)))
}

#[cfg(test)]
mod sandbox_tests;
#[cfg(test)]
mod tests;
