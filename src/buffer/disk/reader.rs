//! Reading: one row in memory at a time, its events decoded as they are handed out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::row::{Row, Sources};
use super::shared::Shared;
use super::store::Failure;
use crate::buffer::{Sequence, Stored};

/// Pause before a row that could not be read is tried again, unless news come first.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Events with their places.
pub(super) type Portion = Vec<(Sequence, Arc<Stored>)>;

/// The place of the reader.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The row that is being handed out, and the place in it.
    row: Option<(Row, usize)>,
    /// Events that are decoded and not handed out: what an interrupted read has left.
    ahead: VecDeque<(Sequence, Arc<Stored>)>,
    sources: Sources,
}

/// The one reader; its cursor moves to a blocking thread and back.
#[derive(Debug)]
pub(super) struct Reader {
    shared: Arc<Shared>,
    cursor: Arc<tokio::sync::Mutex<Cursor>>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, cursor: Arc::default() }
    }

    pub(super) async fn read(&self, events: usize, bytes: u64) -> Portion {
        let (events, bytes) = (events.max(1), bytes.max(1));
        loop {
            let mut cursor = Arc::clone(&self.cursor).lock_owned().await;
            let portion = cursor.hand_out(events, bytes, &self.shared);
            if !portion.is_empty() {
                return portion;
            }
            let (more, at_end) = {
                let state = self.shared.state();
                (cursor.row.is_some() || state.read < state.readable, state.is_at_end())
            };
            if more {
                self.fill(cursor, events, bytes).await;
            } else if at_end {
                // Others may wait for the same end.
                self.shared.news.notify_one();
                return Vec::new();
            } else {
                self.shared.news.notified().await;
            }
        }
    }

    /// Decodes a portion on a thread that may wait for the disk. An interruption loses nothing:
    /// the thread goes on, and what it decodes stays with the cursor.
    async fn fill(&self, mut cursor: OwnedMutexGuard<Cursor>, events: usize, bytes: u64) {
        let shared = Arc::clone(&self.shared);
        let filled = tokio::task::spawn_blocking(move || cursor.fill(events, bytes, &shared)).await;
        if !matches!(filled, Ok(Ok(()))) {
            let news = self.shared.news.notified();
            drop(tokio::time::timeout(TRY_AGAIN, news).await);
        }
    }
}

impl Cursor {
    /// Takes decoded events that still wait.
    fn hand_out(&mut self, events: usize, bytes: u64, shared: &Shared) -> Portion {
        let mut portion = Vec::new();
        let mut sum = 0;
        while portion.len() < events && sum < bytes {
            let Some((sequence, event)) = self.ahead.pop_front() else { break };
            sum += event.bytes();
            portion.push((sequence, event));
        }
        if let Some((_, last)) = portion.last() {
            shared.state().handed_out(last.received_at.timestamp_millis());
        }
        portion
    }

    /// Decodes up to a portion.
    fn fill(&mut self, events: usize, bytes: u64, shared: &Shared) -> Result<(), Failure> {
        let mut sum = 0;
        while self.ahead.len() < events && sum < bytes {
            let Some((row, next)) = &mut self.row else {
                if !self.load(shared)? {
                    break;
                }
                continue;
            };
            let i = *next;
            if i >= row.count() {
                self.row = None;
                continue;
            }
            *next += 1;
            let waits = shared.state().holds(row.first(), i);
            if waits {
                let event = row.event(i, &mut self.sources)?;
                sum += event.bytes();
                self.ahead.push_back((Sequence(row.first() + i as u64), Arc::new(event)));
            }
        }
        Ok(())
    }

    /// Loads the next row; tells whether there is one that may be read.
    fn load(&mut self, shared: &Shared) -> Result<bool, Failure> {
        let (read, readable) = {
            let state = shared.state();
            (state.read, state.readable)
        };
        if read >= readable {
            return Ok(false);
        }
        let (row, weights, settled) = match shared.kept_row(read) {
            Some(row) => (row.clone(), row.weights()?, Vec::new()),
            None => match shared.store.row_from(read)? {
                Some(found) if found.row.first() < readable => {
                    (found.row, found.weights, found.settled)
                }
                // What was there is settled.
                _ => {
                    shared.state().advance(readable);
                    return Ok(false);
                }
            },
        };
        let mut state = shared.state();
        state.hold(row.first(), weights, &settled);
        state.advance(row.first() + row.count() as u64);
        drop(state);
        self.row = Some((row, 0));
        Ok(true)
    }
}
