//! How far each event has come: an event ends when the last of its operations has.
//!
//! What is kept is little: nearly all events have one operation, whose [`Load`] says everything.
//! Only events of several have an entry, and only those whose turn may come soon have their bodies
//! in memory; the buffer has all of them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Refusal;
use crate::buffer::{Sequence, Stored};
use crate::outcome::{Reason, ReasonCode};

/// What is known of an operation on its way.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The operation's event.
    pub event: Sequence,
    /// Its position among the event's operations.
    pub position: u32,
    /// How often it was sent.
    pub attempts: u16,
    /// Whether some attempt may have been applied.
    pub unknown: bool,
}

/// How an operation ended.
#[derive(Clone, Debug)]
pub enum Ending {
    /// Accepted.
    Delivered,
    /// Refused for good, or given up.
    Rejected(Reason, Refusal),
}

/// Why an event was rejected, and what was known of it then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: Reason,
    /// Customer.io's words.
    pub refusal: Refusal,
    /// How often it was sent.
    pub attempts: u16,
    /// Whether it may have been applied all the same.
    pub unknown: bool,
}

/// An event that has ended.
#[derive(Debug)]
pub enum Ended {
    /// Every operation was accepted.
    Delivered,
    /// An operation was not. The body comes along if it is in memory.
    Rejected(Box<Rejection>, Option<Arc<Stored>>),
}

/// An event of several operations.
#[derive(Debug)]
struct Progress {
    open: u32,
    attempts: u16,
    rejected: Option<Box<Rejection>>,
}

/// The events in progress.
#[derive(Debug, Default)]
pub struct Events {
    several: HashMap<Sequence, Progress>,
    bodies: HashMap<Sequence, Arc<Stored>>,
    bytes: u64,
}

impl Events {
    /// Adds an event of so many operations, at least one.
    pub fn insert(&mut self, sequence: Sequence, operations: usize) {
        if operations > 1 {
            let open = u32::try_from(operations).unwrap_or(u32::MAX);
            self.several.insert(sequence, Progress { open, attempts: 0, rejected: None });
        }
    }

    /// Tells whether an event has several operations.
    #[must_use]
    pub fn has_several(&self, sequence: Sequence) -> bool {
        self.several.contains_key(&sequence)
    }

    /// Keeps an event's bodies in memory.
    pub fn keep(&mut self, sequence: Sequence, stored: Arc<Stored>) {
        self.bytes += stored.bytes();
        self.bodies.insert(sequence, stored);
    }

    /// Forgets an event's bodies, which the buffer has.
    pub fn forget(&mut self, sequence: Sequence) -> Option<Arc<Stored>> {
        let stored = self.bodies.remove(&sequence)?;
        self.bytes = self.bytes.saturating_sub(stored.bytes());
        Some(stored)
    }

    /// Returns how many events have their bodies in memory.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.bodies.len()
    }

    /// Returns the bytes of all bodies in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the body of an operation, if it is in memory.
    #[must_use]
    pub fn body(&self, load: &Load) -> Option<Bytes> {
        self.bodies.get(&load.event).and_then(|stored| body(stored, load.position))
    }

    /// Ends an operation, and the event if it was the last. Of several rejections the first counts.
    pub fn end(&mut self, load: &Load, ending: Ending) -> Option<Ended> {
        let rejection = match ending {
            Ending::Delivered => None,
            Ending::Rejected(reason, refusal) => {
                let (attempts, unknown) = (load.attempts, load.unknown);
                Some(Box::new(Rejection { reason, refusal, attempts, unknown }))
            }
        };
        let rejection = match self.several.get_mut(&load.event) {
            None => rejection,
            Some(progress) => {
                progress.enter(load, rejection);
                if progress.open > 0 {
                    return None;
                }
                let progress = self.several.remove(&load.event)?;
                progress.rejected.map(|mut rejection| {
                    rejection.attempts = progress.attempts;
                    rejection
                })
            }
        };
        let stored = self.forget(load.event);
        Some(match rejection {
            None => Ended::Delivered,
            Some(rejection) => Ended::Rejected(rejection, stored),
        })
    }
}

impl Progress {
    fn enter(&mut self, load: &Load, rejection: Option<Box<Rejection>>) {
        self.open = self.open.saturating_sub(1);
        self.attempts = self.attempts.max(load.attempts);
        match (&mut self.rejected, rejection) {
            (Some(first), Some(further)) => first.unknown |= further.unknown,
            (first @ None, further) => *first = further,
            (Some(_), None) => {}
        }
    }
}

/// Returns the body of an event's operation.
#[must_use]
pub fn body(stored: &Stored, position: u32) -> Option<Bytes> {
    stored.operations.get(position as usize).map(|operation| operation.body.clone())
}

/// Returns the ending of an operation that Customer.io refused.
#[must_use]
pub fn refused(refusal: Refusal) -> Ending {
    let code = if refusal.status == Some(413) { ReasonCode::TooLarge } else { ReasonCode::Refused };
    Ending::Rejected(code.into(), refusal)
}
