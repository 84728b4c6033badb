//! The pipeline stage between RudderStack events and Customer.io.
//!
//! ```text
//! source → filter (connection mode, integrations, consent) → map (VRL scripts) → buffer → deliver
//! ```
//!
//! - [`CustomerIoSink`] is the stage for programs that have sources of their own. It takes an
//!   [`EventBatch`] and gives a [`Receipt`], which tells when the events are safe and how they ended.
//! - [`pipeline::Pipeline`] adds the sources, the admin endpoints, and an orderly stop, as the binary
//!   runs it.
//! - [`sandbox::Sandbox`] is a local Customer.io for tests.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use rudder_customerio::config::{ConsentConfig, ConsentRule, CustomerIoConfig};
//! use rudder_customerio::{CustomerIoSink, EventBatch};
//!
//! # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
//! // Without a rule, what people refused is not looked at.
//! let rule = ConsentRule::new("oneTrust", ["C0004"]);
//! let sink = CustomerIoSink::builder(CustomerIoConfig::new("site id", "API key"))
//!     .consent(ConsentConfig { rules: vec![rule], ..ConsentConfig::default() })
//!     .data_dir("data")
//!     .build()
//!     .await?;
//!
//! let event = r#"{"type":"track","userId":"u-1","event":"Signed Up","messageId":"m-1"}"#;
//! let mut receipt = sink.handle().submit(EventBatch::from(event).source("host")).await?;
//! receipt.buffered().await?; // safe: it may be acknowledged
//! println!("{}", receipt.settled().await?);
//! sink.drain(Duration::from_secs(30)).await;
//! # Ok(())
//! # }
//! ```
//!
//! [`config::Config::load`] reads all of this from a file instead. [`CustomerIoSink::run`] takes a
//! stream, [`SinkHandle::submit`] what comes one by one, and a [`SinkHandle`] is a service of `tower`.
//!
//! # Features
//!
//! | feature | adds |
//! | --- | --- |
//! | none | the sink: filter, consent, mapping, buffer on disk or in memory, delivery, dead letters; configuration in YAML |
//! | `pipeline` | [`pipeline`]: the sources and their TLS, the admin endpoints, the Prometheus recorder, reload, replay, TOML |
//! | `sandbox` | [`sandbox`] |
//! | `cli` (default) | the binary, and both |
//!
//! Scripts are compiled when a sink is built, which takes seconds with an unoptimised `vrl`. Cargo reads
//! profiles of the program alone, so for its debug builds this belongs into its `Cargo.toml`:
//!
//! ```toml
//! [profile.dev.package.vrl]
//! opt-level = 1
//! ```
//!
//! # What it leaves to its program
//!
//! Nothing here installs a subscriber, a metrics recorder, an allocator, a panic hook, a TLS provider, or
//! a signal handler. What happens is told through `tracing` and `metrics`; [`telemetry`] names and
//! describes the metrics, and [`telemetry::Exporter`] sets those that are read off a sink.
//!
//! # Errors
//!
//! [`Diagnostic`] is the operator's mistake, with its place and a remedy. [`outcome::Reason`] is an
//! event's fate, a value of a closed set. [`Refused`] says why a batch was not taken.

// `internal` hands out what nobody else can name.
#![cfg_attr(not(feature = "cli"), warn(unnameable_types))]

// What an event is, and how it ends.
mod event;
pub mod outcome;

// The road, in the order of the data.
mod source;
mod filter;
pub mod mapping;
mod operation;
mod stage;
mod buffer;
mod data_dir;
mod fsync;
mod delivery;

// Who puts the stations together.
pub mod sink;
#[cfg(feature = "pipeline")]
mod replay;
#[cfg(feature = "pipeline")]
pub mod pipeline;

// What the operator sees.
pub mod config;
pub mod diagnostic;
pub mod telemetry;
#[cfg(feature = "pipeline")]
mod admin;

// The local Customer.io.
#[cfg(feature = "sandbox")]
pub mod sandbox;

// The binary, which adds an allocator only.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;

// For the tests and benchmarks of this package.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod internal;

// What all fuzz tests share.
#[cfg(test)]
mod fuzz;

#[cfg(all(test, not(feature = "cli")))]
compile_error!("the unit tests need the default features");

pub use config::{Config, LoadMode};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use mapping::{Mappings, Settings};
pub use outcome::{Outcome, OutcomeKind, ReasonCode};
#[cfg(feature = "pipeline")]
pub use pipeline::Pipeline;
#[cfg(feature = "sandbox")]
pub use sandbox::Sandbox;
pub use sink::{
    CustomerIoSink, EventBatch, Incoming, Origin, Receipt, Refused, SinkHandle, Summary,
};
