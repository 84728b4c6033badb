//! How batches enter: one, or all of a stream.

use std::time::Duration;

use futures_util::{Stream, StreamExt};

use super::SinkHandle;
use crate::source::intake::Answer;
use crate::source::received::Received;
use crate::source::{EventBatch, PROGRAM, Receipt, Refused, Summary};

impl SinkHandle {
    /// Hands in a batch, or whatever makes one, waiting for room as long as it takes.
    ///
    /// Batches enter in the order of the calls. When this returns, the events are in memory alone;
    /// [`Receipt::buffered`] tells when they are safe, and [`Receipt::settled`] when they have
    /// ended. Nothing needs to be awaited before the next call.
    ///
    /// ```
    /// # use rudder_customerio::sink::{EventBatch, Refused, SinkHandle};
    /// # async fn example(handle: SinkHandle) -> Result<(), Refused> {
    /// let event = EventBatch::from(r#"{"type":"page","userId":"u-1","name":"Home"}"#).source("shop");
    /// let receipt = handle.submit(event).await?;
    /// let summary = receipt.settled().await?;
    /// assert_eq!(summary.received, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refused::Closed`] when the sink is closed.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped before it answers, the batch was not taken.
    pub async fn submit(&self, batch: impl Into<EventBatch>) -> Result<Receipt, Refused> {
        let (answer, receipt) = Answer::pair();
        self.enter(batch.into(), answer).await?;
        Ok(receipt)
    }

    /// Hands in everything from a stream, in order, and returns one receipt for all of it.
    ///
    /// This is [`CustomerIoSink::run`](super::CustomerIoSink::run) up to the end of the stream.
    /// Unlike a run, it leaves to its caller how long the delivery is waited for:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use futures_util::{Stream, StreamExt};
    /// # use rudder_customerio::sink::{CustomerIoSink, Refused};
    /// # async fn example(sink: CustomerIoSink, events: impl Stream<Item = String>, stop: impl Future<Output = ()>) -> Result<(), Refused> {
    /// let receipt = sink.handle().submit_all(events.take_until(stop)).await?;
    /// match tokio::time::timeout(Duration::from_secs(30), receipt.settled()).await {
    ///     Ok(summary) => println!("{}", summary?),
    ///     Err(_) => println!("what is left is delivered after the next start"),
    /// }
    /// sink.drain(Duration::ZERO).await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refused::Closed`] at once when the intake is closed or the sink's runtime ends.
    ///
    /// # Cancel safety
    ///
    /// As [`CustomerIoSink::run`](super::CustomerIoSink::run).
    pub async fn submit_all<B: Into<EventBatch>>(
        &self,
        batches: impl Stream<Item = B>,
    ) -> Result<Receipt, Refused> {
        let receipt = Receipt::empty();
        // Stands for the batches to come, so that the receipt is not settled in between.
        let more = receipt.answer();
        let mut batches = std::pin::pin!(batches);
        loop {
            let next = tokio::select! {
                biased;
                refused = receipt.refused() => return Err(refused),
                () = self.shared.intake.closed() => return Err(Refused::Closed),
                next = batches.next() => next,
            };
            let Some(batch) = next else { break };
            self.enter(batch.into(), receipt.answer()).await?;
        }
        drop(more.accept(Summary::default()));
        Ok(receipt)
    }

    async fn enter(&self, batch: EventBatch, answer: Answer) -> Result<(), Refused> {
        let answer = answer.counting(Received::new(&batch, PROGRAM));
        self.shared.intake.enter(batch, answer, Duration::MAX).await
    }

    /// As [`SinkHandle::submit`], for one who was told that there is room.
    pub(super) fn submit_now(&self, batch: EventBatch) -> Result<Receipt, Refused> {
        let (answer, receipt) = Answer::pair();
        let answer = answer.counting(Received::new(&batch, PROGRAM));
        self.shared.intake.enter_now(batch, answer)?;
        Ok(receipt)
    }
}
