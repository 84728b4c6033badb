//! Rejected events between their end and their settling: first the dead letter must be durable.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::super::{DeadLetter, DeadLetters, metering};
use crate::buffer::Sequence;
use crate::outcome::Outcome;

/// Letters whose writing has ended, well or not.
pub type Written = (Vec<(Sequence, DeadLetter)>, std::io::Result<()>);

/// At most this many letters are written in one go.
const PORTION: usize = 1_000;

/// The letters that are not durable yet.
pub struct Letters {
    writer: Arc<DeadLetters>,
    waiting: Vec<(Sequence, DeadLetter)>,
    /// The write under way.
    pub writing: Option<BoxFuture<'static, Written>>,
    under_way: usize,
    /// What the letters weigh, those under way included.
    bytes: u64,
    pause: Duration,
    failures: u32,
    retry_at: Option<Instant>,
}

impl Letters {
    pub fn new(writer: Arc<DeadLetters>, pause: Duration) -> Self {
        Self {
            writer,
            waiting: Vec::new(),
            writing: None,
            under_way: 0,
            bytes: 0,
            pause,
            failures: 0,
            retry_at: None,
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

    pub fn add(&mut self, sequence: Sequence, letter: DeadLetter) {
        self.bytes += weight(&letter);
        self.waiting.push((sequence, letter));
    }

    /// Begins to write, if there is something to write and it is time to.
    pub fn write(&mut self, now: Instant) {
        let pausing = self.retry_at.is_some_and(|at| at > now);
        if self.waiting.is_empty() || self.writing.is_some() || pausing {
            return;
        }
        let rest = self.waiting.split_off(self.waiting.len().min(PORTION));
        let batch = std::mem::replace(&mut self.waiting, rest);
        self.under_way = batch.len();
        let writer = Arc::clone(&self.writer);
        self.writing = Some(
            async move {
                let letters = batch.iter().map(|(_, letter)| letter.clone()).collect();
                let result = writer.write(letters).await;
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
    ) -> Option<Vec<(Sequence, Outcome)>> {
        self.under_way = 0;
        match result {
            Ok(()) => {
                if self.failures > 0 {
                    tracing::info!("Dead letters can be written again.");
                }
                self.failures = 0;
                self.retry_at = None;
                let written = batch.iter().map(|(_, letter)| weight(letter)).sum();
                self.bytes = self.bytes.saturating_sub(written);
                Some(batch.into_iter().map(|(sequence, l)| (sequence, l.outcome)).collect())
            }
            Err(error) => {
                metering::letters_failed();
                tracing::error!(
                    %error,
                    letters = batch.len(),
                    "Dead letters cannot be written; their events stay in the buffer."
                );
                let pause = self.pause * 2_u32.pow(self.failures.min(5));
                self.failures = self.failures.saturating_add(1);
                self.retry_at = Some(now + pause.min(self.pause * 30));
                batch.append(&mut self.waiting);
                self.waiting = batch;
                None
            }
        }
    }

    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Returns what the operator should know.
    pub fn trouble(&self) -> Option<&'static str> {
        (self.failures > 0).then_some("dead letters cannot be written")
    }
}

/// Returns about how many bytes a letter keeps in memory.
fn weight(letter: &DeadLetter) -> u64 {
    let refusal = &letter.refusal;
    let words = [&refusal.reason, &refusal.field, &refusal.message];
    let words: usize = words.into_iter().flatten().map(String::len).sum();
    let operations: usize = letter.operations.iter().map(|o| o.body.len()).sum();
    (size_of::<DeadLetter>() + words + operations + letter.original.raw.len()) as u64
}
