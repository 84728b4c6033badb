//! What the buffer knows in memory: who waits, what was read and not settled, what is to be
//! written.
//!
//! Everything here is decided under one short lock; nothing here touches the disk.

// An append on its way: taken in, committed, answered.
mod admission;
mod answers;

// What becomes of its events, and when the disk hears of that.
mod pending;
mod settling;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::DateTime;
use tokio::sync::oneshot;

use self::answers::Fresh;
use super::held::Held;
use super::letters::Letters;
use super::meta::Meta;
use crate::buffer::BufferStats;
use crate::config::WhenFull;

pub(super) use self::admission::{Answer, Refusal, Waiting};
pub(super) use self::pending::{Bitmaps, Pending};

/// The buffer in memory.
#[derive(Debug)]
pub(super) struct State {
    pub(super) max_bytes: u64,
    when_full: WhenFull,
    next_ticket: u64,
    pub(super) queue: VecDeque<Waiting>,
    /// Appends that the writer works on, and whether their callers went away.
    claimed: BTreeMap<u64, bool>,
    fresh: VecDeque<Fresh>,
    /// Bytes of appends that were admitted and not answered.
    reserved: u64,
    /// The totals as callers see them: answered appends, settlements, records.
    live: Meta,
    pub(super) held: BTreeMap<u64, Held>,
    /// Bytes of settled events that the rows in `held` keep on the disk.
    pub(super) waste: u64,
    /// Rows that are worth being written again: price and first sequence.
    pub(super) due: BTreeSet<(u64, u64)>,
    pub(super) letters: Letters,
    pub(super) pending: Pending,
    /// Events below may be read.
    pub(super) readable: u64,
    /// Rows below were loaded by the reader.
    pub(super) read: u64,
    /// About when the first event that was not read was received.
    unread_since: Option<i64>,
    /// An append did not fit, and nothing was settled since.
    short_of_room: bool,
    pub(super) flushers: Vec<oneshot::Sender<()>>,
    pub(super) closed: bool,
    /// The buffer was dropped: the writer ends after a last commit.
    pub(super) dropped: bool,
    /// The writer ended in a panic: nothing becomes durable any more.
    pub(super) ended: bool,
    /// Makes the writer panic.
    #[cfg(test)]
    pub(super) sabotaged: bool,
    /// Why nothing can be stored, until it can.
    pub(super) trouble: Option<String>,
    /// What is damaged, if the operator has to decide what becomes of it.
    pub(super) damage: Option<String>,
}

impl State {
    pub(super) fn new(max_bytes: u64, when_full: WhenFull, meta: Meta) -> Self {
        Self {
            max_bytes,
            when_full,
            next_ticket: 0,
            queue: VecDeque::new(),
            claimed: BTreeMap::new(),
            fresh: VecDeque::new(),
            reserved: 0,
            held: BTreeMap::new(),
            waste: 0,
            due: BTreeSet::new(),
            letters: Letters::default(),
            pending: Pending::default(),
            readable: meta.next,
            read: 0,
            unread_since: None,
            short_of_room: false,
            flushers: Vec::new(),
            closed: false,
            dropped: false,
            ended: false,
            #[cfg(test)]
            sabotaged: false,
            trouble: None,
            damage: None,
            live: meta,
        }
    }

    pub(super) fn when_full(&self) -> WhenFull {
        self.when_full
    }

    pub(super) fn live(&self) -> &Meta {
        &self.live
    }

    /// Tells whether nothing can become readable any more.
    pub(super) fn is_at_end(&self) -> bool {
        let idle = self.queue.is_empty() && self.claimed.is_empty() && self.fresh.is_empty();
        self.closed && idle && (self.read >= self.readable || self.damage.is_some())
    }

    /// Notes the last event that was handed out.
    pub(super) fn handed_out(&mut self, received_ms: i64) {
        self.unread_since = Some(received_ms);
    }

    /// Notes the first event that waited at start.
    pub(super) fn starts_with(&mut self, received_ms: Option<i64>) {
        self.unread_since = received_ms;
    }

    pub(super) fn stats(&self) -> BufferStats {
        let held = self.held.values().find_map(Held::oldest);
        let oldest = held.or(self.unread_since).filter(|_| self.live.events > 0);
        let full = self.live.bytes >= self.max_bytes || self.short_of_room;
        let full = (full && self.live.events > 0).then(|| "buffer is full".to_owned());
        BufferStats {
            events: self.live.events,
            bytes: self.live.bytes,
            max_bytes: self.max_bytes,
            oldest: oldest.and_then(DateTime::from_timestamp_millis),
            unavailable: self.damage.clone().or_else(|| self.trouble.clone()).or(full),
            damaged: self.damage.is_some(),
        }
    }
}
