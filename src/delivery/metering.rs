//! What delivery counts, in one place. Labels are codes from closed sets.

use std::time::Duration;

use http::StatusCode;
use metrics::{Label, counter, gauge, histogram};

use crate::telemetry::{self, names, sink_labels};

/// What something is sent again for.
pub const RETRIES: [&str; 21] = [
    "connect_timeout",
    "http_408",
    "http_421",
    "http_423",
    "http_425",
    "http_429",
    "http_500",
    "http_502",
    "http_503",
    "http_504",
    "http_522",
    "http_524",
    "http_5xx",
    "http_other",
    "item",
    "network",
    "panic",
    "split",
    "timeout",
    "unknown",
    "unreadable",
];

/// What delivery can be held for.
pub const HOLDS: [&str; 9] = [
    "forbidden",
    "protocol",
    "proxy",
    "redirected",
    "tls",
    "unauthorized",
    "unreachable",
    "wrong_region",
    "wrong_workspace",
];

/// Oddities that delivery counts.
pub const WARNINGS: [&str; 2] = ["dead_letters_dropped", "unexpected_answer"];

/// Makes every series of a closed set known as 0, so that an alert can be written before the first.
pub fn show_all() {
    for reason in RETRIES {
        counter!(names::RETRIES, "reason" => reason).increment(0);
    }
    for reason in HOLDS {
        gauge!(names::DELIVERY_HELD, "reason" => reason).increment(0.0);
    }
    for code in WARNINGS {
        counter!(names::WARNINGS, "code" => code).increment(0);
    }
}

/// Counts an answer, whatever it says, and the time that it took.
pub fn answer(status: Option<StatusCode>, took: Duration) {
    histogram!(names::HTTP_RTT).record(took.as_secs_f64());
    if let Some(status) = status {
        counter!(names::HTTP_RESPONSES, "status" => status.as_str().to_owned()).increment(1);
    }
}

/// Counts an answer that was taken for a success although it was not understood.
pub fn unexpected_answer() {
    counter!(names::WARNINGS, "code" => "unexpected_answer").increment(1);
}

/// Counts a new batch.
pub fn batch(items: usize) {
    histogram!(names::BATCH_ITEMS).record(items as f64);
}

/// Counts something that is sent again.
pub fn retry(reason: &'static str) {
    counter!(names::RETRIES, "reason" => reason).increment(1);
}

/// Counts requests or operations that failed.
pub fn failed(count: u64) {
    if count > 0 {
        let mut labels = sink_labels();
        labels.push(Label::from_static_parts("error_type", "request_failed"));
        labels.push(Label::from_static_parts("stage", "sending"));
        counter!(names::ERRORS, labels).increment(count);
    }
}

/// Counts dead letters that could not be written.
pub fn letters_failed() {
    telemetry::error("dead_letter", "processing");
}

/// Counts dead letters that were removed to make room.
pub fn letters_dropped(count: u64) {
    counter!(names::WARNINGS, "code" => "dead_letters_dropped").increment(count);
}

/// Counts accepted operations.
pub fn sent(operations: u64) {
    counter!(names::SENT_EVENTS, sink_labels()).increment(operations);
}

/// Shows whether delivery is held for a reason.
pub fn held(reason: &'static str, held: bool) {
    gauge!(names::DELIVERY_HELD, "reason" => reason).set(f64::from(u8::from(held)));
}
