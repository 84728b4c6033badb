//! The pipeline stage between RudderStack events and Customer.io.
//!
//! `source → filter (connection mode, integrations, consent) → map (VRL scripts) → buffer → deliver`
//!
//! [`sink::CustomerIoSink`] is the stage for programs that have sources of their own;
//! [`pipeline::Pipeline`] adds the sources, the endpoints, and an orderly stop, as the binary runs it;
//! [`sandbox::Sandbox`] is a local Customer.io for tests. Nothing here installs a subscriber, a metrics
//! recorder, an allocator, or a signal handler.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use rudder_customerio::config::{Config, LoadMode};
//! use rudder_customerio::sink::CustomerIoSink;
//! use rudder_customerio::source::{EventBatch, Incoming, Origin};
//!
//! # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
//! let text = "customerio: { site_id: site, api_key: key, endpoint: 'http://127.0.0.1:8090' }\nsources: [ { type: stdin } ]";
//! let (config, _warnings) = Config::parse(text, "inline", LoadMode::Full, &|_| None).map_err(|e| e[0].clone())?;
//! let customerio = config.customerio.ok_or("no destination")?;
//! let sink = CustomerIoSink::builder(customerio).data_dir("data").build().await.map_err(|e| e[0].clone())?;
//!
//! let event = r#"{"type":"track","userId":"u-1","event":"Signed Up","messageId":"m-1"}"#;
//! let batch = EventBatch {
//!     elements: vec![Incoming::new(Ok(event.into()), 0)],
//!     set_type: None,
//!     origin: Origin { source: "host".into(), source_type: "cloud".into() },
//!     received_at: chrono::Utc::now(),
//!     client_ip: None,
//! };
//! let receipt = sink.handle().submit(batch).await.map_err(|refused| format!("{refused:?}"))?;
//! let summary = receipt.settled().await.map_err(|refused| format!("{refused:?}"))?;
//! println!("{summary:?}");
//! sink.drain(Duration::from_secs(30)).await;
//! # Ok(())
//! # }
//! ```

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
pub use diagnostic::Diagnostic;
pub use mapping::{Mappings, Settings};
pub use outcome::{Outcome, OutcomeKind, ReasonCode};
#[cfg(feature = "pipeline")]
pub use pipeline::Pipeline;
#[cfg(feature = "sandbox")]
pub use sandbox::Sandbox;
pub use sink::{
    CustomerIoSink, EventBatch, Incoming, Origin, Receipt, Refused, SinkHandle, Summary,
};
