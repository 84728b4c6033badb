//! `buffer export`: every event that waits, as a line of JSON.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Idle, Location, damaged};
use crate::buffer::{Sequence, Stored, disk};
use crate::cli::output::{self, Tone, count};
use crate::cli::{Globals, exit};
use crate::event::identity::IdInput;

/// Options of `buffer export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each line holds the event as it was received, and the operations that would be sent:
  {\"sequence\":7,\"received_at\":\"…\",\"source\":\"web\",\"event\":{…},\"id_input\":{…},\"operations\":[…]}

The lines hold personal data: a file is readable by its owner alone, and should be removed after use. \
Nothing is taken out of the buffer: what is exported is still delivered.")]
pub struct ExportArgs {
    #[command(flatten)]
    location: Location,

    /// Read this row, which was set aside, and not the buffer
    ///
    /// Gives every event of the row that can still be decoded, also those that were delivered before.
    /// One checksum covers them all, so each may be damaged in what it says.
    #[arg(long, value_name = "ROW", conflicts_with = "data_dir")]
    row: Option<PathBuf>,

    /// Write to this new file; `-` or nothing: standard output
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &ExportArgs, globals: &Globals) -> ExitCode {
    let from = match &args.row {
        Some(row) => From::Row(row),
        None => match args.location.idle(globals) {
            Ok(idle) => From::Buffer(idle),
            Err(code) => return code,
        },
    };
    let written = match args.file.as_deref().filter(|file| *file != Path::new("-")) {
        Some(file) => match create(file) {
            Ok(out) => from.write(out),
            Err(error) => Err(Failed::Write(error)),
        },
        None => from.write(io::stdout().lock()),
    };
    let bad = output::paint(Tone::Bad, "error:", globals.color);
    match written {
        Ok(Written { events, unreadable }) => {
            for what in &unreadable {
                output::say(format!("{bad} {what}"));
            }
            output::say(format!("{} exported", count(events, "event")));
            ExitCode::from(if unreadable.is_empty() { exit::SUCCESS } else { exit::FAILURE })
        }
        Err(Failed::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::from(exit::SUCCESS)
        }
        Err(Failed::Write(error)) => {
            let place = args.file.as_ref().map(|file| format!(" {}", file.display()));
            let place = place.unwrap_or_default();
            output::say(format!("{bad} cannot write{place}: {error}"));
            ExitCode::from(exit::FAILURE)
        }
        Err(Failed::Read(fault)) => {
            output::report(&[fault], globals.color);
            ExitCode::from(exit::FAILURE)
        }
    }
}

/// What is exported.
enum From<'a> {
    Buffer(Idle),
    Row(&'a Path),
}

/// What an export came to.
struct Written {
    events: usize,
    /// What was passed over, and why.
    unreadable: Vec<String>,
}

impl From<'_> {
    fn write(&self, out: impl Write) -> Result<Written, Failed> {
        match self {
            Self::Buffer(idle) => export(idle, out),
            Self::Row(row) => salvage(row, out),
        }
    }
}

/// Which side of an export failed.
enum Failed {
    Read(crate::diagnostic::Diagnostic),
    Write(io::Error),
}

fn create(file: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)
}

/// Writes every event of a buffer.
fn export(idle: &Idle, out: impl Write) -> Result<Written, Failed> {
    let (mut out, mut events, mut failed) = (BufWriter::new(out), 0, None);
    let read = disk::export(&idle.dir, |sequence, stored| {
        let written = write_line(&mut out, sequence, &stored);
        match &written {
            Ok(()) => events += 1,
            Err(error) => failed = Some(io::Error::new(error.kind(), error.to_string())),
        }
        written
    });
    if let Some(error) = failed {
        return Err(Failed::Write(error));
    }
    // What was read before a failure is worth having.
    out.flush().map_err(Failed::Write)?;
    let exported = read.map_err(Failed::Read)?;
    let unreadable = exported.damaged.iter().map(damaged).collect();
    Ok(Written { events, unreadable })
}

/// Writes what can be read of a row that was set aside.
fn salvage(row: &Path, out: impl Write) -> Result<Written, Failed> {
    let mut out = BufWriter::new(out);
    let mut written = Written { events: 0, unreadable: Vec::new() };
    for (sequence, event) in disk::salvage(row).map_err(Failed::Read)? {
        let mut line = Vec::new();
        let event = event.and_then(|stored| {
            write_line(&mut line, sequence, &stored).map_err(|_| "it is no JSON".to_owned())
        });
        match event {
            Ok(()) => {
                out.write_all(&line).map_err(Failed::Write)?;
                written.events += 1;
            }
            Err(why) => written.unreadable.push(format!("event {}: {why}", sequence.0)),
        }
    }
    out.flush().map_err(Failed::Write)?;
    Ok(written)
}

/// One event, with the members of a dead letter that it has already.
#[derive(Serialize)]
struct Line<'a> {
    sequence: u64,
    received_at: String,
    source: &'a str,
    event: &'a RawValue,
    id_input: &'a IdInput,
    operations: Vec<&'a RawValue>,
}

fn write_line(out: &mut impl Write, sequence: Sequence, stored: &Stored) -> io::Result<()> {
    let event = stored.original.to_json();
    let operations = stored.operations.iter().map(|operation| raw(&operation.body));
    let line = Line {
        sequence: sequence.0,
        received_at: stored.received_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        source: &stored.source,
        event: raw(&event)?,
        id_input: &stored.id_input,
        operations: operations.collect::<Result<_, _>>()?,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// JSON that is copied as it stands; what is stored holds no line feed.
fn raw(json: &[u8]) -> io::Result<&RawValue> {
    Ok(serde_json::from_slice(json)?)
}

#[cfg(test)]
mod tests {
    use crate::event::Original;
    use crate::operation::{ConflictKeys, Effect, Operation, Operations};

    use super::*;

    #[test]
    fn a_line_holds_the_event_and_what_would_be_sent() {
        let body = bytes::Bytes::from_static(br#"{"type":"person"}"#);
        let operation = Operation { keys: ConflictKeys::default(), effect: Effect::Ordinary, body };
        let raw = bytes::Bytes::from_static(b"{\"userId\":\n\"u\"}");
        let stored = Stored {
            operations: Operations::from_iter([operation]),
            original: Original { raw, assigned: Default::default() },
            id_input: IdInput { message_id: "m".into(), ..IdInput::default() },
            received_at: chrono::DateTime::UNIX_EPOCH,
            source: "web".into(),
            letter: None,
        };
        let mut out = Vec::new();
        write_line(&mut out, Sequence(7), &stored).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["sequence"], &line["source"]), (&7.into(), &"web".into()));
        assert_eq!(line["event"]["userId"], "u");
        assert_eq!(line["operations"][0]["type"], "person");
        assert_eq!(line["id_input"]["message_id"], "m");
        assert_eq!(line["received_at"], "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_file_that_exists_is_not_written_over() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.ndjson");
        let mode = create(&path).unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
