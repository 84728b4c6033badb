//! How many connections may be open, and which of them makes place for a new one.
//!
//! File descriptors and memory belong to the process, so the bound is for all listeners together. When
//! it is reached, a new connection takes the place of the one that waits longest for its client: for a
//! request, the rest of its head, or of its body. So who opens connections and says nothing, or never
//! enough, keeps nobody else out. One whose request has arrived stays.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
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
    /// Those that wait for their client, the one that does so longest first.
    waiting: BTreeMap<u64, Arc<Notify>>,
    next: u64,
}

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
        let place = Place { places: self, work: Mutex::default(), leave: Arc::default() };
        place.change(|_| {});
        Some(place)
    }

    /// Asks the connection that waits longest for its client to leave.
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
}

#[derive(Debug, Default)]
struct Work {
    begun: u64,
    in_work: usize,
    /// Of those in work, how many have arrived.
    arrived: usize,
    /// Its number among those that wait for their client.
    waits: Option<u64>,
}

/// A request in work; over when dropped.
#[derive(Debug)]
pub(super) struct Begun {
    place: Arc<Place>,
    arrived: AtomicBool,
}

impl Place {
    /// Counts a request.
    pub(super) fn begin(self: &Arc<Self>) -> Begun {
        self.change(|work| {
            work.begun += 1;
            work.in_work += 1;
        });
        Begun { place: Arc::clone(self), arrived: AtomicBool::new(false) }
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

    fn change(&self, change: impl FnOnce(&mut Work)) {
        let mut work = self.work();
        change(&mut work);
        let mut open = self.places.open();
        if let Some(before) = work.waits.take() {
            open.waiting.remove(&before);
        }
        if work.arrived == 0 {
            open.next += 1;
            let now = open.next;
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
}

impl Drop for Begun {
    fn drop(&mut self) {
        let arrived = usize::from(*self.arrived.get_mut());
        self.place.change(|work| {
            work.in_work -= 1;
            work.arrived -= arrived;
        });
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
