//! Where events come from, and the way by which a source hands them in.

mod body;
pub mod http;
pub mod intake;
pub mod rudderstack;
mod server;
pub mod stdin;
pub mod submit;
pub mod tls;
pub mod vector;

mod batch;

use std::sync::Arc;

pub(crate) use batch::PROGRAM;
pub use batch::{EventBatch, Incoming, Origin, Replay};
pub use intake::{Intake, Receipt, Refused, Summary};
pub use submit::Submit;

/// Tells whether events can be taken now; asked by probes.
pub type Health = Arc<dyn Fn() -> bool + Send + Sync>;
