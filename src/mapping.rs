//! From event to operations by VRL scripts: which scripts there are, and what they are told.
//!
//! A sink runs the built-in ones, or those of a folder like `vrl/`, which the command `init` writes:
//!
//! ```no_run
//! # use std::path::Path;
//! use rudder_customerio::config::CustomerIoConfig;
//! use rudder_customerio::mapping::{Mappings, Settings};
//! use rudder_customerio::sink::CustomerIoSink;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let settings =
//!     Settings { device_token_event_name: "Device Token".to_owned(), ..Settings::default() };
//! let sink = CustomerIoSink::builder(CustomerIoConfig::new("site id", "API key"))
//!     .mappings(Mappings::read(Path::new("vrl"))?)
//!     .settings(settings)
//!     .build()
//!     .await?;
//! # drop(sink);
//! # Ok(()) }
//! ```
//!
//! [`test_mappings`](super::sink::test_mappings) runs the scripts' own tests, and
//! [`SinkHandle::reload`](super::sink::SinkHandle::reload) changes scripts while a sink runs.

// The only place that knows VRL's compiler. What a script returns is checked elsewhere; here it is
// a value.

mod compile;
pub(crate) mod compiled;
mod diagnose;
mod functions;
mod guard;
mod needs;
#[cfg(feature = "pipeline")]
pub(crate) mod reload;
pub(crate) mod run;
mod scripts;
mod shape;
mod source;
pub(crate) mod suite;
mod watch;

pub(crate) use compiled::{Mapping, STACK_BYTES};
pub(crate) use run::{Mapped, Mapper};
pub use scripts::Mappings;
#[cfg(feature = "pipeline")]
pub(crate) use suite::Check;
pub use suite::SuiteReport;
pub(crate) use suite::run_suite;

/// Values that scripts see as `%customerio.<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of one more track event that registers a device token; empty names none.
    pub device_token_event_name: String,
    /// What a `record` event describes: `person` or `event`. With anything else they all fail.
    pub record_object: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { device_token_event_name: String::new(), record_object: "person".to_owned() }
    }
}

#[cfg(test)]
mod tests;
