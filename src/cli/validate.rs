//! `validate`: configuration, scripts and their tests, data directory; with `--online` Customer.io.

use std::path::Path;
use std::process::ExitCode;

use crate::buffer::disk;
use crate::config::{BufferKind, Config};
use crate::data_dir::{self, DataDir, Holder};
use crate::delivery::client::Client;
use crate::diagnostic::{Diagnostic, Place};
use crate::mapping::{self, Mapping, Mappings};
use crate::operation::grammar::check_root;
use crate::sink::BUFFER_DIR;
use crate::source::tls::Acceptor;

use super::output::{self, Tone, count};
use super::probe::Failure;
use super::{Globals, exit};

/// Options of `validate`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  rudder-customerio validate
  rudder-customerio -c production.yaml validate --online

Ends with 0 if all is well, 78 if configuration or scripts are invalid or the account is in another \
region or workspace, 1 if a test failed, the data directory cannot be written, the buffer in it cannot \
be read, or Customer.io refused the credentials. \
The buffer of a running process is left alone.")]
pub struct ValidateArgs {
    /// Ask Customer.io for the account's region too
    ///
    /// This sends the credentials to the configured region or endpoint, and no event.
    #[arg(long)]
    online: bool,
}

/// Checks everything that can be checked without starting.
pub fn run(args: ValidateArgs, globals: &Globals) -> ExitCode {
    let mut checks = Checks { color: globals.color, invalid: 0, failed: 0 };
    let Some(config) = checks.configuration(globals) else { return checks.end() };
    checks.certificates(&config);
    checks.scripts(&config);
    if checks.data_dir(&config.data_dir, &config.dead_letters.dir) {
        checks.buffer(&config);
    }
    if checks.client(&config) && args.online {
        checks.online(&config);
    }
    checks.end()
}

/// How many failed tests are shown in full; `test` shows them all.
const SHOWN: usize = 3;

/// What was found so far.
struct Checks {
    color: bool,
    invalid: usize,
    failed: usize,
}

impl Checks {
    fn good(&self, text: &str) {
        output::say(format!("{} {text}", output::paint(Tone::Good, "ok", self.color)));
    }

    fn bad(&self, text: &str) {
        output::say(format!("{} {text}", output::paint(Tone::Bad, "error:", self.color)));
    }

    fn configuration(&mut self, globals: &Globals) -> Option<Config> {
        let Some(path) = globals.config_file() else {
            self.invalid += 1;
            output::report(&[output::no_config()], self.color);
            return None;
        };
        match output::load_to_run(&path) {
            Ok((config, warnings)) => {
                output::report(&warnings, self.color);
                let sources = count(config.sources.len(), "source");
                self.good(&format!("configuration {}: {sources}", path.display()));
                Some(config)
            }
            Err(faults) => {
                self.invalid += 1;
                output::report(&faults, self.color);
                None
            }
        }
    }

    /// Reads the certificates of every listener that has some.
    fn certificates(&mut self, config: &Config) {
        let listeners = config.sources.iter().enumerate();
        for (n, tls) in listeners.filter_map(|(n, source)| Some((n, source.tls()?))) {
            let key = format!("sources[{n}].tls");
            match Acceptor::load(tls, &key) {
                Ok(_) => self.good(&format!("certificates of {key}")),
                Err(fault) => {
                    self.invalid += 1;
                    output::report(&[fault], self.color);
                }
            }
        }
    }

    fn scripts(&mut self, config: &Config) {
        let settings = &config.mapping.settings;
        let compiled = scripts_of(config).and_then(|scripts| {
            Mapping::load(&scripts, settings).map(|mapping| (scripts, mapping))
        });
        let (scripts, mapping) = match compiled {
            Ok(compiled) => compiled,
            Err(faults) => {
                self.invalid += faults.len();
                return output::report(&faults, self.color);
            }
        };
        output::report(mapping.warnings(), self.color);
        self.good(&format!("scripts: {}", count(scripts.list.len(), "event type")));
        for note in mapping.notes().iter().filter(|_| are_edited(&scripts)) {
            output::say(format!("{} {note}", output::paint(Tone::Hint, "note:", self.color)));
        }
        let report = mapping::run_suite(&scripts, settings, &[], &check_root);
        output::report(&report.diagnostics, self.color);
        self.invalid += report.diagnostics.len();
        self.failed += report.failed.len();
        for (file, case, difference) in report.failed.iter().take(SHOWN) {
            self.bad(&format!("test {file}: {case}\n{difference}"));
        }
        if report.failed.len() > SHOWN {
            let more = report.failed.len() - SHOWN;
            self.bad(&format!("… and {} more: run `rudder-customerio test`", count(more, "test")));
        }
        if report.failed.is_empty() && report.diagnostics.is_empty() {
            self.good(&format!("tests of the scripts: {} passed", report.passed));
        }
    }

    /// Makes and removes a file in the directory, or where `run` would create it. Tells whether there
    /// can be anything in it.
    fn data_dir(&mut self, dir: &Path, dead_letters: &Path) -> bool {
        if let Err(fault) = data_dir::check(dir) {
            self.failed += 1;
            output::report(&[fault], self.color);
            return false;
        }
        let folder = dir.join(dead_letters);
        let there = folder.ancestors().find(|folder| super::exists(folder));
        let there = there.unwrap_or(Path::new("."));
        let probe = there.join(format!(".validate-{}", std::process::id()));
        let written = std::fs::File::create_new(&probe).and_then(|_| std::fs::remove_file(&probe));
        match written {
            Ok(()) => self.good(&format!("data directory {}: writable", dir.display())),
            Err(error) => {
                self.failed += 1;
                // The words of `run`, which finds the same when it opens the dead letters.
                let message =
                    format!("cannot open the dead letters: {}: {error}", folder.display());
                let fault = Diagnostic::error("data_dir", message)
                    .at(Place { file: dir.display().to_string(), ..Place::default() })
                    .help("create the directory for this user, or set data_dir");
                output::report(&[fault], self.color);
            }
        }
        true
    }

    /// Looks into the buffer, unless a running process works with it.
    fn buffer(&mut self, config: &Config) {
        let data_dir = &config.data_dir;
        let held = |pid: u32| {
            let text = format!("process {pid} works with {}", data_dir.display());
            output::say(format!("{} {text}", output::paint(Tone::Hint, "note:", self.color)));
        };
        match DataDir::holder(data_dir) {
            Ok(Some(Holder { pid, .. })) => return held(pid),
            Ok(None) => {}
            Err(error) => {
                self.failed += 1;
                return self
                    .bad(&format!("cannot read the lock of {}: {error}", data_dir.display()));
            }
        }
        let dir = data_dir.join(BUFFER_DIR);
        if config.buffer.kind == BufferKind::Memory || !super::exists(&dir) {
            return;
        }
        // Held meanwhile, so that no process finds the database in use when it starts.
        let found = DataDir::lock(data_dir).and_then(|_held| disk::inspect(&dir));
        match found {
            Ok(found) => {
                let events = count(usize::try_from(found.events).unwrap_or(usize::MAX), "event");
                if found.damaged.is_empty() {
                    return self.good(&format!("buffer {}: {events} waiting", dir.display()));
                }
                self.failed += found.damaged.len();
                for row in &found.damaged {
                    let row = super::buffer::damaged(row);
                    self.bad(&format!("buffer {}: damaged {row}", dir.display()));
                }
            }
            Err(fault) => {
                self.failed += 1;
                output::report(&[fault], self.color);
            }
        }
    }

    /// Reads what the connection needs beside the configuration, such as root certificates.
    fn client(&mut self, config: &Config) -> bool {
        let Some(customerio) = &config.customerio else { return false };
        match Client::new(customerio) {
            Ok(_) => true,
            Err(faults) => {
                self.invalid += faults.len();
                output::report(&faults, self.color);
                false
            }
        }
    }

    fn online(&mut self, config: &Config) {
        let Some(customerio) = &config.customerio else { return };
        match super::probe::ask(customerio) {
            Ok(answer) => self.good(&format!("Customer.io: {answer}")),
            Err(Failure { why, invalid }) => {
                *(if invalid { &mut self.invalid } else { &mut self.failed }) += 1;
                self.bad(&format!("Customer.io: {why}"));
            }
        }
    }

    fn end(&self) -> ExitCode {
        ExitCode::from(match (self.invalid, self.failed) {
            (0, 0) => exit::SUCCESS,
            (0, _) => exit::FAILURE,
            _ => exit::CONFIG,
        })
    }
}

/// Whether scripts or tests differ from the built-in ones, so that remarks on them help somebody.
pub fn are_edited(scripts: &Mappings) -> bool {
    Mappings { dir: None, ..scripts.clone() } != Mappings::built_in()
}

/// Returns the scripts that the configuration names.
pub fn scripts_of(config: &Config) -> Result<Mappings, Vec<Diagnostic>> {
    match config.mapping.dir.as_deref() {
        Some(dir) => Ok(Mappings::read(dir)?),
        None => Ok(Mappings::built_in()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_that_can_be_created_is_good_and_is_not_created() {
        let mut checks = Checks { color: false, invalid: 0, failed: 0 };
        let dir = tempfile::tempdir().unwrap();
        checks.data_dir(&dir.path().join("a/b"), Path::new("dead"));
        assert_eq!(checks.failed, 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(!checks.data_dir(&file, Path::new("dead")));
        assert_eq!(checks.failed, 1);

        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("nothing"), &link).unwrap();
        assert!(!checks.data_dir(&link, Path::new("dead")));
        assert_eq!(checks.failed, 2);
    }

    #[test]
    fn a_buffer_that_a_process_works_with_is_left_alone() {
        let mut checks = Checks { color: false, invalid: 0, failed: 0 };
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
        checks.buffer(&config);
        assert_eq!(checks.failed, 0, "there is none yet");
        let folder = dir.path().join(BUFFER_DIR);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("events.redb"), "no database").unwrap();
        let held = DataDir::lock(dir.path()).unwrap();
        checks.buffer(&config);
        assert_eq!(checks.failed, 0, "it is in use");
        drop(held);
        checks.buffer(&config);
        assert_eq!(checks.failed, 1);
    }

    #[test]
    fn the_built_in_scripts_are_not_edited_wherever_they_stand() {
        let mut scripts = Mappings::built_in();
        scripts.dir = Some("vrl".into());
        assert!(!are_edited(&scripts));
        scripts.files[0].1.push('\n');
        assert!(are_edited(&scripts));
    }

    #[test]
    fn invalid_weighs_more_than_failed() {
        let code = |invalid, failed| Checks { color: false, invalid, failed }.end();
        assert_eq!(code(0, 0), ExitCode::from(exit::SUCCESS));
        assert_eq!(code(0, 2), ExitCode::from(exit::FAILURE));
        assert_eq!(code(1, 2), ExitCode::from(exit::CONFIG));
    }
}
