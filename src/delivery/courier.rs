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
mod fetching;
mod holds;
mod letters;
mod parting;
mod reading;
mod sending;
mod tuning;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::batch::ItemLimit;
use super::control::Orders;
use super::limit::Limiter;
use super::order::{Book, Slot};
use super::parcel::{Parcel, Shelf};
use super::progress::{Ended, Ending, Events, Load};
use super::retry::{Gate, Holding, WorkingTime};
use super::settling::Settling;
use super::{DeadLetters, DeliveryHandle, Destination, Hold, OnSettled, Pace, Tuning, metering};
use crate::buffer::{Buffer, Sequence, Stored};
use crate::config::{BatchConfig, CustomerIoConfig, RetryConfig};
use crate::outcome::Outcome;

use fetching::Landing;
use letters::{Letters, Waiting};

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
    /// Whether it fetches bodies from the buffer.
    fetches: bool,
}

type Read = Vec<(Sequence, Arc<Stored>)>;
type Flown = Result<(Id, Landing), JoinError>;

/// What ends a wait.
enum Wake {
    Read(Read),
    Flown(Flown),
    Probed(Result<(), Hold>),
    Written(letters::Written),
    Pruned,
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
    /// How many events are still to be read that an earlier life may have sent.
    inherited: u64,
    events: Events,
    book: Book<Load>,
    item_limit: ItemLimit,
    /// Since when something has been ready to travel.
    lingering: Option<Instant>,
    shelf: Shelf,
    /// Those that fail while others pass.
    suspects: Shelf,

    flights: JoinSet<Landing>,
    under_way: HashMap<Id, Flight>,
    limiter: Limiter,
    /// A right to send that was taken and not used.
    permit: bool,
    limited_until: Option<Instant>,

    gate: Gate,
    /// Code of the last failure, the reason of a wait.
    last_failure: &'static str,
    /// Whether the last request that tried was a new batch.
    try_new: bool,
    /// Counts requests, so that suspects get their share and no more.
    turn: usize,
    holding: Holding,
    probing: Option<BoxFuture<'static, Result<(), Hold>>>,
    /// Whether the operator asked for a probe while one was under way.
    probe_again: bool,
    /// Whether the credentials are still to be checked before the first request.
    checking: bool,
    orders: Orders,
    working: WorkingTime,
    /// The destination's working time at the first of an operation's failures.
    failing_since: HashMap<Slot, Duration>,
    successes: u64,
    /// Whether bodies cannot be had from the buffer now.
    unreadable: bool,

    letters: Letters,
    /// Whether nothing is sent for the sake of letters that are not durable.
    held_for_letters: bool,
    settling: Settling,
}

impl Courier {
    /// Makes the task's state.
    pub fn new(ends: Ends, config: &CustomerIoConfig, pace: Pace, handle: DeliveryHandle) -> Self {
        let (now, tuning) = (Instant::now(), Tuning::from(config));
        Self {
            retry: tuning.retry,
            item_limit: ItemLimit::new(tuning.batch.max_items),
            batch: tuning.batch,
            concurrency: config.concurrency.max(1),
            workspace_pinned: config.environment_id.is_some(),
            handle,
            reading: None,
            read_all: false,
            events: Events::default(),
            book: Book::new(config.ordering, config.merge_settle, now),
            lingering: None,
            shelf: Shelf::default(),
            suspects: Shelf::default(),
            flights: JoinSet::new(),
            under_way: HashMap::new(),
            limiter: Limiter::new(config.requests_per_second, config.burst, pace.rate_raised_every),
            permit: false,
            limited_until: None,
            gate: Gate::default(),
            last_failure: "",
            try_new: false,
            turn: 0,
            holding: Holding::new(pace.probe_first, pace.probe_longest),
            probing: None,
            probe_again: false,
            checking: config.check_credentials || config.environment_id.is_some(),
            orders: Orders::default(),
            working: WorkingTime::new(config.retry.max),
            failing_since: HashMap::new(),
            successes: 0,
            unreadable: false,
            inherited: inherited(&*ends.buffer),
            letters: Letters::new(
                Arc::clone(&ends.buffer),
                Arc::clone(&ends.dead_letters),
                &pace,
                now,
            ),
            held_for_letters: false,
            settling: Settling::default(),
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
            self.letters.prune(now);
            self.note_letters();
            self.limiter.recover(now);
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
                Wake::Ordered => {
                    let new = orders.borrow_and_update().clone();
                    self.ordered(new, Instant::now());
                }
                Wake::Pruned | Wake::Time => {}
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
            () = kept(&mut self.letters.pruning) => Wake::Pruned,
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
            self.suspects.due_at(),
            self.gate.opens_at(now),
            self.book.next_due(),
            self.limited_until,
            self.holding.probe_at(),
            self.letters.retry_at(),
            self.letters.prune_at(),
            self.limiter.recovers_at(),
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

    // Ending.

    fn end(&mut self, slot: Slot, ending: Ending, now: Instant) {
        let Some(&load) = self.book.get(slot) else { return };
        let delivered = matches!(ending, Ending::Delivered);
        if !delivered || !self.settling.is_idle() || self.events.has_several(load.event) {
            self.settling.enter(load.event, self.book.keys(slot));
        }
        self.failing_since.remove(&slot);
        self.book.end(slot, delivered || load.unknown, now);
        match self.events.end(&load, ending) {
            // What is left of it may have to wait for other people.
            None if !self.has_room_for_the_patient() => drop(self.events.forget(load.event)),
            None => {}
            Some(Ended::Delivered) => self.settling.end(load.event, Outcome::Delivered),
            Some(Ended::Rejected(rejection, stored)) => {
                self.letters.add(Waiting { event: load.event, rejection, stored });
            }
        }
    }

    /// Lets go of what has ended, and whose letter is durable if it was rejected.
    fn settle(&mut self) {
        let settled = self.settling.take();
        if settled.is_empty() {
            return;
        }
        self.ends.buffer.settle(&settled);
        for (sequence, outcome) in &settled {
            (self.ends.on_settled)(*sequence, outcome);
        }
    }

    fn written(&mut self, written: letters::Written, now: Instant) {
        for (event, outcome) in self.letters.written(written, now) {
            self.settling.end(event, outcome);
        }
    }

    /// Notes whether letters hold delivery: they cannot be written, or too many wait for a write
    /// that does not end.
    fn note_letters(&mut self) {
        let held = self.letters.are_stuck() || self.letters_abound();
        if std::mem::replace(&mut self.held_for_letters, held) != held {
            self.working.stop();
            metering::held("dead_letters", held);
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
        if new.resumed != self.orders.resumed {
            // What a probe under way finds may be of before the operator mended it.
            self.probe_again = self.probing.is_some();
            self.holding.probe_now(now);
            self.letters.retry_now(now);
        }
        if let Some(tuning) = new.tuning.as_ref().filter(|_| new.tuned != self.orders.tuned) {
            self.retune(tuning, now);
        }
        self.orders = new;
    }

    fn publish(&self, now: Instant) {
        let (state, reason) = if self.orders.paused {
            ("paused", None)
        } else if let Some(hold) = self.holding.hold() {
            ("held", Some(hold.code))
        } else if self.held_for_letters {
            ("held", Some("dead_letters"))
        } else if self.checking {
            ("waiting", Some("checking_credentials"))
        } else if self.gate.opens_at(now).is_some() {
            ("waiting", Some(self.last_failure))
        } else {
            let unreadable = self.unreadable || self.letters.lack_events();
            ("sending", unreadable.then_some("the buffer cannot be read"))
        };
        self.handle.publish(state, reason, self.flights.len(), self.limiter.rate());
    }
}

/// Returns how many events a buffer holds from an earlier life, which may have sent them.
fn inherited(buffer: &dyn Buffer) -> u64 {
    if buffer.durable() { buffer.stats().events } else { 0 }
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
