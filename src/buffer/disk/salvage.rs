//! What is left of a damaged row: where it stands, and which of its events can still be decoded.

use std::fs;
use std::path::Path;

use redb::ReadTransaction;

use super::bitmap::has_bit;
use super::damage::count;
use super::failure::Failure;
use super::place;
use super::row::{Damage, Row, Sources};
use super::tables::{Raw, row_behind};
use crate::buffer::{Sequence, Stored};
use crate::diagnostic::Diagnostic;

/// A row that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedRow {
    /// Its first event, by which it is named.
    pub first: Sequence,
    /// Its last event, as far as that can be told.
    pub last: Sequence,
    /// How many of these wait.
    pub events: u64,
    /// What is wrong with it.
    pub why: String,
}

impl DamagedRow {
    /// Describes a row; `next` is the sequence behind the last row of all.
    pub(super) fn of(
        raw: &Raw,
        damage: Damage,
        read: &ReadTransaction,
        next: u64,
    ) -> Result<Self, Failure> {
        let behind = row_behind(read, raw.first)?.unwrap_or(next);
        let count = count(raw, behind);
        let waits = (0..usize::try_from(count).unwrap_or(0)).filter(|i| !has_bit(&raw.settled, *i));
        Ok(Self {
            first: Sequence(raw.first),
            last: Sequence(raw.first + count.saturating_sub(1)),
            events: waits.count() as u64,
            why: damage.to_string(),
        })
    }
}

/// An event of a damaged row with its place, or what is wrong with it.
pub type Salvaged = (Sequence, Result<Stored, String>);

/// Reads a row that was set aside: each of its events with its place, or what is wrong with it.
///
/// A row has one checksum for all its events: what decodes may be damaged all the same.
///
/// # Errors
///
/// A diagnostic when the file cannot be read or never was a row.
pub fn salvage(file: &Path) -> Result<Vec<Salvaged>, Diagnostic> {
    let refused = |message: String| {
        let help = "name a file `row-*.damaged-*` of the folder of the buffer";
        Diagnostic::error("buffer", message).at(place(file)).help(help)
    };
    let bytes = fs::read(file)
        .map_err(|error| refused(format!("the row that was set aside cannot be read: {error}")))?;
    let row = Row::unchecked(bytes.into())
        .map_err(|damage| refused(format!("there is nothing to be read in this file: {damage}")))?;
    let mut sources = Sources::default();
    let event = |i| {
        let sequence = Sequence(row.first().saturating_add(i as u64));
        (sequence, row.event(i, &mut sources).map_err(|damage| damage.to_string()))
    };
    Ok(row.offsets().map(event).collect())
}
