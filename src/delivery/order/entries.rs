//! The operations by slot, in blocks of fixed size.
//!
//! A million operations may wait. One list of them would be copied each time when it has to grow,
//! and the lists that it has outgrown would stay with the allocator for a while: as much memory
//! again as the operations take.

use super::Slot;

/// Places of a block.
const BLOCK: usize = 1 << 12;

/// A list whose elements never move; a place is empty when its operation has ended.
#[derive(Debug)]
pub struct Entries<E> {
    blocks: Vec<Vec<Option<E>>>,
}

impl<E> Default for Entries<E> {
    fn default() -> Self {
        Self { blocks: Vec::new() }
    }
}

impl<E> Entries<E> {
    /// Returns how many places there are.
    pub fn len(&self) -> usize {
        let last = self.blocks.last().map_or(0, Vec::len);
        self.blocks.len().saturating_sub(1) * BLOCK + last
    }

    pub fn get(&self, slot: Slot) -> Option<&E> {
        let slot = slot as usize;
        self.blocks.get(slot / BLOCK)?.get(slot % BLOCK)?.as_ref()
    }

    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut E> {
        self.place(slot)?.as_mut()
    }

    /// Empties a place.
    pub fn take(&mut self, slot: Slot) -> Option<E> {
        self.place(slot)?.take()
    }

    /// Fills a place that is there.
    pub fn put(&mut self, slot: Slot, entry: E) {
        if let Some(place) = self.place(slot) {
            *place = Some(entry);
        }
    }

    /// Adds an empty place.
    pub fn grow(&mut self) -> Slot {
        let slot = self.len();
        match self.blocks.last_mut() {
            Some(last) if last.len() < BLOCK => last.push(None),
            _ => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(None);
                self.blocks.push(block);
            }
        }
        slot as Slot
    }

    fn place(&mut self, slot: Slot) -> Option<&mut Option<E>> {
        let slot = slot as usize;
        self.blocks.get_mut(slot / BLOCK)?.get_mut(slot % BLOCK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_a_place_is_found_there_and_has_not_moved_when_others_come() {
        let mut entries = Entries::default();
        let first = entries.grow();
        entries.put(first, 0);
        let address = std::ptr::from_ref(entries.get(first).unwrap());
        for n in 1..3 * BLOCK {
            let slot = entries.grow();
            assert_eq!((slot as usize, entries.len()), (n, n + 1));
            assert!(entries.get(slot).is_none());
            entries.put(slot, n);
        }
        assert_eq!(std::ptr::from_ref(entries.get(first).unwrap()), address);
        assert!((0..3 * BLOCK).all(|n| entries.get(n as Slot) == Some(&n)));
        assert_eq!(entries.take(BLOCK as Slot), Some(BLOCK));
        assert_eq!((entries.get(BLOCK as Slot), entries.len()), (None, 3 * BLOCK));
        assert_eq!(entries.get(3 * BLOCK as Slot), None);
        assert_eq!(entries.get_mut(super::super::NONE), None);
    }
}
