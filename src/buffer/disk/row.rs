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
//! A sparse row is one that was written again without its settled events. It covers as many
//! sequences as before:
//!
//! ```text
//! row     magic "RCR2" │ sequences that it covers u32 │ first of them u64 │ xxh3 of all else u64
//!         │ number of events u32 │ index │ records
//! index   per event: its sequence, from the first u32 │ the rest as above
//! ```
//!
//! Numbers are little-endian. Arbitrary bytes are an error, never a panic, and nothing is allocated
//! beyond the size of what is there.

mod record;
mod wire;

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::buffer::Stored;

const MAGIC: [u8; 4] = *b"RCR1";
const SPARSE: [u8; 4] = *b"RCR2";
const HEADER: usize = 24;
const ENTRY: usize = 20;
/// What a sparse row has in addition: the number of events, and the offset in each entry.
const NUMBER: usize = 4;
/// Sequences that a sparse row may cover: memory for them is taken though most are not there.
const SPAN: usize = 1 << 22;

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
    /// How many events a sparse row has.
    sparse: Option<usize>,
}

impl Row {
    /// Checks a row that is stored under `first`.
    pub(super) fn check(bytes: Bytes, first: u64) -> Result<Self, Damage> {
        let mut wire = wire::Wire::new(&bytes);
        let sparse = match wire.take(4)? {
            magic if *magic == MAGIC => false,
            magic if *magic == SPARSE => true,
            _ => return Err(Damage::Format),
        };
        let count = wire.u32()? as usize;
        if wire.u64()? != first || wire.u64()? != checksum(&bytes) {
            return Err(Damage::Checksum);
        }
        let sparse = if sparse { Some(wire.u32()? as usize) } else { None };
        if sparse.is_some() && count > SPAN {
            return Err(Damage::Shape);
        }
        let row = Self { count, first, sparse, bytes };
        let records = row.records().filter(|records| *records <= row.bytes.len());
        let records = row.bytes.len() - records.ok_or(Damage::Shape)?;
        let (mut before, mut behind) = (0, 0);
        for i in 0..row.len() {
            let (end, offset) = (row.end(i)?, row.offset(i)?);
            if end < before || offset < behind || row.weight(i)?.bytes == 0 {
                return Err(Damage::Shape);
            }
            (before, behind) = (end, offset + 1);
        }
        let shape = row.len() > 0 && before == records && behind <= count;
        if !shape || first.checked_add(count as u64).is_none() {
            return Err(Damage::Shape);
        }
        Ok(row)
    }

    /// Takes a row that is known to be damaged. Whatever it holds, decoding its events is safe.
    pub(super) fn unchecked(bytes: Bytes) -> Result<Self, Damage> {
        let mut wire = wire::Wire::new(&bytes);
        let sparse = match wire.take(4)? {
            magic if *magic == MAGIC => false,
            magic if *magic == SPARSE => true,
            _ => return Err(Damage::Format),
        };
        let (count, first) = (wire.u32()? as usize, wire.u64()?);
        wire.u64()?;
        let most = bytes.len().saturating_sub(HEADER) / ENTRY;
        let sparse = if sparse { Some((wire.u32()? as usize).min(most)) } else { None };
        let count = count.min(if sparse.is_some() { SPAN } else { most });
        Ok(Self { count, first, sparse, bytes })
    }

    /// Returns the offsets of the events that it has, from its first sequence.
    pub(super) fn offsets(&self) -> impl Iterator<Item = usize> {
        (0..self.len()).filter_map(|i| self.offset(i).ok())
    }

    /// Returns when the event with this offset was received, in Unix milliseconds.
    pub(super) fn received_ms(&self, offset: usize) -> Result<i64, Damage> {
        Ok(self.weight(self.place(offset)?)?.received_ms)
    }

    /// Takes a row that [`encode`] has just made.
    pub(super) fn fresh(bytes: Bytes, first: u64, count: usize) -> Self {
        Self { bytes, count, first, sparse: None }
    }

    /// Returns how many sequences it covers.
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

    /// Returns how many events it has.
    fn len(&self) -> usize {
        self.sparse.unwrap_or(self.count)
    }

    /// Returns where the index begins, and what comes before the rest of each entry.
    fn index(&self) -> (usize, usize) {
        if self.sparse.is_some() { (HEADER + NUMBER, NUMBER) } else { (HEADER, 0) }
    }

    /// Returns where the records begin.
    fn records(&self) -> Option<usize> {
        let (start, more) = self.index();
        (ENTRY + more).checked_mul(self.len())?.checked_add(start)
    }

    fn entry(&self, i: usize) -> Result<wire::Wire<'_>, Damage> {
        let (start, more) = self.index();
        let at = start + (ENTRY + more) * i + more;
        Ok(wire::Wire::new(self.bytes.get(at..at + ENTRY).ok_or(Damage::Shape)?))
    }

    /// Returns the sequence of the `i`th event, from the first of the row.
    fn offset(&self, i: usize) -> Result<usize, Damage> {
        if self.sparse.is_none() {
            return Ok(i);
        }
        let at = HEADER + NUMBER + (ENTRY + NUMBER) * i;
        let bytes = self.bytes.get(at..at + NUMBER).ok_or(Damage::Shape)?;
        Ok(wire::Wire::new(bytes).u32()? as usize)
    }

    /// Returns the place of the event with this offset.
    fn place(&self, offset: usize) -> Result<usize, Damage> {
        let (mut low, mut high) = (0, self.len());
        if self.sparse.is_none() {
            return if offset < high { Ok(offset) } else { Err(Damage::Shape) };
        }
        while low < high {
            let middle = low.midpoint(high);
            match self.offset(middle)?.cmp(&offset) {
                Ordering::Equal => return Ok(middle),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        Err(Damage::Shape)
    }

    fn end(&self, i: usize) -> Result<usize, Damage> {
        Ok(self.entry(i)?.u32()? as usize)
    }

    fn weight(&self, i: usize) -> Result<Weight, Damage> {
        let mut entry = self.entry(i)?;
        entry.u32()?;
        let (bytes, operations) = (entry.u32()?, entry.u32()?);
        Ok(Weight { bytes, operations, received_ms: entry.u64()?.cast_signed() })
    }

    /// Returns a weight per sequence. One whose event was taken out has 0 bytes and the time of the
    /// one before it.
    pub(super) fn weights(&self) -> Result<Vec<Weight>, Damage> {
        if self.sparse.is_none() {
            return (0..self.count).map(|i| self.weight(i)).collect();
        }
        let mut weights = Vec::with_capacity(self.count);
        let mut gap = Weight { bytes: 0, operations: 0, ..self.weight(0)? };
        for i in 0..self.len() {
            weights.resize(self.offset(i)?, gap);
            let weight = self.weight(i)?;
            weights.push(weight);
            gap.received_ms = weight.received_ms;
        }
        weights.resize(self.count, gap);
        Ok(weights)
    }

    fn record(&self, i: usize) -> Result<&[u8], Damage> {
        let records = self.records().ok_or(Damage::Shape)?;
        let start = if i == 0 { 0 } else { self.end(i - 1)? };
        self.bytes.get(records + start..records + self.end(i)?).ok_or(Damage::Shape)
    }

    /// Decodes one event, by its offset from the row's first. It gets bytes of its own: a slice
    /// would keep the whole row, megabytes, in memory for one event that is retried for hours.
    pub(super) fn event(&self, offset: usize, sources: &mut Sources) -> Result<Stored, Damage> {
        record::read(self.record(self.place(offset)?)?, sources)
    }

    /// Makes a sparse row of the events with these offsets, in ascending order.
    pub(super) fn keep(&self, offsets: &[u32]) -> Result<Vec<u8>, Damage> {
        if self.count > SPAN {
            return Err(Damage::Shape);
        }
        let short = |n: usize| u32::try_from(n).map_err(|_| Damage::Shape);
        let mut out = Vec::new();
        out.extend_from_slice(&SPARSE);
        out.extend_from_slice(&short(self.count)?.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&short(offsets.len())?.to_le_bytes());
        let mut records = Vec::new();
        for offset in offsets {
            let i = self.place(*offset as usize)?;
            records.extend_from_slice(self.record(i)?);
            let weight = self.weight(i)?;
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(&short(records.len())?.to_le_bytes());
            out.extend_from_slice(&weight.bytes.to_le_bytes());
            out.extend_from_slice(&weight.operations.to_le_bytes());
            out.extend_from_slice(&weight.received_ms.to_le_bytes());
        }
        out.extend_from_slice(&records);
        let sum = checksum(&out);
        out.get_mut(16..HEADER).ok_or(Damage::Shape)?.copy_from_slice(&sum.to_le_bytes());
        Ok(out)
    }
}

/// Guesses what each event of a damaged row weighs: as its index says if that makes sense, else
/// an equal share of the row's bytes.
pub(super) fn claimed_weights(row: &[u8], count: usize, received_ms: i64) -> Vec<Weight> {
    let mut sealed = row.to_vec();
    let first = row.get(8..16).and_then(|first| first.first_chunk());
    let sum = checksum(&sealed);
    if let Some(place) = sealed.get_mut(16..HEADER) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
    let sound = first.and_then(|first| Row::check(sealed.into(), u64::from_le_bytes(*first)).ok());
    let sound = sound.filter(|row| row.count() == count);
    if let Some(weights) = sound.and_then(|row| row.weights().ok())
        // An event weighs what its record takes, and a little for itself and each operation.
        && weights.iter().map(|weight| u64::from(weight.bytes)).sum::<u64>()
            <= 64 * (row.len() + 128 * count) as u64
    {
        return weights;
    }
    let share = row.len().saturating_sub(HEADER) / count.max(1);
    let bytes = u32::try_from(share).unwrap_or(u32::MAX).max(1);
    vec![Weight { bytes, operations: 0, received_ms }; count]
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
