//! How much fits into one request, to the byte, and the body itself.
//!
//! A body is `{"batch":[` + operations joined by commas + `]}`. The operations were serialised when
//! they were mapped; their lengths are summed and their bytes copied, never encoded again.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

const HEAD: &[u8] = b"{\"batch\":[";
const TAIL: &[u8] = b"]}";

/// Writes the body of a request.
#[must_use]
pub fn body(operations: &[Bytes]) -> Bytes {
    let mut body = Vec::with_capacity(body_len(operations.iter().map(Bytes::len)));
    body.extend_from_slice(HEAD);
    for (at, operation) in operations.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(operation);
    }
    body.extend_from_slice(TAIL);
    body.into()
}

/// Returns the exact length of a body in bytes.
#[must_use]
pub fn body_len(operations: impl Iterator<Item = usize>) -> usize {
    let (count, bytes) = operations.fold((0_usize, 0), |(n, sum), len| (n + 1, sum + len));
    HEAD.len() + bytes + count.saturating_sub(1) + TAIL.len()
}

/// A request that is being filled.
#[derive(Clone, Copy, Debug)]
pub struct Filling {
    max_bytes: usize,
    max_items: usize,
    bytes: usize,
    items: usize,
}

impl Filling {
    /// Begins with the limits of a body.
    #[must_use]
    pub fn new(max_bytes: usize, max_items: usize) -> Self {
        Self { max_bytes, max_items, bytes: HEAD.len() + TAIL.len(), items: 0 }
    }

    /// Returns the largest operation that still fits, in bytes; `None` when the batch is full.
    ///
    /// The first operation always fits: if it exceeds the limit, the server is the judge of it.
    #[must_use]
    pub fn room(&self) -> Option<usize> {
        if self.items == 0 {
            return Some(usize::MAX);
        }
        if self.items >= self.max_items {
            return None;
        }
        self.max_bytes.checked_sub(self.bytes + 1).filter(|room| *room > 0)
    }

    /// Adds an operation.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes + usize::from(self.items > 0);
        self.items += 1;
    }
}

/// Refusals of this many batches for their size alone, within [`WINDOW`], lower the limit.
const FAULTS: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);

/// The limit of operations per request, which learns from refusals.
///
/// Customer.io documents no such limit, but some batches were seen to be refused for their number.
/// When batches are refused whole and all their parts pass, the largest size that passed becomes
/// the limit; it is raised by a tenth a minute.
#[derive(Debug)]
pub struct ItemLimit {
    configured: usize,
    current: usize,
    faults: VecDeque<(Instant, usize)>,
    raised: Option<Instant>,
}

impl ItemLimit {
    /// Begins with the configured limit.
    #[must_use]
    pub fn new(configured: usize) -> Self {
        let configured = configured.max(1);
        Self { configured, current: configured, faults: VecDeque::new(), raised: None }
    }

    /// Takes another configured limit. What was learned stays if it is below.
    pub fn retune(&mut self, configured: usize) {
        let learned = self.raised.map(|_| self.current);
        self.configured = configured.max(1);
        self.current = learned.map_or(self.configured, |current| current.min(self.configured));
        if self.current >= self.configured {
            self.raised = None;
        }
    }

    /// Returns the limit.
    pub fn get(&mut self, now: Instant) -> usize {
        if let Some(raised) = self.raised
            && now.duration_since(raised) >= WINDOW
        {
            self.current = (self.current + self.current.div_ceil(10)).min(self.configured);
            self.raised = (self.current < self.configured).then_some(now);
        }
        self.current
    }

    /// Notes that a batch was refused whole although each of its parts passed, the largest part
    /// with `passed` operations.
    pub fn refused_for_size(&mut self, passed: usize, now: Instant) {
        self.faults.retain(|(at, _)| now.duration_since(*at) < WINDOW);
        self.faults.push_back((now, passed));
        if self.faults.len() < FAULTS {
            return;
        }
        let largest = self.faults.iter().map(|(_, passed)| *passed).max().unwrap_or(1);
        self.faults.clear();
        self.current = largest.clamp(1, self.current);
        self.raised = Some(now);
        tracing::warn!(
            max_items = self.current,
            "Customer.io refuses batches for their size; smaller ones are sent."
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_the_batch_object_to_the_byte() {
        for (operations, expected) in [
            (vec![], r#"{"batch":[]}"#),
            (vec![r#"{"a":1}"#], r#"{"batch":[{"a":1}]}"#),
            (vec!["1", "22", "333"], r#"{"batch":[1,22,333]}"#),
        ] {
            let operations: Vec<Bytes> =
                operations.into_iter().map(Bytes::from_static_str).collect();
            assert_eq!(body(&operations), expected);
            assert_eq!(body_len(operations.iter().map(Bytes::len)), expected.len());
        }
    }

    trait FromStaticStr {
        fn from_static_str(text: &'static str) -> Self;
    }
    impl FromStaticStr for Bytes {
        fn from_static_str(text: &'static str) -> Self {
            Bytes::from_static(text.as_bytes())
        }
    }

    #[test]
    fn filling_stops_at_the_exact_byte() {
        // Two operations of 10 bytes: 12 + 10 + 1 + 10 = 33.
        for (max, fits) in [(33, true), (32, false)] {
            let mut filling = Filling::new(max, 1000);
            filling.add(10);
            assert_eq!(filling.room().is_some_and(|room| room >= 10), fits, "{max}");
        }
    }

    #[test]
    fn filling_stops_at_the_exact_count_and_takes_the_first_always() {
        let mut filling = Filling::new(5, 2);
        assert_eq!(filling.room(), Some(usize::MAX));
        filling.add(1_000);
        assert_eq!(filling.room(), None);
        let mut filling = Filling::new(10_000, 2);
        filling.add(1);
        assert!(filling.room().is_some());
        filling.add(1);
        assert_eq!(filling.room(), None);
    }

    #[test]
    fn three_refusals_for_size_lower_the_limit_and_calm_raises_it() {
        let now = Instant::now();
        let mut limit = ItemLimit::new(1000);
        limit.refused_for_size(250, now);
        limit.refused_for_size(500, now);
        assert_eq!(limit.get(now), 1000);
        limit.refused_for_size(250, now);
        assert_eq!(limit.get(now), 500);
        assert_eq!(limit.get(now + WINDOW), 550);
        assert_eq!(limit.get(now + WINDOW), 550);
        for minute in 2..20 {
            limit.get(now + WINDOW * minute);
        }
        assert_eq!(limit.get(now + WINDOW * 20), 1000);
    }

    #[test]
    fn another_configured_limit_keeps_what_was_learned_if_it_is_below() {
        let now = Instant::now();
        let mut limit = ItemLimit::new(1000);
        limit.retune(2000);
        assert_eq!(limit.get(now), 2000);
        for _ in 0..FAULTS {
            limit.refused_for_size(500, now);
        }
        limit.retune(1000);
        assert_eq!(limit.get(now), 500);
        limit.retune(100);
        assert_eq!(limit.get(now), 100);
        limit.retune(1000);
        assert_eq!(limit.get(now), 1000);
    }

    #[test]
    fn refusals_that_lie_far_apart_lower_nothing() {
        let now = Instant::now();
        let mut limit = ItemLimit::new(1000);
        for minute in 0..5 {
            limit.refused_for_size(1, now + WINDOW * minute);
        }
        assert_eq!(limit.get(now + WINDOW * 6), 1000);
    }
}
