//! Appends on their way to a commit: who is taken in, and who waits for it.

use tokio::sync::oneshot;

use super::State;
use crate::buffer::disk::meta::Delta;
use crate::buffer::{AppendError, LetterId, Sequence, Stored};

/// The answer to an append.
pub(in crate::buffer::disk) type Answer = Result<Sequence, AppendError>;

/// An append that was admitted and waits for its commit.
#[derive(Debug)]
pub(in crate::buffer::disk) struct Waiting {
    pub(in crate::buffer::disk) ticket: u64,
    pub(in crate::buffer::disk) events: Vec<Stored>,
    /// Endings of what arrived with them.
    pub(in crate::buffer::disk) ended: Delta,
    pub(in crate::buffer::disk) bytes: u64,
    pub(in crate::buffer::disk) answer: oneshot::Sender<Answer>,
}

impl Waiting {
    /// Returns the letters of which its events are replays.
    pub(in crate::buffer::disk) fn letters(&self) -> impl Iterator<Item = LetterId> {
        self.events.iter().filter_map(|event| event.letter)
    }
}

/// Why an append was not admitted.
#[derive(Debug)]
pub(in crate::buffer::disk) enum Refusal {
    Full,
    Failed(String),
    Closed,
}

impl State {
    /// Takes an append in if it fits; takes the events out of `events` when it does, and the
    /// endings out of `ended`.
    pub(in crate::buffer::disk) fn admit(
        &mut self,
        events: &mut Vec<Stored>,
        ended: &mut Delta,
        bytes: u64,
    ) -> Result<(u64, oneshot::Receiver<Answer>), Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        if let Some(trouble) = self.damage.as_ref().or(self.trouble.as_ref()) {
            return Err(Refusal::Failed(trouble.clone()));
        }
        let held = self.live.bytes.saturating_add(self.reserved);
        let empty = self.live.events == 0 && self.reserved == 0;
        if held.saturating_add(bytes) > self.max_bytes && !empty {
            self.short_of_room = true;
            return Err(Refusal::Full);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.reserved += bytes;
        let (answer, receiver) = oneshot::channel();
        let (events, ended) = (std::mem::take(events), std::mem::take(ended));
        self.queue.push_back(Waiting { ticket, events, ended, bytes, answer });
        Ok((ticket, receiver))
    }

    pub(super) fn release(&mut self, bytes: u64) {
        self.reserved = self.reserved.saturating_sub(bytes);
        self.short_of_room = false;
    }

    /// Takes appends for one commit: the first, and further ones while they weigh `bytes`
    /// together.
    pub(in crate::buffer::disk) fn claim(&mut self, bytes: u64) -> Vec<Waiting> {
        let mut sum = 0_u64;
        let fits = |waiting: &&Waiting| {
            sum = sum.saturating_add(waiting.bytes);
            sum <= bytes
        };
        let n = self.queue.iter().take_while(fits).count().max(1).min(self.queue.len());
        let claimed: Vec<_> = self.queue.drain(..n).collect();
        self.claimed = claimed.iter().map(|waiting| (waiting.ticket, false)).collect();
        claimed
    }

    /// Answers the appends of a commit that failed, and all that wait behind them.
    pub(in crate::buffer::disk) fn refuse_all(
        &mut self,
        claimed: Vec<Waiting>,
        error: &AppendError,
    ) {
        self.refuse(claimed, error);
        let queue = self.queue.drain(..).collect();
        self.refuse(queue, error);
    }

    /// Answers the appends of a commit that cannot be.
    pub(in crate::buffer::disk) fn refuse(&mut self, claimed: Vec<Waiting>, error: &AppendError) {
        self.claimed.clear();
        for waiting in claimed {
            self.release(waiting.bytes);
            // A caller that went away needs no answer.
            waiting.answer.send(Err(error.clone())).ok();
        }
    }
}
