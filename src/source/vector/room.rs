//! The bytes that all requests hold together before the pipeline takes their events.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bound in bytes.
#[derive(Debug)]
pub struct Room {
    bytes: usize,
    taken: AtomicUsize,
}

/// What one request holds, given back on drop.
#[derive(Debug)]
pub struct Held {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    /// Makes room for `bytes`.
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes, taken: AtomicUsize::new(0) })
    }
}

impl Held {
    /// Begins to count.
    pub fn nothing(room: &Arc<Room>) -> Self {
        Self { room: Arc::clone(room), bytes: 0 }
    }

    /// Takes further bytes; `false` if there is no room for them.
    pub fn take(&mut self, bytes: usize) -> bool {
        let all = self.room.bytes;
        let more = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= all);
        let taken = self.room.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if taken.is_ok() {
            self.bytes += bytes;
        }
        taken.is_ok()
    }

    /// Gives back what is no longer held.
    pub fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.room.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_there_for_others() {
        let room = Room::new(10);
        let (mut one, mut other) = (Held::nothing(&room), Held::nothing(&room));
        assert!(one.take(6) && other.take(4) && !other.take(1));
        one.give_back(2);
        assert!(other.take(2) && !one.take(1) && !one.take(usize::MAX));
        drop(other);
        assert!(one.take(6) && !one.take(1));
        drop(one);
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
    }
}
