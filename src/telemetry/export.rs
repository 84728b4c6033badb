//! From ledger and fill levels to metrics, whenever somebody asks.
//!
//! The ledger is the truth; the metrics are set from it as a whole instead of being counted beside
//! it, so that the two cannot disagree.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use metrics::{Label, counter, gauge};

use super::{names, sink_labels};
use crate::delivery::metering;
use crate::operation::warnings;
use crate::outcome::{LedgerSnapshot, OutcomeKind, ReasonCode};
use crate::sink::SinkStats;

/// `utilization` is a mean over at least this time, however often it is asked for.
const UTILIZATION_WINDOW: Duration = Duration::from_secs(5);

/// Sets the metrics that are read off a sink. Keep one per sink: it remembers what `utilization` is
/// measured from, and which scripts were in force.
#[derive(Debug)]
pub struct Exporter {
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    worked: Duration,
    utilization: f64,
    hash: Option<Arc<str>>,
}

impl Default for Exporter {
    fn default() -> Self {
        let seen =
            Seen { at: Instant::now(), worked: Duration::ZERO, utilization: 0.0, hash: None };
        Self { seen: Mutex::new(seen) }
    }
}

impl Exporter {
    /// Sets every metric that is derived from `stats`.
    #[expect(clippy::cast_precision_loss, reason = "gauges are f64; counts stay below 2^53")]
    pub fn export(&self, stats: &SinkStats) {
        export_ledger(&stats.ledger);
        metering::show_all();
        for code in warnings::CODES {
            counter!(names::WARNINGS, "code" => code).increment(0);
        }
        let labels = sink_labels();
        gauge!(names::BUFFER_EVENTS, labels.clone()).set(stats.buffer.events as f64);
        gauge!(names::BUFFER_BYTES, labels.clone()).set(stats.buffer.bytes as f64);
        let age = |oldest: chrono::DateTime<Utc>| (Utc::now() - oldest).as_seconds_f64().max(0.0);
        gauge!(names::OLDEST_EVENT_AGE, labels.clone()).set(stats.buffer.oldest.map_or(0.0, age));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.look(stats.mapping_worked, stats.mapping_threads);
        gauge!(names::UTILIZATION, labels).set(seen.utilization);
        seen.show_hash(&stats.script_hash);
    }
}

impl Seen {
    fn look(&mut self, worked: Duration, threads: usize) {
        let elapsed = self.at.elapsed();
        if elapsed < UTILIZATION_WINDOW {
            return;
        }
        let capacity = elapsed.as_secs_f64() * f64::from(u32::try_from(threads).unwrap_or(1));
        let share = worked.saturating_sub(self.worked).as_secs_f64() / capacity;
        self.utilization = share.clamp(0.0, 1.0);
        (self.at, self.worked) = (Instant::now(), worked);
    }

    fn show_hash(&mut self, hash: &Arc<str>) {
        let info = |hash: &Arc<str>| {
            let mut labels = sink_labels();
            labels.push(Label::new("hash", Arc::clone(hash)));
            gauge!(names::SCRIPT_INFO, labels)
        };
        if let Some(old) = self.hash.replace(Arc::clone(hash)).filter(|old| old != hash) {
            info(&old).set(0.0);
        }
        info(hash).set(1.0);
    }
}

/// Endings that are errors, as Vector names them.
const ERRORS_OF_EVENTS: [(OutcomeKind, &str, &str); 3] = [
    (OutcomeKind::Malformed, "parser_failed", "receiving"),
    (OutcomeKind::Failed, "conversion_failed", "processing"),
    (OutcomeKind::Rejected, "request_rejected", "sending"),
];

#[expect(clippy::cast_precision_loss, reason = "gauges are f64; counts stay below 2^53")]
fn export_ledger(ledger: &LedgerSnapshot) {
    let labels = sink_labels();
    gauge!(names::EVENTS_BUFFERED, labels.clone()).set(ledger.buffered as f64);
    gauge!(names::CONSERVATION_GAP, labels.clone()).set(ledger.gap() as f64);
    // Endings that have not happened are there as 0, so that an alert can be written before the first.
    let reasons = |kind: OutcomeKind| kind.reasons().iter().map(move |code| (kind, Some(*code)));
    let possible = OutcomeKind::ALL.into_iter().flat_map(reasons);
    for (kind, code) in possible.chain([(OutcomeKind::Delivered, None)]) {
        let mut labels = labels.clone();
        labels.push(Label::from_static_parts("outcome", kind.as_str()));
        labels.push(Label::from_static_parts("reason", code.map_or("", ReasonCode::as_str)));
        counter!(names::EVENTS, labels)
            .absolute(ledger.ended.get(&(kind, code)).copied().unwrap_or(0));
    }
    let sum = |kinds: &[OutcomeKind]| kinds.iter().map(|kind| ledger.total(*kind)).sum();
    let by_rule = [OutcomeKind::Filtered, OutcomeKind::Withheld, OutcomeKind::Dropped];
    let by_failure = [OutcomeKind::Malformed, OutcomeKind::Failed, OutcomeKind::Rejected];
    // What no request was made for, such as the events of a damaged row.
    let of_ours = |kind: OutcomeKind| match kind {
        OutcomeKind::Rejected => ledger.count(kind, ReasonCode::Internal),
        _ => 0,
    };
    for (kind, error_type, stage) in ERRORS_OF_EVENTS {
        let mut labels = labels.clone();
        labels.push(Label::from_static_parts("error_type", error_type));
        labels.push(Label::from_static_parts("stage", stage));
        counter!(names::ERRORS, labels).absolute(ledger.total(kind) - of_ours(kind));
    }
    let mut ours = labels.clone();
    ours.push(Label::from_static_parts("error_type", "internal"));
    ours.push(Label::from_static_parts("stage", "sending"));
    counter!(names::ERRORS, ours).absolute(of_ours(OutcomeKind::Rejected));
    for (intentional, kinds) in [("true", by_rule), ("false", by_failure)] {
        let mut labels = labels.clone();
        labels.push(Label::from_static_parts("intentional", intentional));
        counter!(names::DISCARDED_EVENTS, labels).absolute(sum(&kinds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Ledger, Outcome, Tally};
    use crate::telemetry::recorder;

    fn stats(ledger: &Ledger, hash: &str) -> SinkStats {
        SinkStats {
            ledger: ledger.snapshot(),
            script_hash: Arc::from(hash),
            mapping_threads: 1,
            ..SinkStats::default()
        }
    }

    #[test]
    fn the_ledger_is_exported_as_it_stands() {
        let ledger = Ledger::default();
        let mut tally = Tally::default();
        tally.end(&Outcome::Withheld(ReasonCode::OnetrustDenied.into()));
        tally.end(&Outcome::Failed(ReasonCode::ScriptError.into()));
        tally.buffer();
        ledger.enter(&tally);
        let recorder = recorder::build();
        let text = metrics::with_local_recorder(&recorder, || {
            let exporter = Exporter::default();
            exporter.export(&stats(&ledger, "aa"));
            exporter.export(&stats(&ledger, "bb"));
            recorder.handle().render()
        });
        for (name, labels, value) in [
            ("rudder_customerio_events_total", r#"outcome="withheld",reason="onetrust_denied""#, 1),
            ("rudder_customerio_events_total", r#"outcome="rejected",reason="expired""#, 0),
            ("component_errors_total", r#"error_type="conversion_failed",stage="processing""#, 1),
            ("component_discarded_events_total", r#"intentional="false""#, 1),
            ("component_discarded_events_total", r#"intentional="true""#, 1),
            ("rudder_customerio_script_info", r#"hash="aa""#, 0),
            ("rudder_customerio_script_info", r#"hash="bb""#, 1),
            ("rudder_customerio_events_buffered", "", 1),
            ("rudder_customerio_conservation_gap", "", 0),
            ("rudder_customerio_delivery_held", r#"reason="unauthorized""#, 0),
            ("rudder_customerio_retries_total", r#"reason="http_5xx""#, 0),
            ("rudder_customerio_warnings_total", r#"code="unexpected_answer""#, 0),
            ("rudder_customerio_warnings_total", r#"code="odd_email""#, 0),
        ] {
            let here =
                |line: &&str| line.starts_with(&format!("{name}{{")) && line.contains(labels);
            let line = text.lines().find(here).unwrap_or_else(|| panic!("{name}: {text}"));
            assert!(line.ends_with(&format!(" {value}")), "{line}");
            assert!(line.contains(r#"component_id="customerio""#), "{line}");
        }
    }

    #[test]
    fn what_was_counted_stays_when_closed_sets_are_shown() {
        let recorder = recorder::build();
        metrics::with_local_recorder(&recorder, || {
            let exporter = Exporter::default();
            metering::held("tls", true);
            metering::retry("network");
            exporter.export(&stats(&Ledger::default(), "aa"));
        });
        let text = recorder.handle().render();
        for labels in [r#"reason="tls""#, r#"reason="network""#] {
            let line = text.lines().find(|line| line.contains(labels)).unwrap();
            assert!(line.ends_with(" 1"), "{line}");
        }
    }

    #[test]
    fn utilization_is_the_share_of_all_threads() {
        let at = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let mut seen = Seen { at, worked: Duration::ZERO, utilization: 0.0, hash: None };
        seen.look(Duration::from_secs(10), 2);
        assert!((seen.utilization - 0.5).abs() < 0.05, "{}", seen.utilization);
        let before = seen.utilization;
        seen.look(Duration::from_secs(10), 2);
        assert!((seen.utilization - before).abs() < f64::EPSILON, "the window is not over");
    }
}
