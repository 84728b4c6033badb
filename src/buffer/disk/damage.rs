//! What happens to a database or a row that cannot be read: stop, or set aside.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chrono::Utc;

use super::bitmap::has_bit;
use super::failure::Failure;
use super::row::{Damage, Row, claimed_count};
use super::shared::Shared;
use super::tables::Raw;
use crate::config::OnCorruption;
use crate::fsync;

/// What the operator is told to do about a database that cannot be opened.
pub(super) const REMEDY: &str = "restore the file from a copy, or move it away to start empty; with \
     `buffer.on_corruption: set_aside` that is done by itself, and what cannot be read is kept \
     beside it under a dated name";

/// What the operator is told to do about a row.
pub(super) const REMEDY_OF_A_ROW: &str = "stop and take what else waits with `rudder-customerio \
     buffer export`, or restart with `buffer.on_corruption: set_aside`: the events of the row are then \
     rejected, and what is behind them is delivered";

/// Renames the database to a dated name beside it.
pub(super) fn set_aside(file: &Path, why: &str) -> io::Result<()> {
    let aside = dated(file);
    std::fs::rename(file, &aside)?;
    fsync::folder_of(file)?;
    tracing::error!(
        file = %file.display(),
        aside = %aside.display(),
        error = why,
        "The buffer is damaged; it was set aside with everything in it, and an empty one begins.",
    );
    Ok(())
}

fn dated(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{name}.damaged-{}", Utc::now().format("%Y%m%dT%H%M%S%.3fZ")))
}

/// Writes the bytes of a row to a file beside the database.
fn keep_row(file: &Path, first: u64, row: &[u8]) -> io::Result<PathBuf> {
    let aside = dated(&file.with_file_name(format!("row-{first}")));
    let mut out =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    out.write_all(row)?;
    out.sync_all()?;
    fsync::folder_of(&aside)?;
    Ok(aside)
}

impl Shared {
    /// Deals with a row of `count` events that cannot be read: keeps its bytes in a file of their
    /// own, or stops reading and appending until the operator has decided.
    pub(super) fn damaged(&self, raw: &Raw, count: usize, damage: Damage) -> Result<(), Failure> {
        let (file, first) = (&self.store.file, raw.first);
        if self.on_corruption == OnCorruption::Stop {
            let failure = Failure::Corrupt(format!("row {first}: {damage}"));
            self.stop(&failure, REMEDY_OF_A_ROW);
            return Err(failure);
        }
        let aside = keep_row(file, first, &raw.bytes).map_err(|error| {
            Failure::Io(format!("row {first} is damaged and cannot be set aside: {error}"))
        })?;
        let events = (0..count).filter(|i| !has_bit(&raw.settled, *i)).count();
        tracing::error!(
            file = %file.display(),
            aside = %aside.display(),
            row = first,
            events,
            error = %damage,
            "A row of the buffer is damaged and was set aside; its events are rejected without dead \
             letters. `buffer export --row` gives what can still be read of them.",
        );
        Ok(())
    }

    /// Stops reading and appending, since the database cannot be read any further.
    pub(super) fn stop_for_damage(&self, failure: &Failure) {
        self.stop(failure, REMEDY);
    }

    /// Stops reading and appending until the process starts again.
    fn stop(&self, failure: &Failure, remedy: &str) {
        let file = self.store.file.display();
        let text = format!("{file}: {failure}; {remedy}");
        if self.state().damage.replace(text).is_none() {
            tracing::error!(
                %file,
                error = %failure,
                help = remedy,
                "The buffer is damaged; reading stops there, and new events are refused.",
            );
        }
        self.room.notify_one();
        // A reader may have to be told that there is nothing more.
        self.news.notify_one();
    }
}

/// Returns how many events a damaged row has: as many as it says, if there is room for them before
/// the row `behind`.
pub(super) fn count(raw: &Raw, behind: u64) -> u64 {
    let most = behind.saturating_sub(raw.first);
    claimed_count(&raw.bytes).filter(|count| (1..=most).contains(count)).unwrap_or(most)
}

/// Returns when the first event that waits was received, if a damaged row still says that.
pub(super) fn oldest(raw: &Raw) -> Option<i64> {
    let row = Row::unchecked(raw.bytes.clone()).ok()?;
    let first = row.offsets().find(|offset| !has_bit(&raw.settled, *offset))?;
    let received_ms = row.received_ms(first).ok()?;
    (0..=Utc::now().timestamp_millis()).contains(&received_ms).then_some(received_ms)
}
