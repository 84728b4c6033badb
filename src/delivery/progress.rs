//! How far each event has come: an event ends when the last of its operations has.

use std::sync::Arc;

use super::{DeadLetter, Refusal};
use crate::buffer::{Sequence, Stored};
use crate::outcome::{Outcome, Reason, ReasonCode};

/// Place of an event among those in progress.
pub type Place = u32;

/// What is known of an operation on its way.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The operation's event.
    pub event: Place,
    /// Its position among the event's operations.
    pub position: u32,
    /// How often it was sent.
    pub attempts: u32,
    /// Whether some attempt may have been applied.
    pub unknown: bool,
    /// The destination's working time at the first of its failures in a row.
    pub failing_since: Option<std::time::Duration>,
}

/// How an operation ended.
#[derive(Clone, Debug)]
pub enum Ending {
    /// Accepted.
    Delivered,
    /// Refused for good, or given up.
    Rejected(Reason, Refusal),
}

/// An event that has ended.
#[derive(Debug)]
pub enum Ended {
    /// Every operation was accepted.
    Delivered(Sequence),
    /// An operation was not.
    Rejected(Sequence, Box<DeadLetter>),
}

#[derive(Debug)]
struct Progress {
    sequence: Sequence,
    stored: Arc<Stored>,
    open: u32,
    attempts: u32,
    unknown: bool,
    rejected: Option<(Reason, Refusal)>,
}

/// The events in progress.
#[derive(Debug, Default)]
pub struct Events {
    events: Vec<Option<Progress>>,
    free: Vec<Place>,
    bytes: u64,
}

impl Events {
    /// Adds an event.
    pub fn insert(&mut self, sequence: Sequence, stored: Arc<Stored>) -> Place {
        self.bytes += stored.bytes();
        let progress = Progress {
            sequence,
            open: u32::try_from(stored.operations.len()).unwrap_or(u32::MAX),
            stored,
            attempts: 0,
            unknown: false,
            rejected: None,
        };
        match self.free.pop() {
            Some(place) => {
                if let Some(free) = self.events.get_mut(place as usize) {
                    *free = Some(progress);
                }
                place
            }
            None => {
                self.events.push(Some(progress));
                (self.events.len() - 1) as Place
            }
        }
    }

    /// Returns the bytes of all events in progress.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the body of an operation.
    #[must_use]
    pub fn body(&self, load: &Load) -> Option<bytes::Bytes> {
        let progress = self.events.get(load.event as usize)?.as_ref()?;
        progress.stored.operations.get(load.position as usize).map(|o| o.body.clone())
    }

    /// Ends an operation, and the event if it was the last. Of several rejections the first counts.
    pub fn end(&mut self, load: &Load, ending: Ending) -> Option<Ended> {
        let place = self.events.get_mut(load.event as usize)?;
        let progress = place.as_mut()?;
        progress.open = progress.open.saturating_sub(1);
        progress.attempts = progress.attempts.max(load.attempts);
        if let Ending::Rejected(reason, refusal) = ending {
            progress.unknown |= load.unknown;
            progress.rejected.get_or_insert((reason, refusal));
        }
        if progress.open > 0 {
            return None;
        }
        let done = place.take()?;
        self.free.push(load.event);
        self.bytes = self.bytes.saturating_sub(done.stored.bytes());
        Some(done.end())
    }
}

impl Progress {
    fn end(self) -> Ended {
        let Some((reason, refusal)) = self.rejected else {
            return Ended::Delivered(self.sequence);
        };
        Ended::Rejected(
            self.sequence,
            Box::new(DeadLetter {
                outcome: Outcome::Rejected(reason),
                refusal,
                attempts: self.attempts,
                unknown: self.unknown,
                original: self.stored.original.clone(),
                id_input: self.stored.id_input.clone(),
                operations: self.stored.operations.clone(),
                received_at: self.stored.received_at,
                source: Arc::clone(&self.stored.source),
            }),
        )
    }
}

/// Returns the ending of an operation that Customer.io refused.
#[must_use]
pub fn refused(refusal: Refusal) -> Ending {
    let code = if refusal.status == Some(413) { ReasonCode::TooLarge } else { ReasonCode::Refused };
    Ending::Rejected(code.into(), refusal)
}
