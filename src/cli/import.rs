//! `import`: a RudderStack destination's settings as a configuration of this program.
//!
//! No value of the document but those that have a place in the configuration is written or shown:
//! it holds the API key, and members that are not known here may hold secrets too.

mod consent;
mod document;
mod settings;
mod yaml;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use self::document::Source;
use self::settings::Settings;
use super::output::{self, Tone};
use super::{Globals, exit};
use crate::config::{Config, LoadMode, SOURCE_TYPES};

/// Largest document, in bytes: a workspace with thousands of connections stays below.
const MAX_BYTES: u64 = 16 << 20;

/// Options of `import`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  rudder-customerio import destination.json -o config/rudder-customerio.yaml
  curl -su \"$WRITE_KEY:\" \"$CONFIG_URL/sourceConfig\" |
    rudder-customerio import - --destination \"Customer IO\"

It takes the configuration of a Customer.io destination alone, the destination with its configuration, or a \
document with sources and their destinations, such as the answer to /sourceConfig or a workspace's configuration. \
Members may be flat or by source type.

Site id, API key, and write keys are neither written nor shown: the configuration takes them from \
CUSTOMERIO_SITE_ID, CUSTOMERIO_API_KEY, and WRITE_KEY. What could not be carried over is said on standard error \
and in comments of the configuration.

Ends with 1 if the document cannot be read, holds no Customer.io destination, or leaves a choice open.")]
pub struct ImportArgs {
    /// JSON document from RudderStack; `-`: standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Write the configuration to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Overwrite the output file if it is there
    #[arg(long, requires = "output")]
    force: bool,

    /// Choose one of several Customer.io destinations, by its name or id
    #[arg(long, value_name = "NAME|ID")]
    destination: Option<String>,

    /// Take the settings of this source type, where they differ by it
    #[arg(long, value_name = "TYPE")]
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(SOURCE_TYPES))]
    source_type: Option<String>,
}

/// Something that was not carried over as it was, and what that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    about: String,
    means: String,
}

/// What the operator must be told, in the order of the findings.
#[derive(Debug, Default)]
pub struct Notes(Vec<Note>);

impl Notes {
    fn add(&mut self, about: impl Into<String>, means: impl Into<String>) {
        let note = Note { about: about.into(), means: means.into() };
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }
}

/// A destination, ready to be written.
#[derive(Debug)]
struct Import {
    name: Option<String>,
    settings: Settings,
    sources: Vec<Source>,
    notes: Vec<Note>,
}

/// Runs the command.
pub fn run(args: ImportArgs, globals: &Globals) -> ExitCode {
    match import_to(&args, globals.color) {
        Ok(code) => code,
        Err(why) => {
            output::say(format!("{} {why}", output::paint(Tone::Bad, "error:", globals.color)));
            ExitCode::from(exit::FAILURE)
        }
    }
}

fn import_to(args: &ImportArgs, color: bool) -> Result<ExitCode, String> {
    let document = parse(&read(&args.file)?)?;
    let import = import(&document, args.destination.as_deref(), args.source_type.as_deref())?;
    let text = yaml::write(&import);
    check(&text)?;
    let code = match &args.output {
        None => output::print(&text),
        Some(path) => {
            save(path, &text, args.force)?;
            let ok = output::paint(Tone::Good, "ok", color);
            output::say(format!("{ok} wrote {}", path.display()));
            ExitCode::from(exit::SUCCESS)
        }
    };
    for Note { about, means } in &import.notes {
        output::say(format!("{} {about}: {means}", output::paint(Tone::Hint, "note:", color)));
    }
    let variables = yaml::variables(&import.sources).join(", ");
    output::say(format!(
        "{} no secret was written or shown: set {variables}, then run `rudder-customerio validate`",
        output::paint(Tone::Hint, "note:", color),
    ));
    Ok(code)
}

fn import(
    document: &Value,
    destination: Option<&str>,
    source_type: Option<&str>,
) -> Result<Import, String> {
    let mut notes = Notes::default();
    let chosen = document::choose(document, destination, &mut notes)?;
    let sources = chosen.sources(source_type, &mut notes);
    let types = relevant(&sources, source_type);
    let settings = settings::read(chosen.config, &types, &mut notes)?;
    let settings = settings.with_strategies(document, &mut notes);
    Ok(Import { name: chosen.name, settings, sources, notes: notes.0 })
}

/// Returns the source types that count: the one that was asked for, else those of the document's
/// sources; none if that is not known.
fn relevant(sources: &[Source], asked: Option<&str>) -> Vec<String> {
    match asked {
        Some(asked) => vec![asked.to_owned()],
        None => {
            let known: Option<Vec<String>> =
                sources.iter().map(|s| s.source_type.clone()).collect();
            known.unwrap_or_default()
        }
    }
}

/// Makes sure that what is written can be read.
fn check(text: &str) -> Result<(), String> {
    let mode = LoadMode::WithoutSecrets;
    Config::parse(text, "the imported configuration", mode, &|_| None).map(drop).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        format!("the settings make no valid configuration:\n{}", faults.join("\n"))
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let input: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    let mut bytes = Vec::new();
    input.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("{} has more than {MAX_BYTES} bytes", path.display()));
    }
    Ok(bytes)
}

/// Parses the document. An error names the place; the parser's own words could quote a value.
fn parse(bytes: &[u8]) -> Result<Value, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes).map_err(|error| {
        format!("the document is no JSON: line {}, column {}", error.line(), error.column())
    })
}

fn save(path: &Path, text: &str, force: bool) -> Result<(), String> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{} is already there; --force overwrites it", path.display())
        }
        _ => format!("cannot write {}: {error}", path.display()),
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    }
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// The name of a member, if it looks like one: a misplaced secret must not be shown.
fn member(name: &str) -> String {
    let harmless = name.len() <= 40
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '-' | '.'));
    if harmless { name.to_owned() } else { "a member whose name is not shown".to_owned() }
}

/// A name that the operator gave, on one line.
fn label(text: &str) -> String {
    let plain =
        |c: char| if c.is_alphanumeric() || c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().take(60).map(plain).collect()
}

#[cfg(test)]
mod tests;
