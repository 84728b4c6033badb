//! Events again that were read before.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::failure::Failure;
use super::row::{Row, Sources};
use super::shared::Shared;
use crate::buffer::{Sequence, Stored};
use crate::outcome::Outcome;

/// Decodes events that wait, row by row, and returns them in the order asked for.
pub(super) fn fetch(shared: &Shared, events: &[Sequence]) -> Result<Vec<Arc<Stored>>, String> {
    let mut by_row: BTreeMap<u64, Vec<(usize, usize)>> = BTreeMap::new();
    {
        let state = shared.state();
        for (place, sequence) in events.iter().enumerate() {
            let found = state.find(sequence.0);
            let (first, i) =
                found.ok_or_else(|| format!("the buffer does not hold event {}", sequence.0))?;
            by_row.entry(first).or_default().push((place, i));
        }
    }
    let mut sources = Sources::default();
    let mut fetched: Vec<(usize, Arc<Stored>)> = Vec::with_capacity(events.len());
    for (first, wanted) in by_row {
        let row = load(shared, first).map_err(|failure| failure.to_string())?;
        for (place, i) in wanted {
            let event = row.event(i, &mut sources).map_err(|damage| damage.to_string())?;
            fetched.push((place, Arc::new(event)));
        }
    }
    fetched.sort_unstable_by_key(|(place, _)| *place);
    Ok(fetched.into_iter().map(|(_, event)| event).collect())
}

fn load(shared: &Shared, first: u64) -> Result<Row, Failure> {
    if let Some(row) = shared.kept_row(first) {
        return Ok(row);
    }
    let row = stored(shared, first)?;
    shared.keep(row.clone());
    Ok(row)
}

/// Reads a row from the store.
pub(super) fn stored(shared: &Shared, first: u64) -> Result<Row, Failure> {
    let raw = shared.store.row_of(first)?.filter(|raw| raw.first == first);
    let raw = raw.ok_or_else(|| Failure::Io(format!("row {first} is not there")))?;
    Ok(Row::check(raw.bytes, first)?)
}

/// Loads the rows of events that are settled without having been read. Delivery never does that;
/// so it may cost the caller a wait for the disk.
pub(super) fn load_unread(shared: &Shared, events: &[(Sequence, Outcome)], from: u64) {
    for (sequence, _) in events {
        if sequence.0 < from || !shared.state().is_unread(sequence.0) {
            continue;
        }
        let found = shared.store.row_of(sequence.0);
        match found.and_then(|raw| Ok(raw.map(|raw| raw.check()).transpose()?)) {
            Ok(Some(found)) => {
                let first = found.row.first();
                shared.state().hold(first, &found.weights, &found.settled, true);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "An event that was not read cannot be settled."),
        }
    }
}
