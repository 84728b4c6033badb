//! A row of which something waits, as memory keeps it: what is needed to settle its events.

use super::bitmap::has_bit;
use super::row::Weight;

/// Entries below which the settled ones are not taken out.
const FEW: usize = 16;

/// A row that was loaded.
#[derive(Debug)]
pub(super) struct Held {
    /// Events that wait, by their offset from the row's first; `bytes` is 0 once one is settled.
    /// Settled ones are taken out when few others remain.
    entries: Vec<(u32, Weight)>,
    /// How many sequences the row covers.
    span: usize,
    unsettled: usize,
    unsettled_bytes: u64,
    /// Bytes of all events that the row on disk holds.
    stored_bytes: u64,
    /// The row on disk can be written again without its settled events.
    sound: bool,
    /// The price under which it waits for that.
    pub(super) due: Option<u64>,
}

impl Held {
    /// Takes in a row's weights, one per sequence; those with 0 bytes are not there.
    pub(super) fn new(weights: &[Weight], settled: &[u8], sound: bool) -> Self {
        let sum = |sum: u64, weight: &Weight| sum.saturating_add(weight.bytes.into());
        let stored_bytes = weights.iter().fold(0, sum);
        let entries: Vec<_> = weights
            .iter()
            .enumerate()
            .filter(|(i, weight)| weight.bytes > 0 && !has_bit(settled, *i))
            .filter_map(|(i, weight)| Some((u32::try_from(i).ok()?, *weight)))
            .collect();
        Self {
            span: weights.len(),
            unsettled: entries.len(),
            unsettled_bytes: entries.iter().fold(0, |n, (_, weight)| sum(n, weight)),
            stored_bytes,
            sound,
            due: None,
            entries,
        }
    }

    fn place(&self, offset: usize) -> Option<usize> {
        let wanted = u32::try_from(offset).ok()?;
        match self.entries.get(offset) {
            // Nothing was taken out before it.
            Some((there, _)) if *there == wanted => Some(offset),
            _ => self.entries.binary_search_by_key(&wanted, |(offset, _)| *offset).ok(),
        }
    }

    /// Settles an event; `None` if it was settled before.
    pub(super) fn settle(&mut self, offset: usize) -> Option<Weight> {
        let place = self.place(offset)?;
        let (_, weight) = self.entries.get_mut(place).filter(|(_, weight)| weight.bytes > 0)?;
        let settled = *weight;
        weight.bytes = 0;
        self.unsettled -= 1;
        self.unsettled_bytes = self.unsettled_bytes.saturating_sub(settled.bytes.into());
        if self.entries.len() >= FEW && self.unsettled * 4 <= self.entries.len() {
            self.entries.retain(|(_, weight)| weight.bytes > 0);
            self.entries.shrink_to_fit();
        }
        Some(settled)
    }

    /// Tells whether an event waits.
    pub(super) fn holds(&self, offset: usize) -> bool {
        let entry = self.place(offset).and_then(|place| self.entries.get(place));
        entry.is_some_and(|(_, weight)| weight.bytes > 0)
    }

    pub(super) fn span(&self) -> usize {
        self.span
    }

    /// Tells whether nothing of it waits.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled == 0
    }

    pub(super) fn unsettled_bytes(&self) -> u64 {
        self.unsettled_bytes
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Returns the bytes of settled events that the row keeps on the disk.
    pub(super) fn waste(&self) -> u64 {
        if self.is_settled() { 0 } else { self.stored_bytes.saturating_sub(self.unsettled_bytes) }
    }

    /// Tells whether writing it again would give at least as much room back as it takes.
    pub(super) fn is_wasteful(&self) -> bool {
        self.sound && !self.is_settled() && self.unsettled_bytes <= self.stored_bytes / 2
    }

    /// Notes that the row on disk was written again, with so many bytes of events.
    pub(super) fn rewritten(&mut self, stored_bytes: u64) {
        self.stored_bytes = stored_bytes;
    }

    /// Notes that the row on disk cannot be written again.
    pub(super) fn unsound(&mut self) {
        self.sound = false;
    }

    /// Returns the offsets of the events that wait.
    pub(super) fn offsets(&self) -> Vec<u32> {
        let waits = self.entries.iter().filter(|(_, weight)| weight.bytes > 0);
        waits.map(|(offset, _)| *offset).collect()
    }

    /// Returns the bitmap of what does not wait, by offset: it fits the row whether or not that
    /// was written again.
    pub(super) fn bitmap(&self) -> Vec<u8> {
        let mut bitmap = vec![0xFF; self.span.div_ceil(8)];
        for offset in self.offsets() {
            let byte = usize::try_from(offset / 8).ok().and_then(|place| bitmap.get_mut(place));
            if let Some(byte) = byte {
                *byte &= !(1 << (offset % 8));
            }
        }
        bitmap
    }

    /// Returns when the first event that waits was received.
    pub(super) fn oldest(&self) -> Option<i64> {
        let waits = |(_, weight): &&(u32, Weight)| weight.bytes > 0;
        self.entries.iter().find(waits).map(|(_, weight)| weight.received_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_few_events_left_keeps_an_entry_for_those_alone() {
        let weights = vec![Weight { bytes: 10, operations: 1, received_ms: 5 }; 1000];
        let mut held = Held::new(&weights, &[], true);
        for offset in (0..1000).filter(|offset| offset % 100 != 7) {
            assert!(held.settle(offset).is_some());
            assert!(held.settle(offset).is_none(), "an event ends once");
        }
        assert!(held.entries.capacity() <= 4 * 10, "{}", held.entries.capacity());
        assert_eq!((held.unsettled_bytes(), held.waste()), (100, 9900));
        assert!(held.holds(107) && !held.holds(108) && held.is_wasteful());
        let bitmap = held.bitmap();
        assert!((0..1000).all(|i| has_bit(&bitmap, i) != held.holds(i)));
        let again = Held::new(&weights, &bitmap, true);
        assert_eq!(again.offsets(), held.offsets());
        assert!(held.settle(107).is_some() && !held.holds(107));
    }
}
