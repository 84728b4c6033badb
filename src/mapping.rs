//! From event to operations by VRL scripts: compile, run, reload, test.
//!
//! The only place that knows VRL's compiler. What a script returns is checked elsewhere; here it is
//! a value.

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
    /// What a `record` event describes: `person` or `event`.
    pub record_object: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { device_token_event_name: String::new(), record_object: "person".to_owned() }
    }
}

#[cfg(test)]
mod tests;
