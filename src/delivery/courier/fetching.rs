//! Bodies: who has them in memory, and how the others come back from the buffer.
//!
//! An operation that waits behind another of its person may wait for days, and there may be a
//! million of those. Once half of the space for bodies is taken, only such operations have theirs
//! in memory as may travel soon. The request that takes the others fetches them itself, so that
//! nobody else waits for the store.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::super::order::Slot;
use super::super::parcel::Parcel;
use super::super::progress::body;
use super::super::{Destination, Reply};
use super::Courier;
use crate::buffer::{Buffer, Sequence, Stored};

/// How a request ended.
#[derive(Debug)]
pub enum Landing {
    Answered(Reply),
    Unfetched(Unfetched),
}

/// Why a request never left: the buffer did not give all bodies.
#[derive(Debug)]
pub struct Unfetched {
    /// Text for the operator.
    pub error: String,
    /// Places in the request of the operations that lack their body.
    pub missing: Vec<usize>,
}

/// One operation of a request that is about to leave.
#[derive(Debug)]
pub struct Item {
    pub event: Sequence,
    pub position: u32,
    /// `None` if it is to be fetched.
    pub body: Option<Bytes>,
}

/// Fetches what is missing, and sends.
pub async fn fetch_and_send(
    buffer: Arc<dyn Buffer>,
    destination: Arc<dyn Destination>,
    items: Vec<Item>,
    attempt: u32,
) -> Landing {
    match bodies(&*buffer, items).await {
        Ok(bodies) => Landing::Answered(destination.send(bodies, attempt).await),
        Err(unfetched) => Landing::Unfetched(unfetched),
    }
}

async fn bodies(buffer: &dyn Buffer, items: Vec<Item>) -> Result<Vec<Bytes>, Unfetched> {
    let wanted: Vec<_> = items.iter().filter(|i| i.body.is_none()).map(|i| i.event).collect();
    let mut error = "an event in the buffer lacks an operation".to_owned();
    let fetched = match fetch(buffer, wanted.clone()).await {
        Ok(fetched) => fetched,
        Err(all) => {
            error = all;
            one_by_one(buffer, wanted).await
        }
    };
    let (mut bodies, mut missing) = (Vec::with_capacity(items.len()), Vec::new());
    for (place, item) in items.into_iter().enumerate() {
        let fetched = || body(fetched.get(&item.event)?, item.position);
        match item.body.or_else(fetched) {
            Some(body) => bodies.push(body),
            None => missing.push(place),
        }
    }
    if missing.is_empty() { Ok(bodies) } else { Err(Unfetched { error, missing }) }
}

/// Fetches what can be fetched: of many events a single one may be damaged.
async fn one_by_one(buffer: &dyn Buffer, events: Vec<Sequence>) -> HashMap<Sequence, Arc<Stored>> {
    let mut fetched = HashMap::new();
    for event in events {
        if let Ok(stored) = buffer.fetch(vec![event]).await {
            fetched.extend(stored.into_iter().next().map(|stored| (event, stored)));
        }
    }
    fetched
}

/// Fetches events, whose numbers may repeat.
pub async fn fetch(
    buffer: &dyn Buffer,
    mut events: Vec<Sequence>,
) -> Result<HashMap<Sequence, Arc<Stored>>, String> {
    events.sort_unstable();
    events.dedup();
    if events.is_empty() {
        return Ok(HashMap::new());
    }
    let stored = buffer.fetch(events.clone()).await?;
    Ok(events.into_iter().zip(stored).collect())
}

impl Courier {
    /// Tells whether there is still room in memory for bodies of those who may wait long.
    pub(super) fn has_room_for_the_patient(&self) -> bool {
        self.events.kept() < self.pace.read_ahead / 2
            && self.events.bytes() + self.letters.bytes() < self.pace.read_ahead_bytes / 2
    }

    /// Lets go of the bodies of operations that may wait long.
    pub(super) fn forget_bodies(&mut self, slots: impl IntoIterator<Item = Slot>) {
        for slot in slots {
            if self.has_room_for_the_patient() {
                return;
            }
            if let Some(event) = self.book.get(slot).map(|load| load.event) {
                self.events.forget(event);
            }
        }
    }

    /// Takes note that a parcel never left. That is no failure of Customer.io, and none of the
    /// operations either. Who lacks nothing, and is not bound to one who does, goes on at once.
    pub(super) fn unfetched(
        &mut self,
        mut parcel: Parcel,
        generation: u64,
        unfetched: &Unfetched,
        now: Instant,
    ) {
        self.gate.untried(generation, now);
        let failures = parcel.unfetched();
        if failures == 1 && !std::mem::replace(&mut self.unreadable, true) {
            let error = &unfetched.error;
            tracing::error!(%error, "Events cannot be read back from the buffer; they stay there.");
        }
        let slot = |place: &usize| parcel.first().get(*place).copied();
        let missing: Vec<Slot> = unfetched.missing.iter().filter_map(slot).collect();
        if let Some(others) = self.part_from(&missing, &mut parcel) {
            self.shelve(others, now, now);
        }
        let pause = self.pace.fetch_pause * 2_u32.pow(failures.saturating_sub(1).min(5));
        self.shelve(parcel, now + pause, now);
    }

    /// Takes note that the buffer gave the bodies that were asked for.
    pub(super) fn fetched(&mut self) {
        if std::mem::take(&mut self.unreadable) {
            tracing::info!("Events can be read back from the buffer again.");
        }
    }
}
