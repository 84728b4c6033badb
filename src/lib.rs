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
//! use rudder_customerio::source::EventBatch;
//!
//! # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
//! let text = "customerio: { site_id: site, api_key: key, endpoint: 'http://127.0.0.1:8090' }\nsources: [ { type: stdin } ]";
//! let (config, _warnings) = Config::parse(text, "inline", LoadMode::Full, &|_| None)?;
//! let sink = CustomerIoSink::builder(config.customerio).data_dir("data").build().await?;
//!
//! let event = r#"{"type":"track","userId":"u-1","event":"Signed Up","messageId":"m-1"}"#;
//! let receipt = sink.handle().submit(EventBatch::from(event).source("host")).await?;
//! println!("{}", receipt.settled().await?);
//! sink.drain(Duration::from_secs(30)).await;
//! # Ok(())
//! # }
//! ```

// What an event is, and how it ends.
pub mod event;
pub mod outcome;

// The road, in the order of the data.
pub mod source;
pub mod filter;
pub mod mapping;
pub mod operation;
pub mod stage;
pub mod buffer;
pub mod data_dir;
pub mod delivery;

// Who puts the stations together.
pub mod sink;
pub mod replay;
pub mod pipeline;

// What the operator sees.
pub mod config;
pub mod diagnostic;
pub mod telemetry;
pub mod admin;

// The local Customer.io.
pub mod sandbox;

// The binary, which adds an allocator only.
#[doc(hidden)]
pub mod cli;

// What all fuzz tests share.
#[cfg(test)]
mod fuzz;
