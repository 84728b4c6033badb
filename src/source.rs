//! Where events come from, and the way by which a source hands them in.

#[cfg(feature = "pipeline")]
mod body;
#[cfg(feature = "pipeline")]
pub mod http;
pub mod intake;
pub mod received;
#[cfg(feature = "pipeline")]
mod repeats;
#[cfg(feature = "pipeline")]
pub mod rudderstack;
#[cfg(feature = "pipeline")]
mod server;
#[cfg(feature = "pipeline")]
pub mod stdin;
#[cfg(feature = "pipeline")]
pub mod submit;
#[cfg(feature = "pipeline")]
pub mod tls;
#[cfg(feature = "pipeline")]
pub mod vector;

mod batch;

#[cfg(feature = "pipeline")]
use std::sync::Arc;

pub(crate) use batch::PROGRAM;
#[cfg(feature = "pipeline")]
pub use batch::Replay;
pub use batch::{EventBatch, Incoming, Origin};
pub use intake::{Intake, Receipt, Refused, Summary};
#[cfg(feature = "pipeline")]
pub use submit::Submit;

/// Tells whether events can be taken now; asked by probes.
#[cfg(feature = "pipeline")]
pub type Health = Arc<dyn Fn() -> bool + Send + Sync>;
