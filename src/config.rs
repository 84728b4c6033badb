//! The configuration: one file, checked whole before anything starts.
//!
//! A file is YAML (JSON is YAML), or TOML if its name ends in `.toml`. [`Config::load`] reads it and
//! reports every mistake at once, each with its place and a remedy. [`schema`] has the range of every
//! key.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use rudder_customerio::config::{Config, LoadMode};
//! use rudder_customerio::sink::Builder;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let (config, warnings) = Config::load(Path::new("customerio.yaml"), LoadMode::Full)?;
//! // The sink has no sources in the file: they are the program's own.
//! for warning in warnings.iter().filter(|warning| warning.code != "no_source") {
//!     eprintln!("{warning}");
//! }
//! let sink = Builder::from_config(&config, config.customerio.clone()).build().await?;
//! # drop(sink);
//! # Ok(()) }
//! ```
//!
//! `${env:NAME}` and `${file:PATH}` stand for whole values. Relative paths (`data_dir`,
//! `mapping.dir`, `customerio.extra_roots`, `${file:…}`) are relative to the working directory, only
//! `dead_letters.dir` to `data_dir`. Every value of a [`Config`] that was read is valid.

// Each section is declared once, in the module of its name; struct, decoder, defaults, and JSON
// Schema come from that declaration.

// Reading: text → tree with places → checked values.
pub(crate) mod tree;
pub(crate) mod yaml;

#[cfg(feature = "pipeline")]
mod change;
mod check;
mod context;
mod declare;
mod form;
mod load;
mod load_mode;
mod reference;
mod schema;
mod suggest;
#[cfg(feature = "pipeline")]
mod toml;
#[cfg(not(feature = "pipeline"))]
#[path = "config/no_toml.rs"]
mod toml;
mod units;

// The sections.
mod consent;
mod credential;
mod customerio;
mod filter;
mod mapping;
mod process;
mod source;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use declare::{Sect, section};
use form::{FilePath, List, Nullable, Period};
use source::Source;

#[cfg(feature = "pipeline")]
pub(crate) use change::Changes;
#[cfg(feature = "cli")]
pub(crate) use check::SOURCE_TYPES;
pub use consent::{ConsentConfig, ConsentRule, DecideBy, Strategy, Unknown};
pub use credential::Credential;
pub use customerio::{
    Api, BatchConfig, CustomerIoConfig, Ordering, Region, RetryConfig, StatusPattern,
};
pub use filter::{EventListConfig, EventListMode, FilterConfig, Mode, ModeConfig};
#[cfg(feature = "cli")]
pub(crate) use form::{BadPath, event_path};
pub use load_mode::LoadMode;
pub use mapping::MappingConfig;
pub use process::{AdminConfig, LogConfig, LogFormat, LogLevel};
pub use schema::schema;
pub use source::{
    Ack, HttpConfig, IpNetwork, RudderStackConfig, SourceConfig, StdinConfig, TlsConfig,
    VectorConfig, WriteKey,
};
pub use store::{
    BufferConfig, BufferKind, DeadLettersConfig, DeadLettersFull, OnCorruption, WhenFull,
};

section! {
    /// Configuration of rudder-customerio.
    #[derive(Clone, Debug)]
    pub struct Config {
        /// Folder for everything that is stored, relative to the working directory.
        data_dir: PathBuf as FilePath = "./data",
        /// Where events come from.
        sources: Vec<SourceConfig> as List<Source> = "[]",
        /// Which events may go to Customer.io, apart from consent.
        filter: FilterConfig as Sect = "{}",
        /// Which consent an event needs. Ids are compared exactly, case included.
        consent: ConsentConfig as Sect = "{}",
        /// The scripts that map events to Customer.io's operations.
        mapping: MappingConfig as Sect = "{}",
        /// Where mapped events wait for Customer.io.
        buffer: BufferConfig as Sect = "{}",
        /// The workspace at Customer.io, and how it is spoken to. `run` needs it; commands that send
        /// nothing do not.
        customerio: Option<CustomerIoConfig> as Nullable<Sect> = "null",
        /// Where events go that failed or that Customer.io rejected.
        dead_letters: DeadLettersConfig as Sect = "{}",
        /// The endpoints for health, metrics, and control.
        admin: AdminConfig as Sect = "{}",
        /// Messages on standard error.
        log: LogConfig as Sect = "{}",
        /// How long a stop waits for deliveries before what is left stays in the buffer.
        drain_timeout: Duration as Period<0, 3_600_000> = "30s",
    }
}

#[cfg(test)]
mod tests;
