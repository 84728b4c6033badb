//! `buffer`: what waits in the buffer on disk, while nothing runs.

mod export;
mod inspect;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::buffer::disk::DamagedRow;
use crate::data_dir::{DataDir, Holder};
use crate::sink::BUFFER_DIR;

use super::output::{self, Tone};
use super::{Globals, exit};

/// Options of `buffer`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Both commands read the buffer of a process that does not run. What a running one holds stands in the \
`buffer` and `all_lives` of its /status.

Examples:
  rudder-customerio buffer inspect
  rudder-customerio buffer export --data-dir /var/lib/rudder-customerio waiting.ndjson

Ends with 0 if the buffer was read, 1 if it or a part of it was not.")]
pub struct BufferArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show how much waits, since when, and the account of all lives
    Inspect(inspect::InspectArgs),
    /// Write every event that waits as a line of JSON
    Export(export::ExportArgs),
}

/// Where the buffer is.
#[derive(Debug, clap::Args)]
struct Location {
    /// Read the buffer in this data directory [default: `data_dir` of the configuration]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: BufferArgs, globals: &Globals) -> ExitCode {
    match args.command {
        Command::Inspect(args) => inspect::run(&args, globals),
        Command::Export(args) => export::run(&args, globals),
    }
}

/// A buffer that no process works with while this exists.
struct Idle {
    dir: PathBuf,
    #[expect(dead_code, reason = "held for its drop")]
    lock: DataDir,
}

impl Location {
    /// Finds the buffer and keeps it from being opened by a process that starts meanwhile.
    fn idle(&self, globals: &Globals) -> Result<Idle, ExitCode> {
        let data_dir = match &self.data_dir {
            Some(dir) => dir.clone(),
            None => output::optional_config(globals)?.data_dir,
        };
        let fail = |why: &str| {
            output::say(format!("{} {why}", output::paint(Tone::Bad, "error:", globals.color)));
            ExitCode::from(exit::FAILURE)
        };
        let dir = data_dir.join(BUFFER_DIR);
        if !super::exists(&dir) {
            let place = data_dir.display();
            return Err(fail(&format!(
                "there is no buffer in {place}; name the data directory with --data-dir"
            )));
        }
        if let Ok(Some(holder)) = DataDir::holder(&data_dir) {
            return Err(fail(&held(&data_dir, holder)));
        }
        let lock = DataDir::lock(&data_dir).map_err(|fault| {
            output::report(&[fault], globals.color);
            ExitCode::from(exit::FAILURE)
        })?;
        Ok(Idle { dir, lock })
    }
}

/// Names a row that cannot be read.
pub(super) fn damaged(row: &DamagedRow) -> String {
    let DamagedRow { first, last, events, why, .. } = row;
    let events = output::count(usize::try_from(*events).unwrap_or(usize::MAX), "event");
    format!("row {}: {why} (sequences {} to {}, {events} waiting)", first.0, first.0, last.0)
}

fn held(data_dir: &Path, holder: Holder) -> String {
    let Holder { pid, admin } = holder;
    let ask = match admin {
        Some(admin) => format!("ask it at http://{admin}/status, or stop it first"),
        None => "stop it first".to_owned(),
    };
    format!("process {pid} works with {}; {ask}", data_dir.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Globals = Globals { config: None, color: false };

    #[test]
    fn a_process_that_runs_is_named_with_its_status() {
        let holder = Holder { pid: 7, admin: Some(([127, 0, 0, 1], 9797).into()) };
        let text = held(Path::new("data"), holder);
        assert!(text.contains("process 7") && text.contains("http://127.0.0.1:9797/status"));
    }

    #[test]
    fn a_folder_without_a_buffer_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let location = Location { data_dir: Some(dir.path().to_owned()) };
        assert!(location.idle(&PLAIN).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn no_process_starts_while_the_buffer_is_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(BUFFER_DIR)).unwrap();
        let location = Location { data_dir: Some(dir.path().to_owned()) };
        let idle = location.idle(&PLAIN).ok().unwrap();
        assert!(DataDir::lock(dir.path()).is_err());
        assert!(location.idle(&PLAIN).is_err());
        drop(idle);
        assert!(DataDir::lock(dir.path()).is_ok());
    }
}
