//! A storage that can only be read, made to look writable: what is written stays in memory.
//!
//! redb writes when it opens a database, and repairs one that was not closed. Over a view it can do
//! so without touching the file: for `inspect` and `export`, and to go on reading while the disk
//! takes no writes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

const BLOCK: usize = 4096;

/// The view.
#[derive(Debug)]
pub(super) struct View {
    below: Box<dyn StorageBackend>,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// What lies below is seen up to here.
    seen: u64,
    blocks: HashMap<u64, Box<[u8; BLOCK]>>,
}

impl View {
    pub(super) fn new(below: Box<dyn StorageBackend>) -> io::Result<Self> {
        let len = below.len()?;
        let written = Written { len, seen: len, blocks: HashMap::new() };
        Ok(Self { below, written: Mutex::new(written) })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what lies below, and zeros behind its end.
    fn read_below(&self, seen: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(seen.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (below, beyond) = out.split_at_mut(there.min(out.len()));
        beyond.fill(0);
        if below.is_empty() { Ok(()) } else { self.below.read(offset, below) }
    }
}

/// Splits a range into its parts by block: block, start within it, and length.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let (mut at, end) = (offset, offset + len as u64);
    std::iter::from_fn(move || {
        let start = usize::try_from(at % BLOCK as u64).unwrap_or(0);
        let n = usize::try_from(end - at).unwrap_or(BLOCK).min(BLOCK - start);
        let part = (at / BLOCK as u64, start, n);
        at += n as u64;
        (n > 0).then_some(part)
    })
}

impl StorageBackend for View {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset + out.len() as u64 > written.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if written.blocks.is_empty() {
            return self.read_below(written.seen, offset, out);
        }
        for (block, start, n) in parts(offset, out.len()) {
            let (piece, rest) = out.split_at_mut(n);
            match written.blocks.get(&block).and_then(|bytes| bytes.get(start..start + n)) {
                Some(bytes) => piece.copy_from_slice(bytes),
                None => {
                    self.read_below(written.seen, block * BLOCK as u64 + start as u64, piece)?;
                }
            }
            out = rest;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written();
        written.len = len;
        written.seen = written.seen.min(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, mut data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        for (block, start, n) in parts(offset, data.len()) {
            let (piece, rest) = data.split_at(n);
            let seen = written.seen;
            let bytes = match written.blocks.entry(block) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(place) => {
                    let mut bytes = Box::new([0; BLOCK]);
                    self.read_below(seen, block * BLOCK as u64, &mut *bytes)?;
                    place.insert(bytes)
                }
            };
            if let Some(place) = bytes.get_mut(start..start + n) {
                place.copy_from_slice(piece);
            }
            data = rest;
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.below.close()
    }

    // A view changes nothing below, so it shares the file with other views, and with no writer.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.below.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.below.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.below.lock_shared_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.below.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.below.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.below.query_lock_range(start, end)
    }
}
