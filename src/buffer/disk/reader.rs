//! Reading: one row in memory at a time, its events decoded as they are handed out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use tokio::sync::OwnedMutexGuard;

use super::damage;
use super::failure::Failure;
use super::row::{Row, Sources, Weight, claimed_weights};
use super::shared::Shared;
use super::tables::Raw;
use crate::buffer::{Sequence, Stored};
use crate::event::identity::IdInput;
use crate::event::{Assigned, Original};
use crate::operation::Operations;

/// Pause before a row that could not be read is tried again, unless news come first.
const TRY_AGAIN: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1000 });

/// Events with their places.
pub(super) type Portion = Vec<(Sequence, Arc<Stored>)>;

/// The place of the reader.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The row that is being handed out, and the place in it.
    row: Option<(Loaded, usize)>,
    /// Events that are decoded and not handed out: what an interrupted read has left.
    ahead: VecDeque<(Sequence, Arc<Stored>)>,
    sources: Sources,
}

/// A row of which events are handed out.
#[derive(Debug)]
enum Loaded {
    Sound(Row),
    /// It was set aside. Its events have no operations, so that they are rejected.
    Lost {
        first: u64,
        count: usize,
    },
}

impl Loaded {
    fn first(&self) -> u64 {
        match self {
            Self::Sound(row) => row.first(),
            Self::Lost { first, .. } => *first,
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Sound(row) => row.count(),
            Self::Lost { count, .. } => *count,
        }
    }
}

/// Stands for an event that was lost: without operations.
fn lost() -> Stored {
    Stored {
        operations: Operations::new(),
        original: Original { raw: Bytes::from_static(b"{}"), assigned: Assigned::new() },
        id_input: IdInput::default(),
        received_at: Utc::now(),
        source: Arc::from(""),
        letter: None,
    }
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
            let (more, stopped, at_end) = {
                let state = self.shared.state();
                let more = cursor.row.is_some() || state.read < state.readable;
                (more, state.damage.is_some(), state.is_at_end())
            };
            if more && !stopped {
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
            let (first, i) = (row.first(), *next);
            if i >= row.count() {
                self.row = None;
                continue;
            }
            if shared.state().holds(first, i) {
                let event = match row {
                    Loaded::Lost { .. } => lost(),
                    Loaded::Sound(row) => match row.event(i, &mut self.sources) {
                        Ok(event) => event,
                        Err(damage) => {
                            let (bytes, settled) = (row.bytes().clone(), Vec::new());
                            shared.damaged(&Raw { first, bytes, settled }, 1, damage)?;
                            lost()
                        }
                    },
                };
                sum += event.bytes();
                self.ahead.push_back((Sequence(first + i as u64), Arc::new(event)));
            }
            *next += 1;
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
        let (loaded, weights, settled) = match shared.kept_row(read) {
            Some(row) => {
                let weights = row.weights()?;
                (Loaded::Sound(row), weights, Vec::new())
            }
            None => match shared.store.row_from(read).inspect_err(|failure| {
                if matches!(failure, Failure::Corrupt(_)) {
                    shared.stop_for_damage(failure);
                }
            })? {
                Some(raw) if raw.first < readable => match raw.check() {
                    Ok(found) => (Loaded::Sound(found.row), found.weights, found.settled),
                    Err(damage) => {
                        let behind = shared.store.row_behind(raw.first)?.unwrap_or(readable);
                        let (loaded, weights) = set_aside(&raw, behind.min(readable));
                        shared.damaged(&raw, loaded.count(), damage)?;
                        (loaded, weights, raw.settled)
                    }
                },
                // What was there is settled.
                _ => {
                    shared.state().advance(readable);
                    return Ok(false);
                }
            },
        };
        let mut state = shared.state();
        let sound = matches!(loaded, Loaded::Sound(_));
        state.hold(loaded.first(), &weights, &settled, sound);
        state.advance(loaded.first() + loaded.count() as u64);
        drop(state);
        self.row = Some((loaded, 0));
        Ok(true)
    }
}

/// Makes what stands for the events of a row that was set aside.
fn set_aside(raw: &Raw, behind: u64) -> (Loaded, Vec<Weight>) {
    let count = usize::try_from(damage::count(raw, behind)).unwrap_or(0);
    let weights = claimed_weights(&raw.bytes, count, Utc::now().timestamp_millis());
    (Loaded::Lost { first: raw.first, count }, weights)
}
