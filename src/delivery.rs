//! From the buffer to Customer.io: order per person, batches, limits, answers, retries.
//!
//! (skeleton)

pub mod batch;
pub mod client;
pub mod dead_letter;
pub mod limit;
pub mod order;
pub mod reply;
pub mod retry;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::buffer::{Buffer, Sequence};
use crate::config::CustomerIoConfig;
use crate::outcome::{Outcome, Reason};

pub use dead_letter::{DeadLetter, DeadLetters};

/// What became of one operation of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Accepted.
    Delivered,
    /// Refused for good.
    Rejected(Refusal),
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
    /// Try the same again. `counts` is false for 429 and 503 with `Retry-After`.
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
}

/// Why delivery is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Closed code: `unauthorized`, `forbidden`, `protocol`, `redirected`, `proxy`, `tls`,
    /// `wrong_workspace`.
    pub code: &'static str,
    /// Text for the operator; names URL and status, never a secret.
    pub message: String,
}

/// Where batches go; the real one is [`client`], tests have their own.
pub trait Destination: Send + Sync + std::fmt::Debug {
    /// Sends `{"batch":[…]}` of the given bodies and reads the answer. `attempt` counts from 0.
    fn send(&self, bodies: Vec<bytes::Bytes>, attempt: u32) -> BoxFuture<'_, Reply>;

    /// Asks the region endpoint whether the credentials work.
    fn probe(&self) -> BoxFuture<'_, Result<(), Hold>>;
}

/// State for `/status` and metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeliveryStatus {
    /// `sending`, `waiting` (back-off), `held`, or `paused`.
    pub state: &'static str,
    /// Why it is not `sending`.
    pub reason: Option<String>,
    /// Unix seconds since when.
    pub since: Option<i64>,
    /// Requests in flight.
    pub in_flight: u64,
    /// Current limit in requests per second.
    pub rate: f64,
}

/// Called once for every event whose operations have all ended, after its dead letter is durable.
pub type OnSettled = Arc<dyn Fn(Sequence, &Outcome) + Send + Sync>;

/// Control of a running delivery.
#[derive(Clone, Debug)]
pub struct DeliveryHandle {}

impl DeliveryHandle {
    /// Returns the state.
    #[must_use]
    pub fn status(&self) -> DeliveryStatus {
        todo!()
    }
    /// Stops sending until [`DeliveryHandle::resume`]; events are still accepted.
    pub fn pause(&self) {
        todo!()
    }
    /// Goes on.
    pub fn resume(&self) {
        todo!()
    }
}

/// Starts the delivery task on the current runtime.
///
/// The task reads from `buffer` until it is closed and empty, settles each event in it, and then
/// ends (join the handle). Dropping or aborting the task loses nothing that the buffer keeps.
pub fn start(
    buffer: Arc<dyn Buffer>,
    destination: Arc<dyn Destination>,
    config: &CustomerIoConfig,
    dead_letters: Arc<DeadLetters>,
    on_settled: OnSettled,
) -> (DeliveryHandle, tokio::task::JoinHandle<()>) {
    let _ = (buffer, destination, config, dead_letters, on_settled);
    let _: Option<Reason> = None;
    todo!()
}
