//! The command line: what can be typed, and which command it goes to.
//!
//! One file per command. Data goes to standard output, everything else to standard error.

mod buffer;
mod completions;
mod demo;
mod exit;
mod health;
mod import;
mod init;
mod map;
mod output;
mod probe;
mod replay;
mod run;
mod sandbox;
mod schema;
mod test;
mod validate;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand, ValueEnum};

use crate::telemetry::panics;

/// Where a configuration is looked for when none is named.
const DEFAULT_CONFIG: &str = "config/rudder-customerio.yaml";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

const AFTER_HELP: &str = "Start with `rudder-customerio demo`: it needs no set-up.";

const AFTER_LONG_HELP: &str = "\
Examples:
  rudder-customerio demo                          the whole way, without any set-up
  rudder-customerio init my-pipeline              configuration and scripts to edit
  rudder-customerio map events.ndjson             what would be sent
  rudder-customerio validate --online             check everything
  rudder-customerio run                           start

Exit codes:
  0   success
  1   the work failed: a test failed, an event failed or was rejected, the probe was refused
  2   the command line is wrong
  78  the configuration or a script is invalid";

/// Takes RudderStack events, applies consent, maps them with VRL scripts, and delivers them to
/// Customer.io
#[derive(Debug, Parser)]
#[command(name = "rudder-customerio", version, styles = STYLES, after_help = AFTER_HELP)]
#[command(after_long_help = AFTER_LONG_HELP, subcommand_required = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// Read this configuration [default: config/rudder-customerio.yaml, if it exists]
    ///
    /// The file is YAML (JSON is YAML), or TOML if its name ends in .toml. Relative paths in it are
    /// relative to the working directory.
    #[arg(short, long, value_name = "FILE", global = true, help_heading = "Global options")]
    config: Option<PathBuf>,

    /// Choose when messages are coloured
    ///
    /// With `auto`, messages are coloured on a terminal, unless the environment variable NO_COLOR is
    /// set.
    #[arg(long, value_name = "WHEN", global = true, help_heading = "Global options")]
    #[arg(value_enum, default_value_t = Color::Auto)]
    color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// In any case
    Always,
    /// In no case
    Never,
}

/// Options of every command.
#[derive(Clone, Debug)]
pub struct Globals {
    /// The configuration that was named.
    pub config: Option<PathBuf>,
    /// Whether standard error is coloured.
    pub color: bool,
}

impl Globals {
    /// Returns the configuration file: the named one, else the default one if it exists.
    pub fn config_file(&self) -> Option<PathBuf> {
        let default = || Some(PathBuf::from(DEFAULT_CONFIG)).filter(|path| path.is_file());
        self.config.clone().or_else(default)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send sample events through everything, without any set-up
    Demo(demo::DemoArgs),
    /// Start the pipeline
    Run(run::RunArgs),
    /// Check the configuration, the scripts, and the data directory
    Validate(validate::ValidateArgs),
    /// Run the unit tests of the mapping scripts
    Test(test::TestArgs),
    /// Map events from a file or standard input, and send nothing
    Map(map::MapArgs),
    /// Look into the buffer while nothing runs
    Buffer(buffer::BufferArgs),
    /// Ask a running process whether it can accept events
    Health(health::HealthArgs),
    /// Start a local Customer.io Track API
    Sandbox(sandbox::SandboxArgs),
    /// Deliver dead letters, through the current scripts
    Replay(replay::ReplayArgs),
    /// Write configuration and scripts into a new folder, to edit them
    Init(init::InitArgs),
    /// Turn a RudderStack destination's settings into a configuration
    Import(import::ImportArgs),
    /// Print the JSON Schema of the configuration
    Schema(schema::SchemaArgs),
    /// Print completions for a shell
    Completions(completions::CompletionsArgs),
}

/// Reads the command line and runs the command.
pub fn run() -> ExitCode {
    panics::hide_expected();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no faults; a closed pipe is none either.
            let code = if error.use_stderr() { exit::USAGE } else { exit::SUCCESS };
            let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
            let unwritten = error.print().is_err_and(|error| !gone(&error));
            return ExitCode::from(if unwritten { exit::FAILURE } else { code });
        }
    };
    let globals = Globals { config: arguments.config, color: output::color(arguments.color) };
    dispatch(arguments.command, &globals)
}

fn dispatch(command: Command, globals: &Globals) -> ExitCode {
    match command {
        Command::Demo(args) => demo::run(args, globals),
        Command::Run(args) => run::run(args, globals),
        Command::Validate(args) => validate::run(args, globals),
        Command::Test(args) => test::run(args, globals),
        Command::Map(args) => map::run(args, globals),
        Command::Buffer(args) => buffer::run(args, globals),
        Command::Health(args) => health::run(args, globals),
        Command::Sandbox(args) => sandbox::run(args),
        Command::Replay(args) => replay::run(args, globals),
        Command::Init(args) => init::run(args, globals),
        Command::Import(args) => import::run(args, globals),
        Command::Schema(args) => schema::run(args, globals),
        Command::Completions(args) => completions::run(args, globals),
    }
}

/// Whether a folder or file of that name is there.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_summary_that_fits_on_a_line() {
        for command in Arguments::command().get_subcommands() {
            let about = command.get_about().unwrap().to_string();
            assert!(about.chars().count() <= 65 && !about.ends_with('.'), "{about}");
        }
    }

    #[test]
    fn global_options_are_read_before_and_behind_the_command() {
        for words in [["x", "-c", "a.yaml", "schema"], ["x", "schema", "--config", "a.yaml"]] {
            let arguments = Arguments::try_parse_from(words).unwrap();
            assert_eq!(arguments.config, Some(PathBuf::from("a.yaml")));
        }
    }

    #[test]
    fn a_wrong_command_line_ends_with_the_usage_code() {
        let error = Arguments::try_parse_from(["x", "runn"]).unwrap_err();
        assert!(error.use_stderr());
        assert!(error.to_string().contains("run"), "{error}");
    }
}
