//! The delivery task: reads ahead, sends what may travel, and settles what has ended.
//!
//! It owns everything that changes, and waits at a single place ([`Courier::wait`]). Each turn does
//! what can be done now, then waits for the next thing to happen: something was read, a request was
//! answered, dead letters are durable, a time has come, or the operator spoke.
//!
//! # Cancel safety
//!
//! Aborting the task drops the requests under way. Whatever was not settled is still in the buffer;
//! what such a request had already reached is sent again by the next life, with the same ids.

mod answers;
mod letters;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::batch::{Filling, ItemLimit};
use super::control::Orders;
use super::limit::Limiter;
use super::order::{Book, Slot};
use super::parcel::{Parcel, Shelf};
use super::progress::{Ended, Ending, Events, Load};
use super::retry::{Gate, Holding, WorkingTime};
use super::{DeadLetters, DeliveryHandle, Destination, Hold, OnSettled, Pace, Reply, metering};
use crate::buffer::{Buffer, Sequence, Stored};
use crate::config::{BatchConfig, CustomerIoConfig, RetryConfig};
use crate::outcome::Outcome;

use letters::Letters;

/// What the task works between.
#[derive(Clone)]
pub struct Ends {
    pub buffer: Arc<dyn Buffer>,
    pub destination: Arc<dyn Destination>,
    pub dead_letters: Arc<DeadLetters>,
    pub on_settled: OnSettled,
}

/// A request under way.
struct Flight {
    parcel: Parcel,
    /// The gate's generation when it left.
    generation: u64,
}

type Read = Vec<(Sequence, Arc<Stored>)>;
type Flown = Result<(Id, Reply), JoinError>;

/// What ends a wait.
enum Wake {
    Read(Read),
    Flown(Flown),
    Probed(Result<(), Hold>),
    Written(letters::Written),
    Ordered,
    Time,
}

/// The state of the task.
pub struct Courier {
    ends: Ends,
    retry: RetryConfig,
    batch: BatchConfig,
    concurrency: usize,
    workspace_pinned: bool,
    pace: Pace,
    handle: DeliveryHandle,

    reading: Option<BoxFuture<'static, Read>>,
    read_all: bool,
    events: Events,
    book: Book<Load>,
    item_limit: ItemLimit,
    /// Since when something has been ready to travel.
    lingering: Option<Instant>,
    shelf: Shelf,

    flights: JoinSet<Reply>,
    under_way: HashMap<Id, Flight>,
    limiter: Limiter,
    /// A right to send that was taken and not used.
    permit: bool,
    limited_until: Option<Instant>,

    gate: Gate,
    /// Whether the last request that tried was a new batch.
    try_new: bool,
    holding: Holding,
    probing: Option<BoxFuture<'static, Result<(), Hold>>>,
    /// Whether the credentials are still to be checked before the first request.
    checking: bool,
    orders: Orders,
    working: WorkingTime,
    successes: u64,

    letters: Letters,
    settled: Vec<Sequence>,
}

impl Courier {
    /// Makes the task's state.
    pub fn new(ends: Ends, config: &CustomerIoConfig, pace: Pace, handle: DeliveryHandle) -> Self {
        let now = Instant::now();
        Self {
            retry: config.retry.clone(),
            batch: config.batch.clone(),
            concurrency: config.concurrency.max(1),
            workspace_pinned: config.environment_id.is_some(),
            handle,
            reading: None,
            read_all: false,
            events: Events::default(),
            book: Book::new(config.ordering, config.merge_settle, now),
            item_limit: ItemLimit::new(config.batch.max_items),
            lingering: None,
            shelf: Shelf::default(),
            flights: JoinSet::new(),
            under_way: HashMap::new(),
            limiter: Limiter::new(config.requests_per_second, config.burst),
            permit: false,
            limited_until: None,
            gate: Gate::default(),
            try_new: false,
            holding: Holding::new(pace.probe_first, pace.probe_longest),
            probing: None,
            checking: config.check_credentials || config.environment_id.is_some(),
            orders: Orders::default(),
            working: WorkingTime::new(config.retry.max),
            successes: 0,
            letters: Letters::new(Arc::clone(&ends.dead_letters), pace.dead_letter_pause),
            settled: Vec::new(),
            ends,
            pace,
        }
    }

    /// Works until the buffer is closed and everything has been settled.
    pub async fn run(mut self, mut orders: watch::Receiver<Orders>) {
        loop {
            let now = Instant::now();
            self.book.wake(now);
            self.probe(now);
            self.dispatch(now);
            self.letters.write(now);
            self.settle();
            self.read();
            self.publish(now);
            if self.is_done() {
                return;
            }
            match self.wait(&mut orders, now).await {
                Wake::Read(events) => self.enter(events),
                Wake::Flown(flown) => self.landed(flown, Instant::now()),
                Wake::Probed(answer) => self.probed(answer, Instant::now()),
                Wake::Written(written) => self.written(written, Instant::now()),
                Wake::Ordered => self.ordered(*orders.borrow_and_update(), Instant::now()),
                Wake::Time => {}
            }
        }
    }

    /// Waits for the next thing to happen. Every branch can lose without losing anything: the
    /// futures are kept in `self`, and a task set and a watch channel keep what nobody took.
    async fn wait(&mut self, orders: &mut watch::Receiver<Orders>, now: Instant) -> Wake {
        let next = self.next_time(now);
        let time = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(flown) = self.flights.join_next_with_id(), if !self.flights.is_empty() => Wake::Flown(flown),
            events = kept(&mut self.reading) => Wake::Read(events),
            answer = kept(&mut self.probing) => Wake::Probed(answer),
            written = kept(&mut self.letters.writing) => Wake::Written(written),
            Ok(()) = orders.changed() => Wake::Ordered,
            () = time => Wake::Time,
        }
    }

    /// Returns the next moment at which something can be done that cannot be done now.
    fn next_time(&self, now: Instant) -> Option<Instant> {
        let linger = self.lingering.map(|since| since + self.batch.linger);
        [
            linger,
            self.shelf.due_at(),
            self.gate.opens_at(now),
            self.book.next_due(),
            self.limited_until,
            self.holding.probe_at(),
            self.letters.retry_at(),
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .min()
    }

    fn is_done(&self) -> bool {
        self.read_all
            && self.reading.is_none()
            && self.book.is_empty()
            && self.flights.is_empty()
            && self.letters.is_empty()
    }

    // Reading.

    fn read(&mut self) {
        if self.read_all || self.reading.is_some() {
            return;
        }
        let parked = self.book.parked();
        let moving = self.book.len() - parked;
        let room = self
            .pace
            .read_ahead
            .saturating_sub(moving)
            .min((8 * self.pace.read_ahead).saturating_sub(parked))
            .min(self.pace.read_ahead.saturating_sub(self.letters.len()));
        // Reading in small portions while the window is nearly full would cost a turn for each.
        let portion = (self.pace.read_ahead / 8).max(1);
        if room < portion || self.events.bytes() >= self.pace.read_ahead_bytes {
            return;
        }
        let buffer = Arc::clone(&self.ends.buffer);
        let limit = room.min(4_096);
        self.reading = Some(async move { buffer.read(limit).await }.boxed());
    }

    fn enter(&mut self, events: Read) {
        if events.is_empty() {
            self.read_all = true;
        }
        for (sequence, stored) in events {
            if stored.operations.is_empty() {
                // Nothing to send is nothing to wait for.
                self.settled.push(sequence);
                continue;
            }
            let event = self.events.insert(sequence, Arc::clone(&stored));
            for (position, operation) in (0_u32..).zip(&stored.operations) {
                let load =
                    Load { event, position, attempts: 0, unknown: false, failing_since: None };
                self.book.insert(&operation.keys, operation.effect, operation.body.len(), load);
            }
        }
    }

    // Sending.

    fn dispatch(&mut self, now: Instant) {
        while self.flights.len() < self.concurrency && self.may_send(now) && self.take_permit(now) {
            let Some(parcel) = self.choose(now) else { break };
            self.permit = false;
            match self.gate.pass(now) {
                Some(generation) => self.launch(parcel, generation),
                None => self.shelf.put(parcel, now),
            }
        }
        let (ready, _) = self.book.ready();
        if ready == 0 {
            self.lingering = None;
        } else {
            self.lingering.get_or_insert(now);
        }
    }

    /// Chooses what to send: what was sent before, else a new batch.
    ///
    /// When only one request may try, old and new take turns: if the old one is itself the cause
    /// of the failures, others must be able to show that the destination works.
    fn choose(&mut self, now: Instant) -> Option<Parcel> {
        if self.gate.is_trial() {
            self.try_new = !self.try_new;
            if self.try_new
                && let Some(parcel) = self.fill(now)
            {
                return Some(parcel);
            }
        }
        self.shelf.take(now).or_else(|| self.fill(now))
    }

    fn may_send(&mut self, now: Instant) -> bool {
        !self.orders.paused
            && !self.checking
            && self.holding.hold().is_none()
            && self.gate.is_open(now)
            && (self.shelf.due_at().is_some_and(|at| at <= now) || self.is_batch_due(now))
    }

    /// Tells whether a new batch should leave: it is full, nothing is under way, or it has waited
    /// long enough for company.
    fn is_batch_due(&mut self, now: Instant) -> bool {
        let (ready, bytes) = self.book.ready();
        ready > 0
            && (self.flights.is_empty()
                || ready >= self.item_limit.get(now)
                || bytes >= self.batch.max_bytes
                || self.lingering.is_some_and(|since| now >= since + self.batch.linger))
    }

    fn take_permit(&mut self, now: Instant) -> bool {
        if !self.permit {
            match self.limiter.take(now) {
                Ok(()) => {
                    self.permit = true;
                    self.limited_until = None;
                }
                Err(wait) => {
                    self.limited_until = Some(now + wait.max(Duration::from_millis(1)));
                }
            }
        }
        self.permit
    }

    /// Forms a batch of what may travel.
    fn fill(&mut self, now: Instant) -> Option<Parcel> {
        let mut filling = Filling::new(self.batch.max_bytes, self.item_limit.get(now));
        let batch = self.book.open();
        let mut part: Vec<Slot> = Vec::new();
        while let Some(room) = filling.room()
            && let Some((slot, size)) = self.book.take(batch, room, now)
        {
            filling.add(size);
            part.push(slot);
        }
        self.lingering = None;
        if part.is_empty() {
            return None;
        }
        metering::batch(part.len());
        Some(Parcel::new(part))
    }

    fn launch(&mut self, mut parcel: Parcel, generation: u64) {
        let mut bodies = Vec::with_capacity(parcel.first().len());
        for &slot in parcel.first() {
            if let Some(load) = self.book.get_mut(slot) {
                load.attempts += 1;
                bodies.extend(self.events.body(load));
            }
        }
        let attempt = parcel.sent;
        parcel.sent += 1;
        let destination = Arc::clone(&self.ends.destination);
        let task = self.flights.spawn(async move { destination.send(bodies, attempt).await });
        self.under_way.insert(task.id(), Flight { parcel, generation });
    }

    // Ending.

    fn end(&mut self, slot: Slot, ending: Ending, now: Instant) {
        let delivered = matches!(ending, Ending::Delivered);
        let Some(load) = self.book.end(slot, delivered, now) else { return };
        match self.events.end(&load, ending) {
            None => {}
            Some(Ended::Delivered(sequence)) => self.settled.push(sequence),
            Some(Ended::Rejected(sequence, letter)) => self.letters.add(sequence, *letter),
        }
    }

    /// Lets go of what was delivered. Rejected events follow when their letters are durable.
    fn settle(&mut self) {
        if self.settled.is_empty() {
            return;
        }
        self.ends.buffer.settle(&self.settled);
        for sequence in self.settled.drain(..) {
            (self.ends.on_settled)(sequence, &Outcome::Delivered);
        }
    }

    fn written(&mut self, written: letters::Written, now: Instant) {
        let Some(done) = self.letters.written(written, now) else { return };
        let sequences: Vec<_> = done.iter().map(|(sequence, _)| *sequence).collect();
        self.ends.buffer.settle(&sequences);
        for (sequence, outcome) in &done {
            (self.ends.on_settled)(*sequence, outcome);
        }
    }

    // The operator.

    fn ordered(&mut self, new: Orders, now: Instant) {
        if new.paused && !self.orders.paused {
            self.working.stop();
            tracing::warn!("Delivery is paused.");
        } else if !new.paused && self.orders.paused {
            tracing::info!("Delivery goes on.");
        }
        if new.resumed != self.orders.resumed && self.probing.is_none() {
            self.holding.probe_now(now);
        }
        self.orders = new;
    }

    fn publish(&self, now: Instant) {
        let (state, reason) = if self.orders.paused {
            ("paused", None)
        } else if let Some(hold) = self.holding.hold() {
            ("held", Some(hold.code))
        } else if self.gate.opens_at(now).is_some() {
            ("waiting", Some("Customer.io does not take requests at the moment"))
        } else {
            ("sending", self.letters.trouble())
        };
        self.handle.publish(state, reason, self.flights.len(), self.limiter.rate());
    }
}

/// Waits for a future that is kept between turns, and takes it out when it is ready.
async fn kept<T>(place: &mut Option<BoxFuture<'static, T>>) -> T {
    match place {
        Some(future) => {
            let output = future.await;
            *place = None;
            output
        }
        None => std::future::pending().await,
    }
}
