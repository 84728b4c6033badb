//! What the process tells about itself: metric names in one place, the export of the ledger, and,
//! for the binary alone, the set-up of logs and recorder.
//!
//! The library only emits through the `metrics` and `tracing` facades; `logging::init` and
//! `recorder::install` are called by the binary. No label is ever taken from an event: labels are
//! codes from closed sets, or names from the configuration.

mod export;
#[cfg(feature = "cli")]
pub(crate) mod logging;
pub mod names;
pub(crate) mod panics;
#[cfg(feature = "pipeline")]
pub mod recorder;

use metrics::{Label, counter};

pub use export::Exporter;

/// Labels of everything that the sink counts.
#[must_use]
pub(crate) fn sink_labels() -> Vec<Label> {
    vec![
        Label::from_static_parts("component_id", "customerio"),
        Label::from_static_parts("component_kind", "sink"),
        Label::from_static_parts("component_type", "customerio"),
    ]
}

/// Counts an error of the sink; both labels are from closed sets.
pub(crate) fn error(error_type: &'static str, stage: &'static str) {
    let mut labels = sink_labels();
    labels.push(Label::from_static_parts("error_type", error_type));
    labels.push(Label::from_static_parts("stage", stage));
    counter!(names::ERRORS, labels).increment(1);
}
