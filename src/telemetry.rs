//! What a sink tells about itself: the names of its metrics, and the export of its ledger.
//!
//! It speaks through the `tracing` and `metrics` facades alone, so its program chooses subscriber
//! and recorder. What is counted as it happens reaches the recorder by itself; what is read off a
//! sink is set by an [`Exporter`], as often as somebody asks. No label is ever taken from an event:
//! labels are codes from closed sets, or names that configuration and program give.
//!
//! ```
//! use rudder_customerio::sink::SinkHandle;
//! use rudder_customerio::telemetry::{Exporter, names};
//!
//! /// Once, after the recorder was installed.
//! fn begin() -> Exporter {
//!     names::describe();
//!     Exporter::default()
//! }
//!
//! /// Before the recorder is rendered, or every few seconds.
//! fn before_each_scrape(exporter: &Exporter, sink: &SinkHandle) {
//!     exporter.export(&sink.stats());
//! }
//! ```

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
