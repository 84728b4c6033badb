//! When a person was last delivered to, in a fixed amount of memory.
//!
//! A merge must not follow its people's last delivery too closely. Remembering each person for some
//! seconds would need memory in proportion to the throughput. Instead, times are kept in a table
//! of fixed size; people who share a place make a merge wait a little longer than needed, and never
//! shorter.

use std::time::Duration;

use tokio::time::Instant;

/// 512 KiB of times.
const PLACES: usize = 1 << 16;

/// Last deliveries by conflict key.
#[derive(Debug)]
pub struct RecentDeliveries {
    start: Instant,
    /// Milliseconds since `start`. The table begins with `start` itself, because an earlier life
    /// of the process may have delivered just before.
    last: Box<[u64]>,
}

impl RecentDeliveries {
    /// Makes a table in which everybody was last delivered to at `now`.
    pub fn new(now: Instant) -> Self {
        Self { start: now, last: vec![0; PLACES].into_boxed_slice() }
    }

    /// Notes a delivery.
    pub fn note(&mut self, key: u64, now: Instant) {
        if let Some(last) = self.last.get_mut(place(key)) {
            *last = now.duration_since(self.start).as_millis() as u64;
        }
    }

    /// Returns the latest delivery to any of the keys; `None` without keys.
    pub fn last(&self, keys: impl Iterator<Item = u64>) -> Option<Instant> {
        let at = keys.filter_map(|key| self.last.get(place(key))).max()?;
        // Rounded up, so that the wait is never shorter than asked for.
        Some(self.start + Duration::from_millis(*at + u64::from(*at > 0)))
    }
}

fn place(key: u64) -> usize {
    // The lower half, as the upper bits choose the bucket group in hash maps.
    (key as usize) & (PLACES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_delivery_of_any_key_counts() {
        let start = Instant::now();
        let mut recent = RecentDeliveries::new(start);
        let (early, late) = (start + Duration::from_secs(1), start + Duration::from_secs(9));
        recent.note(1, late);
        recent.note(2, early);
        assert!(recent.last([1, 2].into_iter()).unwrap() >= late);
        assert!(recent.last([2].into_iter()).unwrap() >= early);
        assert!(recent.last([2].into_iter()).unwrap() < late);
        assert_eq!(recent.last([3].into_iter()), Some(start));
        assert_eq!(recent.last([].into_iter()), None);
    }
}
