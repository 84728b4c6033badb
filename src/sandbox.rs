//! A local Customer.io Track API (v1 and v2): its answers, limits, silent failures, and faults.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use rudder_customerio::sandbox::Sandbox;
//!
//! let sandbox = Sandbox::builder().bind("127.0.0.1:0").seed(7).start().await?;
//! // … send requests to sandbox.base_url() …
//! for person in sandbox.people() {
//!     println!("{} {:?}", person.cio_id, person.id);
//! }
//! sandbox.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! [`engine::Engine`] is the same without sockets, and [`workspace::Workspace`] without HTTP.

mod app_api;
pub mod clock;
mod control;
pub mod credentials;
pub mod engine;
pub mod fault;
pub mod log;
pub mod operation;
pub mod options;
pub mod request;
mod route;
mod running;
mod server;
mod tls;
mod v1;
pub mod validate;
pub mod workspace;

pub use clock::Clock;
pub use credentials::Credential;
pub use fault::Rule;
pub use options::{Options, Region};
pub use running::{Builder, RunningSandbox};
pub use tls::Tls;

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
