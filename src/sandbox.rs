//! A local Customer.io Track API (v1 and v2): its answers, limits, silent failures, and faults.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use rudder_customerio::sandbox::Sandbox;
//!
//! // Every tenth request is answered with 503; the same ones each time.
//! let faults = [ "503@10%".parse()? ];
//! let sandbox = Sandbox::builder().seed(7).faults(faults).start().await?;
//! // … send requests to sandbox.base_url() …
//! for person in sandbox.people() {
//!     println!("{} {:?}", person.cio_id, person.id);
//! }
//! sandbox.shutdown().await;
//! # Ok(()) }
//! ```

mod app_api;
pub(crate) mod clock;
mod control;
pub(crate) mod credentials;
mod dispatch;
pub(crate) mod engine;
pub(crate) mod fault;
pub(crate) mod log;
pub(crate) mod operation;
pub(crate) mod options;
pub(crate) mod request;
mod route;
mod running;
mod server;
mod tls;
mod v1;
pub(crate) mod validate;
pub(crate) mod workspace;

pub use clock::{Clock, Seconds};
pub use credentials::Credential;
pub use engine::Stats;
pub use fault::{
    BadErrors, Effect, Items, Latency, Match, RateLimit, Redirect, Reset, Rule, SlowBody,
    Unauthorized, When, WholeBatch,
};
pub use log::{Applied, FaultRecord, ItemRecord, RequestRecord};
pub use operation::{Device, EventKind, Identifier};
pub use options::{
    BatchOrder, EventValues, Known, NestedValues, NumericIds, Options, Region, RegionMismatch,
    Span, UlidRule,
};
pub use running::{Builder, RunningSandbox};
pub use tls::Tls;
pub use validate::ItemError;
pub use workspace::view::{Counts, PersonView, RelationView};
pub use workspace::{Activity, ActivityKind, Attribute, Data, Object, StoredEvent};

/// The entry: [`Sandbox::builder`].
#[derive(Debug)]
pub struct Sandbox;

impl Sandbox {
    /// Begins a sandbox on a free port of the loopback interface, with strict switches, no faults,
    /// and every complete credential accepted.
    pub fn builder() -> Builder {
        Builder::default()
    }
}
