//! The pipeline stage between RudderStack events and Customer.io.
//!
//! `source → filter → map → buffer → deliver`

// What an event is and how it ends.
pub mod event;
pub mod outcome;

// The road, in the order of the data.
pub mod buffer;
pub mod delivery;
pub mod filter;
pub mod mapping;
pub mod operation;
pub mod pipeline;
pub mod sink;
pub mod source;
pub mod stage;

// What the operator sees.
pub mod admin;
pub mod config;
pub mod diagnostic;
pub mod telemetry;

// The local Customer.io.
pub mod sandbox;
