//! The tables of the database, and how a row and the totals are read from them.

use bytes::Bytes;
use redb::{Database, ReadTransaction, TableDefinition};

use super::bitmap::has_bit;
use super::failure::Failure;
use super::meta::{FORMAT, Meta};
use super::row::{Damage, Row, Weight};

/// First sequence of a row to the row.
pub(super) const ROWS: TableDefinition<u64, &[u8]> = TableDefinition::new("rows");
/// First sequence of a row to the bitmap of its settled events.
pub(super) const SETTLED: TableDefinition<u64, &[u8]> = TableDefinition::new("settled");
/// Dead letters that were replayed.
pub(super) const REPLAYED: TableDefinition<u128, ()> = TableDefinition::new("replayed");
/// `format` and `totals`.
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// A row as it stands in the store, with what is settled of it.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) first: u64,
    pub(super) bytes: Bytes,
    pub(super) settled: Vec<u8>,
}

/// A row that is sound, with what is settled of it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) row: Row,
    pub(super) weights: Vec<Weight>,
    pub(super) settled: Vec<u8>,
}

impl Raw {
    /// Checks the row.
    pub(super) fn check(&self) -> Result<Found, Damage> {
        let row = Row::check(self.bytes.clone(), self.first)?;
        Ok(Found { weights: row.weights()?, row, settled: self.settled.clone() })
    }
}

impl Found {
    /// Returns when the first event that waits was received.
    pub(super) fn oldest(&self) -> Option<i64> {
        let waits = |(i, _): &(usize, &Weight)| !has_bit(&self.settled, *i);
        self.weights.iter().enumerate().find(waits).map(|(_, weight)| weight.received_ms)
    }
}

/// Returns the first row at or behind `from`.
pub(super) fn row_from(read: &ReadTransaction, from: u64) -> Result<Option<Raw>, Failure> {
    let rows = read.open_table(ROWS)?;
    let mut range = rows.range(from..)?;
    let Some(entry) = range.next() else { return Ok(None) };
    let (first, bytes) = entry?;
    let first = first.value();
    let bytes = Bytes::copy_from_slice(bytes.value());
    let settled = read.open_table(SETTLED)?;
    let settled = settled.get(first)?.map_or_else(Vec::new, |bitmap| bitmap.value().to_vec());
    Ok(Some(Raw { first, bytes, settled }))
}

/// Returns the first sequence of the row behind `first`.
pub(super) fn row_behind(read: &ReadTransaction, first: u64) -> Result<Option<u64>, Failure> {
    match read.open_table(ROWS)?.range(first.saturating_add(1)..)?.next() {
        Some(entry) => Ok(Some(entry?.0.value())),
        None => Ok(None),
    }
}

/// Reads the totals; `None` of a database without tables.
pub(super) fn read_meta(read: &ReadTransaction) -> Result<Option<Meta>, Failure> {
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => {
            return match read.list_tables()?.next() {
                None => Ok(None),
                Some(_) => Err(Failure::Corrupt("its tables are not ours".to_owned())),
            };
        }
        Err(error) => return Err(error.into()),
    };
    let damaged = || Failure::Corrupt("its totals cannot be read".to_owned());
    let format = meta.get("format")?.ok_or_else(damaged)?;
    let format = format.value().try_into().map(u32::from_le_bytes).map_err(|_| damaged())?;
    if format > FORMAT {
        return Err(Failure::Newer(format));
    }
    let totals = meta.get("totals")?.ok_or_else(damaged)?;
    Meta::from_bytes(totals.value()).ok_or_else(damaged).map(Some)
}

/// Writes the tables of an empty buffer.
pub(super) fn initialise(database: &Database) -> Result<Meta, Failure> {
    let meta = Meta::default();
    let mut write = database.begin_write()?;
    write.set_quick_repair(true);
    {
        write.open_table(ROWS)?;
        write.open_table(SETTLED)?;
        write.open_table(REPLAYED)?;
        let mut table = write.open_table(META)?;
        table.insert("format", &FORMAT.to_le_bytes()[..])?;
        table.insert("totals", &*meta.to_bytes())?;
    }
    write.commit()?;
    Ok(meta)
}
