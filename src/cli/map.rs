//! `map`: what would become of events, without sending anything.

mod crew;
mod curl;
mod lines;
mod page;

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::ValueEnum;

use self::page::{Format, Job};
use super::output::Tone;
use super::{Globals, exit, output, validate};
use crate::config::{self, Config, CustomerIoConfig, Region, SourceConfig};
use crate::event::at_path;
use crate::filter::Filter;
use crate::mapping::Mapping;
use crate::source::Origin;

/// Stack of every thread that compiles or runs scripts, since VRL recurses.
const STACK_BYTES: usize = 16 << 20;

/// Options of `map`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "rudder-customerio map [OPTIONS] [FILE]")]
#[command(after_help = "\
Examples:
  rudder-customerio map events.ndjson
  rudder-customerio map --explain --curl events.ndjson
  rudder-customerio map --event-path .message log-events.ndjson
  echo '{\"type\":\"track\",\"userId\":\"u1\",\"event\":\"Signed Up\"}' | rudder-customerio map --api v1 -

For every input line that is not blank one JSON line is written, in input order:
  {\"line\":1,\"outcome\":\"mapped\",\"operations\":[…]}
  {\"line\":2,\"outcome\":\"withheld\",\"reason\":\"onetrust_denied\"}

Nothing that depends on the clock is filled in, so the same input gives the same output.
Ends with 1 if an event was malformed or failed, 78 if configuration or scripts are invalid.")]
pub struct MapArgs {
    /// RudderStack events, one JSON object per line; `-` or nothing: standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Add the requests that would carry the operations
    #[arg(long, value_enum, value_name = "VERSION")]
    api: Option<Api>,

    /// Add what decided in each filter, and the script
    ///
    /// With --curl it stands in a comment before the commands of each event.
    #[arg(long)]
    explain: bool,

    /// Print a curl command per request instead of the lines
    ///
    /// The commands take the credentials from the environment variables CUSTOMERIO_SITE_ID and
    /// CUSTOMERIO_API_KEY. Events without a request are named on standard error; with --explain
    /// they are comments between the commands.
    #[arg(long)]
    curl: bool,

    /// Take what stands at this path of each line as the event, such as .message
    ///
    /// This is what `event_path` of a source does: an object or JSON text stands there. A path names
    /// keys, in quotes if need be (.a."b-c"); elements of lists (.a[0]) cannot be named. Without this
    /// option a line is the event, whatever `event_path` the configuration's sources have.
    #[arg(long, value_name = "PATH", value_parser = event_path)]
    event_path: Option<Arc<[String]>>,

    /// RudderStack's type of the source, by which `filter.mode` may differ
    #[arg(long, value_name = "TYPE", default_value = "")]
    source_type: String,
}

/// Version of Customer.io's Track API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Api {
    /// One request per operation
    V1,
    /// One batch per event
    V2,
}

fn event_path(text: &str) -> Result<Arc<[String]>, config::BadPath> {
    config::event_path(text).map(Arc::from)
}

/// Runs the command.
pub fn run(args: MapArgs, globals: &Globals) -> ExitCode {
    let config = match output::optional_config(globals) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let color = globals.color;
    if args.event_path.is_none() {
        for note in wrapped(&config) {
            output::say(format!("{} {note}", output::paint(Tone::Hint, "note:", color)));
        }
    }
    let whole = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        let job = match job(&args, &config, color) {
            Ok(job) => job,
            Err(code) => return code,
        };
        match open(args.file.as_ref()) {
            Ok(input) => work(input, job, config.mapping.threads),
            Err(why) => failed(&why),
        }
    });
    match whole.map(thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        Ok(Err(_)) => failed("mapping stopped unexpectedly"),
        Err(error) => failed(&format!("cannot start a thread: {error}")),
    }
}

/// Tells of the sources whose events are wrapped, since lines that were copied from one of them would
/// be malformed here and are not there.
fn wrapped(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    for (n, source) in config.sources.iter().enumerate() {
        let path = match source {
            SourceConfig::Http(source) => &source.event_path,
            SourceConfig::Vector(source) => &source.event_path,
            SourceConfig::Stdin(source) => &source.event_path,
            SourceConfig::RudderStack(_) => &None,
        };
        if let Some(path) = path {
            let path = at_path::shown(path);
            notes.push(format!(
                "each line is taken as an event; sources[{n}] takes what stands at `{path}`: for that \
                 add --event-path '{path}'"
            ));
        }
    }
    notes
}

fn failed(why: &str) -> ExitCode {
    output::say(format!("error: {why}"));
    ExitCode::from(exit::FAILURE)
}

/// Compiles what the work needs.
fn job(args: &MapArgs, config: &Config, color: bool) -> Result<Job, ExitCode> {
    let compiled = validate::scripts_of(config)
        .and_then(|scripts| Mapping::load(&scripts, &config.mapping.settings));
    let mapping = compiled.map_err(|faults| {
        output::report(&faults, color);
        ExitCode::from(exit::CONFIG)
    })?;
    output::report(mapping.warnings(), color);
    let format = match (args.curl, args.api) {
        (true, api) => {
            let base = base_url(config.customerio.as_ref());
            Format::Curl { api: api.unwrap_or(Api::V2), base, explain: args.explain }
        }
        (false, api) => Format::Lines { api, explain: args.explain },
    };
    Ok(Job {
        filter: Arc::new(Filter::new(&config.filter, &config.consent)),
        mapping: Arc::new(mapping),
        event_path: args.event_path.clone(),
        origin: Origin { source: Arc::from("map"), source_type: Arc::from(&*args.source_type) },
        format,
    })
}

fn base_url(customerio: Option<&CustomerIoConfig>) -> String {
    match customerio {
        Some(CustomerIoConfig { endpoint: Some(endpoint), .. }) => {
            endpoint.to_string().trim_end_matches('/').to_owned()
        }
        Some(CustomerIoConfig { region: Region::Eu, .. }) => {
            "https://track-eu.customer.io".to_owned()
        }
        _ => "https://track.customer.io".to_owned(),
    }
}

fn open(file: Option<&PathBuf>) -> Result<Box<dyn Read + Send>, String> {
    match file.filter(|file| file.as_os_str() != "-") {
        None => Ok(Box::new(io::stdin())),
        Some(path) => match File::open(path).and_then(|file| Ok((file.metadata()?, file))) {
            Ok((about, _)) if about.is_dir() => {
                Err(format!("cannot read {}: it is a directory", path.display()))
            }
            Ok((_, file)) => Ok(Box::new(file)),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        },
    }
}

/// Maps the whole input to standard output.
fn work(input: Box<dyn Read + Send>, job: Job, threads: Option<usize>) -> ExitCode {
    let threads = threads
        .or_else(|| thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1)
        .clamp(1, 16);
    let mut out = io::stdout().lock();
    let mut unwell = 0;
    let ended = crew::work(BufReader::with_capacity(1 << 16, input), job, threads, |page| {
        unwell += page.unwell;
        if !page.notes.is_empty() {
            output::say(page.notes.trim_end());
        }
        out.write_all(&page.data).and_then(|()| out.flush())
    });
    match ended {
        Ok(()) => ExitCode::from(if unwell == 0 { exit::SUCCESS } else { exit::FAILURE }),
        // The reader of our output has gone, which is its right.
        Err(crew::End::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::from(exit::SUCCESS)
        }
        Err(crew::End::Write(error)) => {
            failed(&format!("cannot write to standard output: {error}"))
        }
        Err(crew::End::Read(error)) => failed(&format!("cannot read the input: {error}")),
        Err(crew::End::Panic) => failed("mapping stopped unexpectedly"),
    }
}
