//! `buffer inspect`: how much waits, and the account of all lives.

use std::path::Path;
use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::{Location, damaged};
use crate::admin::status::Account;
use crate::buffer::disk::{self, DamagedRow, Inspection};
use crate::cli::output::{self, count};
use crate::cli::{Globals, exit};

/// Options of `buffer inspect`.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    #[command(flatten)]
    location: Location,

    /// Read every row, and name those that are damaged
    ///
    /// Without it, only the first and the last row are looked at.
    #[arg(long)]
    verify: bool,

    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &InspectArgs, globals: &Globals) -> ExitCode {
    let idle = match args.location.idle(globals) {
        Ok(idle) => idle,
        Err(code) => return code,
    };
    let look = if args.verify { disk::verify } else { disk::inspect };
    match look(&idle.dir) {
        Ok(found) => {
            let printed = if args.json {
                output::print(&format!("{:#}\n", in_json(&found)))
            } else {
                output::print(&in_words(&idle.dir, &found))
            };
            if found.damaged.is_empty() { printed } else { ExitCode::from(exit::FAILURE) }
        }
        Err(fault) => {
            output::report(&[fault], globals.color);
            ExitCode::from(exit::FAILURE)
        }
    }
}

fn in_json(found: &Inspection) -> Value {
    json!({
        "format": found.format,
        "events": found.events,
        "operations": found.operations,
        "bytes": found.bytes,
        "oldest": found.oldest.map(instant),
        "newest": found.newest.map(instant),
        "rows": found.rows,
        "file_bytes": found.file_bytes,
        "next_sequence": found.next.0,
        "all_lives": Account::from(&found.ledger),
        "verified": found.verified,
        "damaged": found.damaged.iter().map(damaged_in_json).collect::<Vec<_>>(),
    })
}

fn in_words(dir: &Path, found: &Inspection) -> String {
    let number = |n: u64, noun: &str| count(usize::try_from(n).unwrap_or(usize::MAX), noun);
    let mut text = format!(
        "{}: format {}, {} on disk, {}\n",
        dir.display(),
        found.format,
        size(found.file_bytes),
        number(found.rows, "row"),
    );
    text.push_str(&format!(
        "waiting    {}, {}, {}\n",
        number(found.events, "event"),
        number(found.operations, "operation"),
        size(found.bytes),
    ));
    if let (Some(oldest), Some(newest)) = (found.oldest, found.newest) {
        let (oldest, newest) = (instant(oldest), instant(newest));
        text.push_str(&format!("received   from {oldest} to {newest}\n"));
    }
    text.push_str(&format!("all lives  {}\n", output::account(&found.ledger)));
    text.push_str(&format!("next       sequence {}\n", found.next.0));
    for row in &found.damaged {
        text.push_str(&format!("damaged    {}\n", damaged(row)));
    }
    match (found.verified, found.damaged.is_empty()) {
        (true, true) => text.push_str("damaged    nothing\n"),
        (false, false) => text.push_str("           `--verify` reads every row\n"),
        _ => {}
    }
    text
}

fn damaged_in_json(row: &DamagedRow) -> Value {
    json!({
        "first_sequence": row.first.0,
        "last_sequence": row.last.0,
        "events": row.events,
        "error": row.why,
    })
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Writes a size for people: in the largest unit of which there is at least one.
fn size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use crate::buffer::Sequence;
    use crate::buffer::disk::{DiskBuffer, DiskOptions};
    use crate::config::{OnCorruption, WhenFull};
    use crate::outcome::{Ledger, Outcome, Tally};

    use super::*;

    /// Looks into a new buffer, and pretends that it holds something.
    fn found() -> Inspection {
        let dir = tempfile::tempdir().unwrap();
        let options = DiskOptions {
            dir: dir.path().to_owned(),
            max_size: 1 << 20,
            when_full: WhenFull::Wait,
            on_corruption: OnCorruption::Stop,
        };
        drop(DiskBuffer::open(options).unwrap());
        let mut found = disk::inspect(dir.path()).unwrap();
        assert_eq!((found.events, found.oldest), (0, None));
        let ledger = Ledger::default();
        let mut tally = Tally::default();
        tally.end(&Outcome::Delivered);
        tally.buffer();
        ledger.enter(&tally);
        (found.events, found.operations, found.bytes) = (1, 2, 1300);
        (found.oldest, found.newest) =
            (DateTime::from_timestamp(0, 0), DateTime::from_timestamp(60, 0));
        (found.rows, found.file_bytes) = (1, 5 << 20);
        (found.ledger, found.next) = (ledger.snapshot(), Sequence(2));
        found
    }

    #[test]
    fn what_waits_is_told_in_words() {
        insta::assert_snapshot!(in_words(Path::new("data/buffer"), &found()), @r"
        data/buffer: format 1, 5.0 MiB on disk, 1 row
        waiting    1 event, 2 operations, 1.2 KiB
        received   from 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z
        all lives  received 2, delivered 1, buffered 1
        next       sequence 2
        ");
        let mut empty = found();
        empty.oldest = None;
        assert!(!in_words(Path::new("x"), &empty).contains("received   "));
    }

    #[test]
    fn what_waits_is_told_in_json() {
        let json = in_json(&found());
        assert_eq!((&json["events"], &json["operations"]), (&json!(1), &json!(2)));
        assert_eq!(json["all_lives"]["gap"], 0);
        assert_eq!(json["oldest"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!([size(0), size(1023), size(1024)], ["0 bytes", "1023 bytes", "1.0 KiB"]);
        assert_eq!([size(1 << 30), size(u64::MAX)], ["1.0 GiB", "16777215.9 TiB"]);
    }
}
