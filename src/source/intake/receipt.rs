//! What a source is told about its batches: safe, ended, or refused.
//!
//! A [`Receipt`] belongs to the source, an [`Answer`] per batch to the pipeline. An answer that is
//! dropped unanswered refuses, so that no source waits for a pipeline that is gone. One receipt may
//! be of many batches: those of a stream are counted together.

use std::fmt;
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::Refused;
use crate::outcome::{Outcome, OutcomeKind};
use crate::source::received::Received;

/// How many events of a receipt ended in which way so far.
///
/// `received` is the sum of all others. Why events ended is told elsewhere: the reasons of all are
/// counted in [`LedgerSnapshot`](crate::outcome::LedgerSnapshot), and each event that failed or was
/// rejected stands in the dead letters with its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Events that were handed in.
    pub received: u64,
    /// Events that are stored and wait for delivery (0 once settled).
    pub buffered: u64,
    /// Events of which Customer.io accepted every operation.
    pub delivered: u64,
    /// Elements that were no event that could be read.
    pub malformed: u64,
    /// Events that a routing rule kept away.
    pub filtered: u64,
    /// Events that consent forbids to send.
    pub withheld: u64,
    /// Events of which the script decided that nothing is to be sent.
    pub dropped: u64,
    /// Events that could not be mapped; they are in the dead letters.
    pub failed: u64,
    /// Events that Customer.io refused for good, or that expired; they are in the dead letters.
    pub rejected: u64,
}

impl Summary {
    /// Returns how many events ended badly: malformed, failed, or rejected.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.malformed + self.failed + self.rejected
    }

    /// Counts `events` endings of one kind.
    pub(crate) fn end(&mut self, kind: OutcomeKind, events: u64) {
        *match kind {
            OutcomeKind::Malformed => &mut self.malformed,
            OutcomeKind::Filtered => &mut self.filtered,
            OutcomeKind::Withheld => &mut self.withheld,
            OutcomeKind::Dropped => &mut self.dropped,
            OutcomeKind::Failed => &mut self.failed,
            OutcomeKind::Delivered => &mut self.delivered,
            OutcomeKind::Rejected => &mut self.rejected,
        } += events;
    }

    /// The parts and their names, in the order of the pipeline.
    fn parts(&self) -> [(&'static str, u64); 8] {
        [
            ("malformed", self.malformed),
            ("filtered", self.filtered),
            ("withheld", self.withheld),
            ("dropped", self.dropped),
            ("failed", self.failed),
            ("delivered", self.delivered),
            ("rejected", self.rejected),
            ("buffered", self.buffered),
        ]
    }
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.buffered += other.buffered;
        self.delivered += other.delivered;
        self.malformed += other.malformed;
        self.filtered += other.filtered;
        self.withheld += other.withheld;
        self.dropped += other.dropped;
        self.failed += other.failed;
        self.rejected += other.rejected;
    }
}

/// `5 received: 1 withheld, 4 delivered`.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} received", self.received)?;
        let parts = self.parts().into_iter().filter(|(_, events)| *events > 0);
        for (n, (name, events)) in parts.enumerate() {
            write!(f, "{} {events} {name}", if n == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

/// The promise of an answer to a batch, or to all batches of a stream.
///
/// Dropping it gives up the answer, not the events. It needs no runtime: it can be awaited on any
/// thread and by any executor.
///
/// ```no_run
/// # async fn example(handle: rudder_customerio::sink::SinkHandle) -> Result<(), rudder_customerio::sink::Refused> {
/// let mut receipt = handle.submit(r#"{"type":"page","userId":"u-1","name":"Home"}"#).await?;
/// // Now the events survive a crash, and their origin may forget them.
/// receipt.buffered().await?;
/// // Now they have reached Customer.io, or ended otherwise.
/// let summary = receipt.settled().await?;
/// println!("{summary}");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Receipt {
    ticket: Arc<Ticket>,
}

/// The pipeline's half of a [`Receipt`], for one batch.
#[derive(Debug)]
pub struct Answer {
    ticket: Option<Arc<Ticket>>,
    /// What is to be counted when the batch is safe, whether or not somebody still waits.
    received: Option<Received>,
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
    state: Mutex<State>,
    /// One waiter at most: the receipt is neither cloned nor shared.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Batches that were handed in and are not answered.
    unanswered: u64,
    /// The answered ones.
    summary: Summary,
    /// Why the first that was refused was.
    refused: Option<Refused>,
}

impl State {
    fn is_safe(&self) -> bool {
        self.unanswered == 0
    }

    fn is_settled(&self) -> bool {
        self.is_safe() && self.summary.buffered == 0
    }
}

impl Ticket {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, why: Refused) {
        self.state().refused.get_or_insert(why);
        self.changed.notify_one();
    }

    async fn wait_for(&self, enough: impl Fn(&State) -> bool) -> Result<Summary, Refused> {
        loop {
            {
                let state = self.state();
                if let Some(refused) = &state.refused {
                    return Err(refused.clone());
                }
                if enough(&state) {
                    return Ok(state.summary.clone());
                }
            }
            self.changed.notified().await;
        }
    }
}

impl Receipt {
    /// Makes a receipt of no batch yet.
    pub(crate) fn empty() -> Self {
        Self { ticket: Arc::default() }
    }

    /// Makes the answer of one more batch. The receipt is neither safe nor settled before it.
    pub(crate) fn answer(&self) -> Answer {
        self.ticket.state().unanswered += 1;
        Answer { ticket: Some(Arc::clone(&self.ticket)), received: None }
    }

    /// Waits until a batch is refused, which may never be.
    pub(crate) async fn refused(&self) -> Refused {
        loop {
            if let Err(refused) = self.ticket.wait_for(|_| false).await {
                return refused;
            }
        }
    }

    /// Waits until every event has ended or is safe in the buffer.
    ///
    /// With a buffer on disk, safe means that the events survive the end of the process and of the
    /// machine. With one in memory they survive neither.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the buffer did not take the batch; then nothing of it was counted. Only if
    /// the dead letters failed after the buffer had taken the batch's other events, these are
    /// counted and delivered, and the sender's repetition counts as further events. The receipt of
    /// a stream is refused with the first of its batches.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped; ask again.
    pub async fn buffered(&mut self) -> Result<Summary, Refused> {
        self.ticket.wait_for(State::is_safe).await
    }

    /// Waits until every event has ended: delivered, kept back by a rule, or a dead letter.
    ///
    /// While Customer.io does not answer, this waits.
    ///
    /// # Errors
    ///
    /// [`Refused`] as for [`Receipt::buffered`], and [`Refused::Closed`] when the pipeline ended
    /// while events still waited: after a [drain](crate::sink::CustomerIoSink::drain) that ran out
    /// of time, or because its runtime is gone. With a buffer on disk these events are delivered
    /// after the next start.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the answer, not the events.
    pub async fn settled(self) -> Result<Summary, Refused> {
        self.ticket.wait_for(State::is_settled).await
    }
}

impl Answer {
    /// Makes an answer and its receipt.
    pub fn pair() -> (Self, Receipt) {
        let receipt = Receipt::empty();
        (receipt.answer(), receipt)
    }

    /// Counts the batch once its events have ended or are safe in the buffer, even if the receipt
    /// is dropped before.
    #[must_use]
    pub fn counting(mut self, received: Received) -> Self {
        self.received = Some(received);
        self
    }

    /// Answers that the batch is safe, and returns the means to tell its settlements.
    #[must_use]
    pub fn accept(mut self, summary: Summary) -> Followed {
        let Some(ticket) = self.ticket.take() else { return Followed { ticket: Weak::new() } };
        // Before anybody is woken, so that who was answered finds it counted.
        if let Some(received) = self.received.take() {
            received.count();
        }
        let safe = {
            let mut state = ticket.state();
            state.unanswered = state.unanswered.saturating_sub(1);
            state.summary += summary;
            state.is_safe()
        };
        if safe {
            ticket.changed.notify_one();
        }
        Followed { ticket: Arc::downgrade(&ticket) }
    }

    /// Answers that nothing of the batch was taken.
    pub fn refuse(mut self, why: Refused) {
        if let Some(ticket) = self.ticket.take() {
            ticket.refuse(why);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.refuse(Refused::Closed);
        }
    }
}

impl Followed {
    /// Tells whether the receipt still exists.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.ticket.strong_count() > 0
    }

    /// Tells whether both are told to the same receipt.
    #[must_use]
    pub fn joins(&self, other: &Self) -> bool {
        self.ticket.ptr_eq(&other.ticket)
    }

    /// Tells that one buffered event of the batch ended.
    pub fn settle(&self, outcome: &Outcome) {
        let Some(ticket) = self.ticket.upgrade() else { return };
        {
            let mut state = ticket.state();
            state.summary.buffered = state.summary.buffered.saturating_sub(1);
            state.summary.end(outcome.kind(), 1);
            if !state.is_settled() {
                return;
            }
        }
        ticket.changed.notify_one();
    }

    /// Tells that the pipeline ends before the batch's last event did.
    pub fn abandon(&self) {
        let Some(ticket) = self.ticket.upgrade() else { return };
        if ticket.state().is_settled() {
            return;
        }
        ticket.refuse(Refused::Closed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::outcome::ReasonCode;

    fn two_buffered() -> Summary {
        Summary { received: 3, buffered: 2, failed: 1, ..Summary::default() }
    }

    fn one_buffered() -> Summary {
        Summary { received: 1, buffered: 1, ..Summary::default() }
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
        let end = Summary { buffered: 0, delivered: 1, rejected: 1, ..two_buffered() };
        assert_eq!(settled.await, Ok(end));
    }

    #[tokio::test]
    async fn a_waiting_receipt_is_woken() {
        let (answer, receipt) = Answer::pair();
        let waiting = tokio::spawn(receipt.settled());
        tokio::task::yield_now().await;
        let followed = answer.accept(one_buffered());
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

    #[tokio::test]
    async fn a_receipt_of_many_batches_is_settled_with_the_last_and_sums_them_up() {
        let receipt = Receipt::empty();
        let (first, second) = (receipt.answer(), receipt.answer());
        let first = first.accept(two_buffered());
        first.settle(&Outcome::Delivered);
        first.settle(&Outcome::Delivered);
        let mut settled = Box::pin(receipt.settled());
        assert!((&mut settled).now_or_never().is_none(), "the second batch is not answered");
        let second = second.accept(one_buffered());
        assert!(first.joins(&second));
        assert!((&mut settled).now_or_never().is_none(), "its event is not settled");
        second.settle(&Outcome::Delivered);
        let end = Summary { received: 4, delivered: 3, failed: 1, ..Summary::default() };
        assert_eq!(settled.await, Ok(end));
    }

    #[tokio::test]
    async fn a_receipt_of_many_batches_is_refused_with_the_first() {
        let mut receipt = Receipt::empty();
        let (first, second) = (receipt.answer(), receipt.answer());
        first.refuse(Refused::Unavailable);
        assert_eq!(receipt.refused().now_or_never(), Some(Refused::Unavailable));
        drop(second);
        assert_eq!(receipt.buffered().await, Err(Refused::Unavailable));
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

    #[test]
    fn a_summary_is_the_sum_of_its_parts_in_every_form() {
        let mut summary = Summary::default();
        for (kind, n) in OutcomeKind::ALL.into_iter().zip(1..) {
            summary.end(kind, n);
            summary.received += n;
        }
        assert_eq!(summary.parts().iter().map(|(_, n)| n).sum::<u64>(), summary.received);
        let (once, twice) = (summary.clone(), summary);
        let mut sum = once.clone();
        sum += twice;
        assert_eq!(sum.parts().map(|(_, n)| n), once.parts().map(|(_, n)| 2 * n));
        assert_eq!(sum.failures(), 2 * (1 + 5 + 7));
        assert_eq!(
            once.to_string(),
            "28 received: 1 malformed, 2 filtered, 3 withheld, 4 dropped, 5 failed, 6 delivered, 7 rejected"
        );
        assert_eq!(Summary::default().to_string(), "0 received");
    }
}
