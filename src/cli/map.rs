//! `map` (skeleton).

use std::process::ExitCode;

use super::{Globals, exit, output};

/// Options of `map`.
#[derive(Debug, clap::Args)]
pub struct MapArgs {}

/// Runs the command.
pub fn run(_args: MapArgs, _globals: &Globals) -> ExitCode {
    output::say("this command is not built yet");
    ExitCode::from(exit::FAILURE)
}
