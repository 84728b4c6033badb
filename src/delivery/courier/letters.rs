//! Rejected events between their end and their settling: first the dead letter must be durable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::super::progress::Rejection;
use super::super::{DeadLetter, DeadLetters, Pace, Unwritten, metering};
use super::fetching::fetch;
use crate::buffer::{Buffer, Sequence, Stored};
use crate::outcome::Outcome;

/// Letters whose writing has ended, well or not.
pub type Written = (Vec<Waiting>, Result<(), Trouble>);

/// At most this many letters are written in one go.
const PORTION: usize = 1_000;

/// An event that waits for its letter to be durable.
#[derive(Debug)]
pub struct Waiting {
    pub event: Sequence,
    pub rejection: Box<Rejection>,
    /// The event, if it is in memory: else it is fetched when the letter is written.
    pub stored: Option<Arc<Stored>>,
}

/// Why letters were not written.
#[derive(Debug)]
pub enum Trouble {
    /// Their events could not be fetched from the buffer.
    Fetch(String),
    Write(Unwritten),
}

/// The letters that are not durable yet.
pub struct Letters {
    buffer: Arc<dyn Buffer>,
    writer: Arc<DeadLetters>,
    waiting: VecDeque<Waiting>,
    /// The write under way.
    pub writing: Option<BoxFuture<'static, Written>>,
    under_way: usize,
    /// What the letters weigh, those under way included.
    bytes: u64,
    pause: Duration,
    failures: u32,
    retry_at: Option<Instant>,
    /// Whether it was the writing that failed last, not the fetching.
    unwritable: bool,
    /// The look at the age of letters that is under way.
    pub pruning: Option<BoxFuture<'static, ()>>,
    prune_every: Duration,
    prune_at: Instant,
}

impl Letters {
    pub fn new(
        buffer: Arc<dyn Buffer>,
        writer: Arc<DeadLetters>,
        pace: &Pace,
        now: Instant,
    ) -> Self {
        Self {
            buffer,
            writer,
            waiting: VecDeque::new(),
            writing: None,
            under_way: 0,
            bytes: 0,
            pause: pace.dead_letter_pause,
            failures: 0,
            retry_at: None,
            unwritable: false,
            pruning: None,
            prune_every: pace.dead_letter_age_check,
            prune_at: now,
        }
    }

    pub fn len(&self) -> usize {
        self.waiting.len() + self.under_way
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes of the letters that are not durable yet.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn add(&mut self, letter: Waiting) {
        self.bytes += letter.weight();
        self.waiting.push_back(letter);
    }

    /// Begins to write, if there is something to write and it is time to.
    pub fn write(&mut self, now: Instant) {
        let pausing = self.retry_at.is_some_and(|at| at > now);
        if self.waiting.is_empty() || self.writing.is_some() || pausing {
            return;
        }
        let portion = self.waiting.len().min(PORTION);
        let batch: Vec<Waiting> = self.waiting.drain(..portion).collect();
        self.under_way = batch.len();
        let (buffer, writer) = (Arc::clone(&self.buffer), Arc::clone(&self.writer));
        self.writing = Some(
            async move {
                let result = write(&*buffer, &writer, &batch).await;
                (batch, result)
            }
            .boxed(),
        );
    }

    /// Takes the end of a write; returns what may be settled now.
    pub fn written(
        &mut self,
        (mut batch, result): Written,
        now: Instant,
    ) -> Vec<(Sequence, Outcome)> {
        self.under_way = 0;
        let written = match &result {
            Ok(()) => batch.len(),
            Err(Trouble::Write(unwritten)) => unwritten.written.min(batch.len()),
            Err(Trouble::Fetch(_)) => 0,
        };
        let rest = batch.split_off(written);
        let weight = batch.iter().map(Waiting::weight).sum();
        self.bytes = self.bytes.saturating_sub(weight);
        match result {
            Ok(()) => self.succeeded(),
            Err(trouble) => {
                if written > 0 {
                    self.failures = 0;
                }
                self.failed(&trouble, rest.len(), now);
            }
        }
        for letter in rest.into_iter().rev() {
            self.waiting.push_front(letter);
        }
        let ended = |letter: Waiting| (letter.event, Outcome::Rejected(letter.rejection.reason));
        batch.into_iter().map(ended).collect()
    }

    fn succeeded(&mut self) {
        if self.failures > 0 {
            tracing::info!("Dead letters can be written again.");
        }
        self.failures = 0;
        self.retry_at = None;
        self.unwritable = false;
    }

    fn failed(&mut self, trouble: &Trouble, letters: usize, now: Instant) {
        metering::letters_failed();
        match trouble {
            Trouble::Write(Unwritten { error, .. }) => tracing::error!(
                %error,
                letters,
                "Dead letters cannot be written; delivery is held until they can, and their \
                events stay in the buffer."
            ),
            Trouble::Fetch(error) => tracing::error!(
                %error,
                letters,
                "Events cannot be read from the buffer for their dead letters; they stay there."
            ),
        }
        self.unwritable = matches!(trouble, Trouble::Write(_));
        let pause = self.pause * 2_u32.pow(self.failures.min(5));
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + pause.min(self.pause * 30));
    }

    /// Lets a pause after a failure end now.
    pub fn retry_now(&mut self, now: Instant) {
        self.retry_at = self.retry_at.map(|_| now);
    }

    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Returns when to look at the age of letters again.
    pub fn prune_at(&self) -> Option<Instant> {
        Some(self.prune_at)
    }

    /// Tells whether letters wait that could not be written when it was last tried.
    pub fn are_stuck(&self) -> bool {
        self.failures > 0 && self.unwritable
    }

    /// Tells whether letters wait whose events could not be fetched when it was last tried.
    pub fn lack_events(&self) -> bool {
        self.failures > 0 && !self.unwritable
    }

    /// Begins to remove letters that are past their age, if it is time to look for some.
    pub fn prune(&mut self, now: Instant) {
        if self.pruning.is_none() && self.prune_at <= now {
            self.prune_at = now + self.prune_every;
            let writer = Arc::clone(&self.writer);
            self.pruning = Some(async move { writer.prune().await }.boxed());
        }
    }
}

async fn write(
    buffer: &dyn Buffer,
    writer: &DeadLetters,
    batch: &[Waiting],
) -> Result<(), Trouble> {
    let missing = batch.iter().filter(|l| l.stored.is_none()).map(|l| l.event).collect();
    let fetched = fetch(buffer, missing).await.map_err(Trouble::Fetch)?;
    let letters = batch.iter().filter_map(|letter| {
        let stored = letter.stored.as_ref().or_else(|| fetched.get(&letter.event))?;
        Some(letter.write(stored))
    });
    let letters: Vec<DeadLetter> = letters.collect();
    if letters.len() < batch.len() {
        return Err(Trouble::Fetch("the buffer gave other events than asked for".into()));
    }
    writer.write(letters).await.map_err(Trouble::Write)
}

impl Waiting {
    fn write(&self, stored: &Stored) -> DeadLetter {
        let rejection = &*self.rejection;
        DeadLetter {
            outcome: Outcome::Rejected(rejection.reason.clone()),
            refusal: rejection.refusal.clone(),
            attempts: u32::from(rejection.attempts),
            unknown: rejection.unknown,
            original: stored.original.clone(),
            id_input: stored.id_input.clone(),
            operations: stored.operations.clone(),
            received_at: stored.received_at,
            source: Arc::clone(&stored.source),
        }
    }

    /// Returns about how many bytes the letter keeps in memory.
    fn weight(&self) -> u64 {
        let refusal = &self.rejection.refusal;
        let words = [&refusal.reason, &refusal.field, &refusal.message];
        let words: usize = words.into_iter().flatten().map(String::len).sum();
        let own = size_of::<Self>() + size_of::<Rejection>() + words;
        own as u64 + self.stored.as_ref().map_or(0, |stored| stored.bytes())
    }
}
