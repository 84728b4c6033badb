//! The recorder behind `/metrics`, for the binary and for programs without one of their own.

use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::names;

/// Bounds in seconds: from a sandbox on the same machine to the default time limit.
const RTT_SECONDS: [f64; 12] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Bounds in operations, up to the largest configurable batch.
const BATCH_ITEMS: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0];

/// Makes a recorder that renders Prometheus' text format.
///
/// A metric without component labels of its own is of the sink.
#[must_use]
pub fn build() -> PrometheusRecorder {
    configured().unwrap_or_else(|_| PrometheusBuilder::new()).build_recorder()
}

fn configured() -> Result<PrometheusBuilder, BuildError> {
    // Fails only for an empty list of bounds.
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(names::HTTP_RTT.to_owned()), &RTT_SECONDS)?
        .set_buckets_for_metric(Matcher::Full(names::BATCH_ITEMS.to_owned()), &BATCH_ITEMS)?
        .add_global_label("component_id", "customerio")
        .add_global_label("component_kind", "sink")
        .add_global_label("component_type", "customerio");
    Ok(builder)
}

/// Installs the recorder for the whole process and describes every metric. Nothing in this
/// crate calls it but the binary; a program that has a recorder keeps its own.
///
/// # Errors
///
/// When the process has a recorder already.
pub fn install() -> Result<PrometheusHandle, metrics::SetRecorderError<PrometheusRecorder>> {
    let recorder = build();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    names::describe();
    Ok(handle)
}
