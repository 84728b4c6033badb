//! Every metric: its name, kind, unit, and meaning.
//!
//! Names without our prefix are Vector's, so that dashboards for Vector show this process too.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! metrics_table {
    ($($kind:ident $unit:ident $name:ident = $text:literal: $about:literal,)*) => {
        $(
            #[doc = $about]
            #[doc = concat!("\n\n", stringify!($kind), ", in ", stringify!($unit), ".")]
            pub const $name: &str = $text;
        )*

        const TABLE: &[(&str, Kind, Unit, &str)] =
            &[$(($text, Kind::$kind, Unit::$unit, $about),)*];
    };
}

metrics_table! {
    Counter Count RECEIVED_EVENTS = "component_received_events_total":
        "Events received and acknowledged, malformed ones included.",
    Counter Bytes RECEIVED_BYTES = "component_received_bytes_total":
        "Bytes of the events received and acknowledged, as JSON text.",
    Counter Count SENT_EVENTS = "component_sent_events_total":
        "Operations that Customer.io accepted.",
    Counter Count ERRORS = "component_errors_total":
        "Errors by `error_type` and `stage`.",
    Counter Count DISCARDED_EVENTS = "component_discarded_events_total":
        "Events that ended without delivery: by a rule or script (`intentional`), or by a failure.",
    Gauge Count BUFFER_EVENTS = "buffer_events":
        "Events in the buffer.",
    Gauge Bytes BUFFER_BYTES = "buffer_byte_size":
        "Bytes in the buffer.",
    Counter Count HTTP_RESPONSES = "http_client_responses_total":
        "Answers of Customer.io by `status`.",
    Histogram Seconds HTTP_RTT = "http_client_rtt_seconds":
        "Time from a request to its answer.",
    Gauge Count UTILIZATION = "utilization":
        "Share of the time in which the mapping threads worked, from 0 to 1.",
    Counter Count EVENTS = "rudder_customerio_events_total":
        "Ended events by `outcome` and `reason`; each event ends once.",
    Gauge Count EVENTS_BUFFERED = "rudder_customerio_events_buffered":
        "Events that wait for their end, by the ledger.",
    Gauge Seconds OLDEST_EVENT_AGE = "rudder_customerio_oldest_event_age_seconds":
        "Age of the oldest event that waits; 0 if none does.",
    Counter Count RETRIES = "rudder_customerio_retries_total":
        "Requests that were tried again, by `reason`.",
    Histogram Count BATCH_ITEMS = "rudder_customerio_batch_items":
        "Operations per request.",
    Gauge Count DELIVERY_HELD = "rudder_customerio_delivery_held":
        "1 while delivery is held, by `reason`.",
    Counter Count WARNINGS = "rudder_customerio_warnings_total":
        "Oddities that end no event, by `code`.",
    Gauge Count SCRIPT_INFO = "rudder_customerio_script_info":
        "1 for the `hash` of the scripts that are in force.",
    Gauge Count CONSERVATION_GAP = "rudder_customerio_conservation_gap":
        "Events that the ledger cannot account for; anything but 0 is a defect.",
}

/// Gives every metric its description; for whoever installs a recorder.
pub fn describe() {
    for (name, kind, unit, about) in TABLE {
        match kind {
            Kind::Counter => describe_counter!(*name, *unit, *about),
            Kind::Gauge => describe_gauge!(*name, *unit, *about),
            Kind::Histogram => describe_histogram!(*name, *unit, *about),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_counters_end_in_total() {
        let mut names: Vec<_> = TABLE.iter().map(|(name, ..)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
        for (name, kind, ..) in TABLE {
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        }
    }
}
