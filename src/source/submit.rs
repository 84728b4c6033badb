//! How sources hand batches in, apart from who takes them.

#[cfg(test)]
pub(in crate::source) mod recorder;

use std::future::Future;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::intake::Answer;
use super::received::Received;
use super::{EventBatch, Intake, Refused, Summary};
use crate::config::Ack;

/// The end of a batch, as far as its source waits for it.
pub type Acknowledged = BoxFuture<'static, Result<Summary, Refused>>;

/// Takes batches. [`Intake`] is the one of the pipeline.
pub trait Submit: Clone + Send + Sync + 'static {
    /// Submits a batch, waiting at most `wait` for room in memory, and counts it as received by a
    /// source of the type `by` once it is safe.
    ///
    /// What it returns resolves when the events are as far as `ack` says.
    fn submit(
        &self,
        batch: EventBatch,
        by: &'static str,
        wait: Duration,
        ack: Ack,
    ) -> impl Future<Output = Result<Acknowledged, Refused>> + Send;
}

impl Submit for Intake {
    async fn submit(
        &self,
        batch: EventBatch,
        by: &'static str,
        wait: Duration,
        ack: Ack,
    ) -> Result<Acknowledged, Refused> {
        let (answer, mut receipt) = Answer::pair();
        // Not by this future: a client that hangs up ends it, and not its events.
        let answer = answer.counting(Received::new(&batch, by));
        self.enter(batch, answer, wait).await?;
        Ok(match ack {
            Ack::Buffered => async move { receipt.buffered().await }.boxed(),
            Ack::Delivered => receipt.settled().boxed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::source::{Incoming, Origin};
    use crate::telemetry::{names, recorder};

    fn batch() -> EventBatch {
        EventBatch {
            elements: vec![Incoming::new(Ok(Bytes::from_static(b"{}")), 0)],
            set_type: None,
            origin: Origin { source: "web".into(), source_type: "web".into() },
            received_at: chrono::DateTime::UNIX_EPOCH,
            client_ip: None,
        }
    }

    /// Submits a batch of one event, does something with it, and returns what was counted then.
    fn counted(end: impl FnOnce(Acknowledged, crate::source::intake::Answer)) -> String {
        let recorder = recorder::build();
        metrics::with_local_recorder(&recorder, || {
            let (intake, mut jobs) = Intake::channel(1000);
            let submitted = Submit::submit(&intake, batch(), "test", Duration::MAX, Ack::Delivered);
            let acknowledged = submitted.now_or_never().unwrap().unwrap();
            let job = jobs.recv().now_or_never().unwrap().unwrap();
            assert!(recorder.handle().render().lines().all(|line| !line.ends_with(" 1")));
            end(acknowledged, job.answer);
        });
        let text = recorder.handle().render();
        let line = |line: &&str| line.starts_with(names::RECEIVED_EVENTS);
        text.lines().find(line).unwrap_or_default().to_owned()
    }

    #[test]
    fn a_batch_counts_as_received_once_it_is_safe() {
        let line = counted(|acknowledged, answer| {
            let summary = Summary { received: 1, buffered: 1, ..Summary::default() };
            let _followed = answer.accept(summary);
            assert!(acknowledged.now_or_never().is_none(), "it is not delivered");
        });
        assert!(line.contains(r#"component_id="web""#), "{line}");
        assert!(line.contains(r#"component_type="test""#) && line.ends_with(" 1"), "{line}");
    }

    #[test]
    fn a_batch_of_a_client_that_hangs_up_counts() {
        let line = counted(|acknowledged, answer| {
            drop(acknowledged);
            let _followed = answer.accept(Summary { received: 1, ..Summary::default() });
        });
        assert!(line.ends_with(" 1"), "{line}");
    }

    #[test]
    fn a_batch_that_is_refused_was_not_received() {
        let line = counted(|_, answer| answer.refuse(Refused::Unavailable));
        assert!(line.is_empty() || line.ends_with(" 0"), "{line}");
    }
}
