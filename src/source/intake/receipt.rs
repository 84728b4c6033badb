//! What a source is told about a batch: safe, ended, or refused.
//!
//! A [`Receipt`] belongs to the source, its [`Answer`] to the pipeline. An answer that is dropped
//! unanswered refuses, so that no source waits for a pipeline that is gone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::Refused;
use crate::outcome::{Outcome, OutcomeKind};
#[cfg(feature = "pipeline")]
use crate::source::submit::Received;

/// How many events of a batch ended in which way so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Events of the batch.
    pub received: u64,
    /// Events that are stored and wait for delivery (0 once settled).
    pub buffered: u64,
    /// Events that failed in mapping or were malformed.
    pub failed: u64,
    /// Events that were rejected.
    pub rejected: u64,
}

/// The promise of an answer to one batch.
///
/// Dropping it gives up the answer, not the batch.
#[derive(Debug)]
pub struct Receipt {
    ticket: Arc<Ticket>,
}

/// The pipeline's half of a [`Receipt`].
#[derive(Debug)]
pub struct Answer {
    ticket: Option<Arc<Ticket>>,
}

/// A batch that was answered and whose events settle one by one.
///
/// Does not keep the receipt alive: nobody is told what nobody waits for.
#[derive(Debug)]
pub struct Followed {
    ticket: Weak<Ticket>,
}

#[derive(Debug, Default)]
struct Ticket {
    state: Mutex<Option<Result<Summary, Refused>>>,
    /// What is to be counted when the batch is safe, whether or not somebody still waits.
    #[cfg(feature = "pipeline")]
    received: Mutex<Option<Received>>,
    /// One waiter at most: the receipt is neither cloned nor shared.
    changed: Notify,
}

impl Ticket {
    fn state(&self) -> MutexGuard<'_, Option<Result<Summary, Refused>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: Result<Summary, Refused>) {
        *self.state() = Some(state);
        self.changed.notify_one();
    }

    #[cfg(feature = "pipeline")]
    fn count_received(&self) {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(received) = received {
            received.count();
        }
    }

    async fn wait_for(&self, enough: impl Fn(&Summary) -> bool) -> Result<Summary, Refused> {
        loop {
            match &*self.state() {
                Some(Ok(summary)) if enough(summary) => return Ok(summary.clone()),
                Some(Err(refused)) => return Err(refused.clone()),
                Some(Ok(_)) | None => {}
            }
            self.changed.notified().await;
        }
    }
}

impl Receipt {
    /// Counts the batch once its events have ended or are safe in the buffer, even if the receipt
    /// is dropped before.
    #[cfg(feature = "pipeline")]
    pub(crate) fn count_once_safe(&self, received: Received) {
        *self.ticket.received.lock().unwrap_or_else(PoisonError::into_inner) = Some(received);
        // It may have become safe a moment ago.
        let safe = matches!(&*self.ticket.state(), Some(Ok(_)));
        if safe {
            self.ticket.count_received();
        }
    }

    /// Waits until every event of the batch has ended or is safe in the buffer.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the buffer did not take the batch; then nothing of it was counted. Only if
    /// the dead letters failed after the buffer had taken the batch's other events, these are
    /// counted and delivered, and the sender's repetition counts as further events.
    pub async fn buffered(&mut self) -> Result<Summary, Refused> {
        self.ticket.wait_for(|_| true).await
    }

    /// Waits until every event of the batch has ended.
    ///
    /// # Errors
    ///
    /// [`Refused`] as for [`Receipt::buffered`], and [`Refused::Closed`] when the pipeline ended
    /// while events of the batch still waited.
    pub async fn settled(self) -> Result<Summary, Refused> {
        self.ticket.wait_for(|summary| summary.buffered == 0).await
    }
}

impl Answer {
    /// Makes an answer and its receipt.
    #[must_use]
    pub fn pair() -> (Self, Receipt) {
        let ticket = Arc::new(Ticket::default());
        (Self { ticket: Some(Arc::clone(&ticket)) }, Receipt { ticket })
    }

    /// Answers that the batch is safe, and returns the means to tell its settlements.
    #[must_use]
    pub fn accept(mut self, summary: Summary) -> Followed {
        let Some(ticket) = self.ticket.take() else { return Followed { ticket: Weak::new() } };
        ticket.set(Ok(summary));
        #[cfg(feature = "pipeline")]
        ticket.count_received();
        Followed { ticket: Arc::downgrade(&ticket) }
    }

    /// Answers that nothing of the batch was taken.
    pub fn refuse(mut self, why: Refused) {
        if let Some(ticket) = self.ticket.take() {
            ticket.set(Err(why));
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.set(Err(Refused::Closed));
        }
    }
}

impl Followed {
    /// Tells whether the receipt still exists.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.ticket.strong_count() > 0
    }

    /// Tells that one buffered event of the batch ended.
    pub fn settle(&self, outcome: &Outcome) {
        let Some(ticket) = self.ticket.upgrade() else { return };
        {
            let mut state = ticket.state();
            let Some(Ok(summary)) = state.as_mut() else { return };
            summary.buffered = summary.buffered.saturating_sub(1);
            if outcome.kind() == OutcomeKind::Rejected {
                summary.rejected += 1;
            }
            if summary.buffered > 0 {
                return;
            }
        }
        ticket.changed.notify_one();
    }

    /// Tells that the pipeline ends before the batch's last event did.
    pub fn abandon(&self) {
        let Some(ticket) = self.ticket.upgrade() else { return };
        if matches!(&*ticket.state(), Some(Ok(summary)) if summary.buffered == 0) {
            return;
        }
        ticket.set(Err(Refused::Closed));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::outcome::ReasonCode;

    fn two_buffered() -> Summary {
        Summary { received: 3, buffered: 2, failed: 1, rejected: 0 }
    }

    #[tokio::test]
    async fn a_receipt_answers_when_safe_and_again_when_settled() {
        let (answer, mut receipt) = Answer::pair();
        assert!(receipt.buffered().now_or_never().is_none());
        let followed = answer.accept(two_buffered());
        assert_eq!(receipt.buffered().await, Ok(two_buffered()));
        let mut settled = Box::pin(receipt.settled());
        followed.settle(&Outcome::Delivered);
        assert!((&mut settled).now_or_never().is_none(), "one event still waits");
        followed.settle(&Outcome::Rejected(ReasonCode::Refused.into()));
        let end = Summary { buffered: 0, rejected: 1, ..two_buffered() };
        assert_eq!(settled.await, Ok(end));
    }

    #[tokio::test]
    async fn a_waiting_receipt_is_woken() {
        let (answer, receipt) = Answer::pair();
        let waiting = tokio::spawn(receipt.settled());
        tokio::task::yield_now().await;
        let followed = answer.accept(Summary { received: 1, buffered: 1, ..Summary::default() });
        tokio::task::yield_now().await;
        followed.settle(&Outcome::Delivered);
        assert_eq!(waiting.await.unwrap().unwrap().buffered, 0);
    }

    #[tokio::test]
    async fn a_batch_without_buffered_events_is_settled_at_once() {
        let (answer, receipt) = Answer::pair();
        let _followed = answer.accept(Summary { received: 1, failed: 1, ..Summary::default() });
        assert_eq!(receipt.settled().await.unwrap().failed, 1);
    }

    #[tokio::test]
    async fn an_answer_that_is_lost_refuses() {
        let (answer, mut receipt) = Answer::pair();
        drop(answer);
        assert_eq!(receipt.buffered().await, Err(Refused::Closed));
    }

    #[tokio::test]
    async fn the_end_of_the_pipeline_ends_the_wait_for_settlement() {
        let (answer, mut receipt) = Answer::pair();
        let followed = answer.accept(two_buffered());
        assert!(receipt.buffered().await.is_ok());
        followed.abandon();
        assert_eq!(receipt.settled().await, Err(Refused::Closed));
    }

    #[test]
    fn following_does_not_keep_a_receipt_alive() {
        let (answer, receipt) = Answer::pair();
        let followed = answer.accept(two_buffered());
        assert!(followed.is_awaited());
        drop(receipt);
        assert!(!followed.is_awaited());
        followed.settle(&Outcome::Delivered);
    }
}
