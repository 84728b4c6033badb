//! The sink: filter → map → buffer → deliver behind one type.
//!
//! [`CustomerIoSink`] owns the running stages; [`CustomerIoSink::builder`] begins one. [`SinkHandle`]
//! is what sources, endpoints, and embedding programs hold: it takes [`EventBatch`]es and gives
//! [`Receipt`]s, and shows the state. It installs nothing global: no subscriber, recorder, panic
//! hook, TLS provider, or signal handler.

// The life of a sink: made, started, used, drained.
mod builder;
mod drain;
mod enter;
mod handle;
pub(crate) mod parts;
mod service;
mod start;
mod stats;

// From the intake to the buffer.
mod append;
mod front;
mod group;
mod mapped;
mod reorder;
pub(crate) mod rules;
pub(crate) mod scripts;
mod threads;
mod workers;

// What became of the events, and who is told.
mod account;
mod notice;
mod trouble;

use futures_util::Stream;
use tokio::task::JoinHandle;

use crate::config::CustomerIoConfig;

pub use crate::buffer::BufferStats;
pub use crate::delivery::{DeliveryHandle, DeliveryStatus};
pub use crate::source::{EventBatch, Incoming, Intake, Origin, Receipt, Refused, Summary};
#[cfg(feature = "cli")]
pub(crate) use builder::BUFFER_DIR;
pub use builder::Builder;
pub use drain::Drained;
pub use handle::SinkHandle;
pub(crate) use parts::Parts;
pub(crate) use rules::Rules;
pub use scripts::test_mappings;
pub use stats::SinkStats;
#[cfg(feature = "pipeline")]
pub(crate) use threads::on_mapping_stack;

/// A running sink.
///
/// ```
/// use std::time::Duration;
///
/// use rudder_customerio::config::CustomerIoConfig;
/// use rudder_customerio::sandbox::Sandbox;
/// use rudder_customerio::sink::CustomerIoSink;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// // A local Customer.io; without an endpoint, events go to the region's.
/// let sandbox = Sandbox::builder().start().await?;
/// let mut customerio = CustomerIoConfig::new("site id", "API key");
/// customerio.endpoint = Some(sandbox.base_url().parse()?);
///
/// let sink = CustomerIoSink::builder(customerio).data_dir(dir.path()).build().await?;
/// let events = [
///     r#"{"type":"identify","userId":"u-1","traits":{"plan":"pro"}}"#,
///     r#"{"type":"track","userId":"u-1","event":"Signed Up"}"#,
/// ];
/// let summary = sink.run(futures_util::stream::iter(events)).await?;
/// assert_eq!((summary.received, summary.delivered), (2, 2));
/// assert_eq!(sandbox.people().len(), 1);
///
/// // What is not delivered within this time is delivered after the next start.
/// assert!(sink.drain(Duration::from_secs(30)).await.is_clean());
/// # sandbox.shutdown().await;
/// # Ok(()) }
/// ```
///
/// # Runtime
///
/// The stages are tasks of the tokio runtime on which the sink is built, which needs its timer and
/// its I/O enabled and may have one thread or many. Mapping has threads of its own and never
/// blocks that runtime. Handles and receipts work on any thread, in any runtime, and without one.
///
/// When that runtime is shut down without a [drain](CustomerIoSink::drain), receipts are refused
/// with [`Refused::Closed`], and what the buffer holds on disk is delivered after the next start.
///
/// # Several sinks
///
/// A process may have several, each with a data directory of its own. Their metrics have the same
/// labels, so counters add up and gauges show the last.
///
/// # Drop
///
/// Dropping it closes its intake; what is inside still goes its way in the background.
#[derive(Debug)]
pub struct CustomerIoSink {
    handle: SinkHandle,
    appender: JoinHandle<()>,
    delivery: JoinHandle<()>,
}

impl CustomerIoSink {
    /// Begins a sink for a workspace at Customer.io, with defaults for everything else.
    ///
    /// Takes the configuration's section as [`Config`](crate::config::Config) has it, where it may
    /// be missing; [`Builder::build`] refuses that.
    pub fn builder(customerio: impl Into<Option<CustomerIoConfig>>) -> Builder {
        Builder::new(customerio.into())
    }

    /// Returns access that can be cloned and sent around. Handles do not keep the sink running, but
    /// its data directory taken.
    #[must_use]
    pub fn handle(&self) -> SinkHandle {
        self.handle.clone()
    }

    /// Takes everything from a stream, and returns after the last of its events has ended:
    /// delivered, kept back by a rule, or a dead letter.
    ///
    /// The summary counts the events of this run alone; others may be handed in meanwhile.
    ///
    /// An item is a batch, or whatever makes one, such as one event's text. Single events are
    /// joined on the way to the disk and to Customer.io; batches save some work before that.
    ///
    /// **Order.** Events enter in the stream's order, and no operation overtakes an earlier one of
    /// the same person.
    ///
    /// **Back pressure.** The stream is polled while there is room: in memory
    /// ([`Builder::intake_bytes`]), and behind that in the buffer ([`Builder::buffer`]). An outage
    /// of Customer.io fills the buffer before it stops the stream.
    ///
    /// **Errors of the stream** are its owner's, since only he knows whether to go on: map what
    /// cannot be skipped to the end of the stream.
    ///
    /// ```
    /// # use futures_util::{StreamExt, future::ready, stream};
    /// # async fn example(sink: rudder_customerio::sink::CustomerIoSink) -> Result<(), Box<dyn std::error::Error>> {
    /// # let lines = stream::iter([std::io::Result::Ok(String::new())]);
    /// let mut failure = None;
    /// let events = lines.scan(&mut failure, |failure, line| {
    ///     ready(line.map_err(|error| **failure = Some(error)).ok())
    /// });
    /// let summary = sink.run(events).await?;
    /// if let Some(error) = failure {
    ///     eprintln!("the input broke off after {summary}: {error}");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refused::Closed`] at once when the intake is closed or the sink's runtime ends; the
    /// ledger has what was taken before.
    ///
    /// # Cancel safety
    ///
    /// What was taken goes its way when the future is dropped. One item is lost if it waited for
    /// room; so end the stream instead (`take_until`), and drop the future only to end the wait
    /// for delivery. [`SinkHandle::submit_all`] tells the two apart.
    pub async fn run<B: Into<EventBatch>>(
        &self,
        batches: impl Stream<Item = B>,
    ) -> Result<Summary, Refused> {
        self.handle.submit_all(batches).await?.settled().await
    }
}

impl Drop for CustomerIoSink {
    fn drop(&mut self) {
        self.handle.shared.intake.close();
    }
}

#[cfg(test)]
pub(crate) mod tests;
