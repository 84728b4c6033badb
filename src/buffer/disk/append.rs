//! The caller's side of an append: room, ticket, answer.
//!
//! A ticket is withdrawn when it is dropped before its answer was taken, which happens in the same
//! poll that returns the answer to the caller: so an append that did not answer left nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::meta::Delta;
use super::shared::Shared;
use super::state::{Answer, Refusal};
use crate::buffer::{AppendError, Sequence, Stored};
use crate::config::WhenFull;
use crate::outcome::Tally;

/// How long an append waits for room with `when_full: wait`. Senders give up on a request that
/// hangs for 60 s, so the answer has to come well before.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What a sender is asked to wait before it repeats a refused batch.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Appends that wait for room, one after the other.
#[derive(Debug)]
pub(super) struct Line {
    shared: Arc<Shared>,
    /// tokio's mutex is fair, which makes the queue.
    turn: tokio::sync::Mutex<()>,
    pub(super) patience: Duration,
}

impl Line {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, turn: tokio::sync::Mutex::default(), patience: PATIENCE }
    }

    pub(super) async fn append(&self, mut events: Vec<Stored>, ended: Tally) -> Answer {
        let bytes = events.iter().map(Stored::bytes).sum();
        if events.is_empty() {
            return Ok(Sequence(self.shared.state().readable));
        }
        let mut ended = Delta::of(&ended);
        let when_full = self.shared.state().when_full();
        let ticket = match when_full {
            WhenFull::Refuse => self.admit(&mut events, &mut ended, bytes),
            WhenFull::Wait => {
                let waiting = async {
                    let _turn = self.turn.lock().await;
                    loop {
                        match self.admit(&mut events, &mut ended, bytes) {
                            Err(Refusal::Full) => self.shared.room.notified().await,
                            done => return done,
                        }
                    }
                };
                timeout(self.patience, waiting).await.unwrap_or(Err(Refusal::Full))
            }
        };
        match ticket {
            Ok(ticket) => ticket.answer().await,
            Err(Refusal::Full) => Err(AppendError::Full(RETRY_AFTER)),
            Err(Refusal::Failed(text)) => Err(AppendError::Failed(text)),
            Err(Refusal::Closed) => Err(AppendError::Closed),
        }
    }

    fn admit(
        &self,
        events: &mut Vec<Stored>,
        ended: &mut Delta,
        bytes: u64,
    ) -> Result<Ticket, Refusal> {
        let (number, answer) = self.shared.state().admit(events, ended, bytes)?;
        self.shared.work.notify_one();
        Ok(Ticket { shared: Arc::clone(&self.shared), number, answer, taken: false })
    }
}

/// An append that was admitted.
#[derive(Debug)]
struct Ticket {
    shared: Arc<Shared>,
    number: u64,
    answer: oneshot::Receiver<Answer>,
    taken: bool,
}

impl Ticket {
    async fn answer(mut self) -> Answer {
        let answer = (&mut self.answer).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(AppendError::Failed("the writer of the buffer has ended".to_owned()))
        });
        self.taken = true;
        if answer.is_ok() {
            let mut state = self.shared.state();
            state.take(self.number);
            self.shared.publish(state);
        }
        answer
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut state = self.shared.state();
        state.withdraw(self.number);
        self.shared.publish(state);
        self.shared.room.notify_one();
        self.shared.work.notify_one();
    }
}
