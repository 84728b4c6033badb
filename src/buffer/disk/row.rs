//! The events of one commit as one value: encoding and decoding.
//!
//! The format is frozen; a change needs a new magic number and a reader for both.
//!
//! ```text
//! row     magic "RCR1" │ count u32 │ first sequence u64 │ xxh3 of all else u64 │ index │ records
//! index   per event: end of its record, from the first record's start u32 │ bytes by which it
//!         counts u32 │ operations u32 │ received, Unix ms i64
//! record  see `record`
//! ```
//!
//! Numbers are little-endian. Arbitrary bytes are an error, never a panic, and nothing is allocated
//! beyond the size of what is there.

mod record;
mod wire;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::buffer::Stored;

const MAGIC: [u8; 4] = *b"RCR1";
const HEADER: usize = 24;
const ENTRY: usize = 20;

/// Why bytes are no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// It does not begin like a row of this format.
    Format,
    /// The checksum, or the sequence that it names, does not fit.
    Checksum,
    /// It ends too early, or places in it contradict each other.
    Shape,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Format => "it is not in the format of this version",
            Self::Checksum => "its checksum does not match",
            Self::Shape => "its parts contradict each other",
        })
    }
}

/// What the index says of one event: all that is needed to settle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    /// [`Stored::bytes`]; never 0.
    pub(super) bytes: u32,
    /// How many operations it has.
    pub(super) operations: u32,
    /// When it was received, in Unix milliseconds.
    pub(super) received_ms: i64,
}

impl Weight {
    /// Weighs an event.
    pub(super) fn of(event: &Stored) -> Self {
        Self {
            bytes: u32::try_from(event.bytes()).unwrap_or(u32::MAX),
            operations: u32::try_from(event.operations.len()).unwrap_or(u32::MAX),
            received_ms: event.received_at.timestamp_millis(),
        }
    }
}

/// Encodes events whose first has the sequence `first`; `None` if they need 4 GiB or more.
pub(super) fn encode<'a>(
    first: u64,
    events: impl ExactSizeIterator<Item = &'a Stored> + Clone,
) -> Option<Vec<u8>> {
    let count = events.len();
    let records = HEADER + ENTRY * count;
    let room: u64 = events.clone().map(|event| event.bytes() + 192).sum();
    let mut out = Vec::with_capacity(records + usize::try_from(room).ok()?);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&u32::try_from(count).ok()?.to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    out.resize(records, 0);
    for (i, event) in events.enumerate() {
        record::write(&mut out, event);
        let end = u32::try_from(out.len() - records).ok()?;
        let weight = Weight::of(event);
        let entry = out.get_mut(HEADER + ENTRY * i..HEADER + ENTRY * (i + 1))?;
        entry[..4].copy_from_slice(&end.to_le_bytes());
        entry[4..8].copy_from_slice(&weight.bytes.to_le_bytes());
        entry[8..12].copy_from_slice(&weight.operations.to_le_bytes());
        entry[12..].copy_from_slice(&weight.received_ms.to_le_bytes());
    }
    let sum = checksum(&out);
    out.get_mut(16..HEADER)?.copy_from_slice(&sum.to_le_bytes());
    Some(out)
}

/// Hashes everything but the checksum itself.
fn checksum(row: &[u8]) -> u64 {
    let head = xxh3_64_with_seed(row.get(..16).unwrap_or_default(), 0);
    xxh3_64_with_seed(row.get(HEADER..).unwrap_or_default(), head)
}

/// Returns how many events a row claims to have, however damaged it is.
pub(super) fn claimed_count(row: &[u8]) -> Option<u64> {
    let count = row.get(4..8)?.first_chunk()?;
    Some(u64::from(u32::from_le_bytes(*count)))
}

/// A row that was checked as a whole; its events are decoded one by one.
#[derive(Clone, Debug)]
pub(super) struct Row {
    bytes: Bytes,
    count: usize,
    first: u64,
}

impl Row {
    /// Checks a row that is stored under `first`.
    pub(super) fn check(bytes: Bytes, first: u64) -> Result<Self, Damage> {
        let mut wire = wire::Wire::new(&bytes);
        if wire.take(4)? != MAGIC {
            return Err(Damage::Format);
        }
        let count = wire.u32()? as usize;
        if wire.u64()? != first || wire.u64()? != checksum(&bytes) {
            return Err(Damage::Checksum);
        }
        let row = Self { count, first, bytes };
        let index = ENTRY.checked_mul(count).ok_or(Damage::Shape)?;
        let records = row.bytes.len().checked_sub(HEADER + index).ok_or(Damage::Shape)?;
        let mut before = 0;
        for i in 0..count {
            let end = row.end(i)?;
            if end < before || row.weight(i)?.bytes == 0 {
                return Err(Damage::Shape);
            }
            before = end;
        }
        if count == 0 || before != records || first.checked_add(count as u64).is_none() {
            return Err(Damage::Shape);
        }
        Ok(row)
    }

    /// Takes a row that is known to be damaged. Whatever it holds, decoding its events is safe.
    pub(super) fn unchecked(bytes: Bytes) -> Result<Self, Damage> {
        let mut wire = wire::Wire::new(&bytes);
        if wire.take(4)? != MAGIC {
            return Err(Damage::Format);
        }
        let (count, first) = (wire.u32()? as usize, wire.u64()?);
        let most = bytes.len().saturating_sub(HEADER) / ENTRY;
        Ok(Self { count: count.min(most), first, bytes })
    }

    /// Takes a row that [`encode`] has just made.
    pub(super) fn fresh(bytes: Bytes, first: u64, count: usize) -> Self {
        Self { bytes, count, first }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the row as it is stored.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    fn entry(&self, i: usize) -> Result<wire::Wire<'_>, Damage> {
        let at = HEADER + ENTRY * i;
        Ok(wire::Wire::new(self.bytes.get(at..at + ENTRY).ok_or(Damage::Shape)?))
    }

    fn end(&self, i: usize) -> Result<usize, Damage> {
        Ok(self.entry(i)?.u32()? as usize)
    }

    pub(super) fn weight(&self, i: usize) -> Result<Weight, Damage> {
        let mut entry = self.entry(i)?;
        entry.u32()?;
        let (bytes, operations) = (entry.u32()?, entry.u32()?);
        Ok(Weight { bytes, operations, received_ms: entry.u64()?.cast_signed() })
    }

    pub(super) fn weights(&self) -> Result<Vec<Weight>, Damage> {
        (0..self.count).map(|i| self.weight(i)).collect()
    }

    /// Decodes one event. It gets bytes of its own: a slice would keep the whole row, megabytes,
    /// in memory for one event that is retried for hours.
    pub(super) fn event(&self, i: usize, sources: &mut Sources) -> Result<Stored, Damage> {
        let records = HEADER + ENTRY * self.count;
        let start = if i == 0 { 0 } else { self.end(i - 1)? };
        let range = records + start..records + self.end(i)?;
        record::read(self.bytes.get(range).ok_or(Damage::Shape)?, sources)
    }
}

/// Labels of sources, shared by the events that carry them.
#[derive(Debug, Default)]
pub(super) struct Sources(Vec<Arc<str>>);

impl Sources {
    /// Few sources exist; labels beyond this number are not shared.
    const KEPT: usize = 64;

    fn label(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.iter().find(|known| ***known == *text) {
            return Arc::clone(known);
        }
        let label: Arc<str> = Arc::from(text);
        if self.0.len() < Self::KEPT {
            self.0.push(Arc::clone(&label));
        }
        label
    }
}

#[cfg(test)]
mod tests;
