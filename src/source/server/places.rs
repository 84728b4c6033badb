//! How many connections may be open, and which of them makes place for a new one.
//!
//! File descriptors and memory belong to the process, so the bound is for all listeners together. When
//! it is reached, a new connection takes the place of the one that has waited longest:
//!
//! - for its client: for a request, the rest of its head, or of its body. So who opens connections and
//!   says nothing, or never enough, keeps nobody else out;
//! - for Customer.io, with `ack: delivered`. Its requests are answered at once that they are not
//!   delivered yet. So an outage lets no source, and no sender, keep all places.
//!
//! One with a request that has arrived and is worked on stays.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// Connections that may be open at once, if there are file descriptors for them.
const MAX_CONNECTIONS: usize = 10_000;

/// File descriptors that are left to everything else at least: files, and connections to Customer.io.
const OTHERS: usize = 64;

/// After this time a further connection is asked to make place.
const AGAIN: Duration = Duration::from_millis(100);

/// The places of the process.
pub(super) static PLACES: LazyLock<Places> = LazyLock::new(|| Places::new(most(descriptors())));

/// A bound on open connections.
#[derive(Debug)]
pub(in crate::source) struct Places {
    most: usize,
    open: Mutex<Open>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    connections: usize,
    /// Those that wait for their client or for delivery, the one that does so longest first.
    waiting: BTreeMap<Rank, Arc<Notify>>,
    next: u64,
}

/// Which of the connections that wait is the next to make place: one that was asked to already and is
/// still there, as clients are that read nothing; then by number.
type Rank = (bool, u64);

impl Places {
    /// Makes places for this many connections.
    pub(in crate::source) fn new(most: usize) -> Self {
        Self { most, open: Mutex::default(), freed: Notify::new() }
    }

    /// Takes a place; if there is none, that of a connection that rests.
    pub(super) async fn take(&'static self) -> Arc<Place> {
        loop {
            if let Some(place) = self.try_take() {
                return Arc::new(place);
            }
            self.dismiss();
            // Whom it was may have got a request meanwhile, and stay: then another one has to go.
            drop(timeout(AGAIN, self.freed.notified()).await);
        }
    }

    fn try_take(&'static self) -> Option<Place> {
        let mut open = self.open();
        if open.connections >= self.most {
            return None;
        }
        open.connections += 1;
        drop(open);
        let place = Place {
            places: self,
            work: Mutex::default(),
            leave: Arc::default(),
            hurry: watch::Sender::new(false),
            leaving: watch::Sender::new(0),
        };
        place.change(|_| {});
        Some(place)
    }

    /// Asks the connection that waits longest to leave.
    pub(super) fn dismiss(&self) {
        if let Some((_, leave)) = self.open().waiting.pop_first() {
            leave.notify_one();
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: &'static Places,
    work: Mutex<Work>,
    leave: Arc<Notify>,
    /// Whether its requests are to wait for delivery no longer.
    hurry: watch::Sender<bool>,
    /// Answers that are not handed over to the connection yet.
    leaving: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Work {
    begun: u64,
    in_work: usize,
    /// Of those in work, how many have arrived.
    arrived: usize,
    /// Of those that have arrived, how many wait for nothing but delivery.
    handed_in: usize,
    /// Its rank among the connections that wait.
    waits: Option<Rank>,
}

/// A request in work; over when dropped.
#[derive(Debug)]
pub(in crate::source) struct Begun {
    place: Arc<Place>,
    arrived: AtomicBool,
    handed_in: AtomicBool,
}

/// An answer on its way; handed over to its connection, or given up, when dropped.
#[derive(Debug)]
pub(super) struct Leaving(Arc<Place>);

impl Place {
    /// Counts a request.
    pub(super) fn begin(self: &Arc<Self>) -> Begun {
        self.change(|work| {
            work.begun += 1;
            work.in_work += 1;
        });
        Begun {
            place: Arc::clone(self),
            arrived: AtomicBool::new(false),
            handed_in: AtomicBool::new(false),
        }
    }

    /// After how many requests the connection rests; `None` while one is in work.
    pub(super) fn rests_after(&self) -> Option<u64> {
        let work = self.work();
        (work.in_work == 0).then_some(work.begun)
    }

    /// Tells whether a client waits for the answer to what it has sent.
    pub(super) fn is_awaited(&self) -> bool {
        self.work().arrived > 0
    }

    /// Waits until another connection needs the place.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(super) async fn needed(&self) {
        self.leave.notified().await;
    }

    /// Waits until all answers are handed over to the connection. A client that reads nothing may keep
    /// one back for ever.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(super) async fn left(&self) {
        // Its sender is in `self`.
        drop(self.leaving.subscribe().wait_for(|leaving| *leaving == 0).await);
    }

    /// Lets no request wait for delivery any more, now or later, and the connection be the next to go.
    pub(super) fn hurry(&self) {
        self.hurry.send_replace(true);
    }

    fn change(&self, change: impl FnOnce(&mut Work)) {
        let mut work = self.work();
        change(&mut work);
        let mut open = self.places.open();
        if let Some(before) = work.waits.take() {
            open.waiting.remove(&before);
        }
        if work.arrived == work.handed_in {
            open.next += 1;
            let now = (!*self.hurry.borrow(), open.next);
            work.waits = Some(now);
            open.waiting.insert(now, Arc::clone(&self.leave));
        }
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Begun {
    /// Notes that all of the request is there.
    pub(super) fn arrived(&self) {
        if !self.arrived.swap(true, Ordering::SeqCst) {
            self.place.change(|work| work.arrived += 1);
        }
    }

    /// Counts its answer, which its connection does not have yet when the request is over.
    pub(super) fn answered(&self) -> Leaving {
        self.place.leaving.send_modify(|leaving| *leaving += 1);
        Leaving(Arc::clone(&self.place))
    }

    /// Returns how many requests its connection has in work, itself included.
    pub(super) fn beside(&self) -> usize {
        self.place.work().in_work
    }

    /// Waits until another connection needs the place. From now on it waits for nothing but delivery.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(super) async fn hurried(&self) {
        self.arrived();
        if !self.handed_in.swap(true, Ordering::SeqCst) {
            self.place.change(|work| work.handed_in += 1);
        }
        // Its sender is in `self`.
        drop(self.place.hurry.subscribe().wait_for(|hurry| *hurry).await);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let arrived = usize::from(*self.arrived.get_mut());
        let handed_in = usize::from(*self.handed_in.get_mut());
        self.place.change(|work| {
            work.in_work -= 1;
            work.arrived -= arrived;
            work.handed_in -= handed_in;
        });
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leaving.send_modify(|leaving| *leaving -= 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let waits = self.work().waits.take();
        let mut open = self.places.open();
        open.connections -= 1;
        if let Some(waits) = waits {
            open.waiting.remove(&waits);
        }
        drop(open);
        self.places.freed.notify_one();
    }
}

/// Returns how many connections may be open if the process may have this many files.
fn most(descriptors: Option<usize>) -> usize {
    let rest = |all: usize| all.saturating_sub(OTHERS.max(all / 4));
    descriptors.map_or(MAX_CONNECTIONS, rest).clamp(16, MAX_CONNECTIONS)
}

/// Returns how many files the process may have open, where the system tells.
fn descriptors() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    limit.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn places(most: usize) -> &'static Places {
        Box::leak(Box::new(Places::new(most)))
    }

    #[tokio::test]
    async fn who_waits_longest_for_its_client_makes_place_and_who_is_awaited_stays() {
        let places = places(3);
        let [first, second, third] =
            [places.take().await, places.take().await, places.take().await];
        let begun = first.begin();
        begun.arrived();
        drop(third.begin());
        let mut fourth = Box::pin(places.take());
        assert!((&mut fourth).now_or_never().is_none());
        assert!(second.needed().now_or_never().is_some(), "the second waits longest");
        assert!(third.needed().now_or_never().is_none());
        assert!(first.needed().now_or_never().is_none());
        drop(second);
        let fourth = fourth.await;
        drop(begun);
        places.dismiss();
        assert!(third.needed().now_or_never().is_some());
        drop((first, third, fourth));
        let open = places.open();
        assert_eq!((open.connections, open.waiting.len()), (0, 0));
    }

    #[tokio::test]
    async fn who_still_sends_makes_place_too() {
        let places = places(3);
        let [first, second, third] =
            [places.take().await, places.take().await, places.take().await];
        let [one, other, more] = [first.begin(), first.begin(), second.begin()];
        places.dismiss();
        assert!(third.needed().now_or_never().is_some(), "nothing came since");
        other.arrived();
        places.dismiss();
        assert!(second.needed().now_or_never().is_some(), "of the first a request has arrived");
        assert!(first.is_awaited() && !second.is_awaited());
        drop(other);
        places.dismiss();
        assert!(first.needed().now_or_never().is_some(), "the other is answered");
        drop((one, more));
    }

    #[tokio::test]
    async fn who_waits_for_delivery_makes_place_if_nothing_else_is_in_work() {
        let places = places(3);
        let [first, second, third] =
            [places.take().await, places.take().await, places.take().await];
        let [one, other, more, worked_on] =
            [second.begin(), first.begin(), first.begin(), third.begin()];
        worked_on.arrived();
        let mut delivered = Box::pin(one.hurried());
        assert!((&mut delivered).now_or_never().is_none());
        let mut both = Box::pin(async { tokio::join!(other.hurried(), more.hurried()) });
        assert!((&mut both).now_or_never().is_none());
        places.dismiss();
        assert!(second.needed().now_or_never().is_some(), "it waits longest");
        assert!(first.needed().now_or_never().is_none());
        second.hurry();
        assert!((&mut delivered).now_or_never().is_some() && (&mut both).now_or_never().is_none());
        drop(delivered);
        drop(one);
        places.dismiss();
        assert!(second.needed().now_or_never().is_some(), "it is still there");
        drop(both);
        let in_work = first.begin();
        in_work.arrived();
        drop(second);
        places.dismiss();
        assert!(first.needed().now_or_never().is_none(), "another request of it is worked on");
        drop(in_work);
        places.dismiss();
        assert!(first.needed().now_or_never().is_some());
        drop((other, more, worked_on, first, third));
        let open = places.open();
        assert_eq!((open.connections, open.waiting.len()), (0, 0));
    }

    #[tokio::test]
    async fn if_one_stays_after_all_another_makes_place() {
        let places = places(2);
        let (one, other) = (places.take().await, places.take().await);
        let newcomer = tokio::spawn(places.take());
        one.needed().await;
        let begun = one.begin();
        begun.arrived();
        other.needed().await;
        drop(other);
        newcomer.await.unwrap();
    }

    #[test]
    fn descriptors_are_left_to_everything_else() {
        let found = [None, Some(1), Some(256), Some(1024), Some(1 << 20)].map(most);
        assert_eq!(found, [10_000, 16, 192, 768, 10_000]);
        assert_eq!(descriptors().is_some(), cfg!(target_os = "linux"));
    }
}
