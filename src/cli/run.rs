//! `run` (skeleton).

use std::process::ExitCode;

use super::{Globals, exit, output};

/// Options of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {}

/// Runs the command.
pub fn run(_args: RunArgs, globals: &Globals) -> ExitCode {
    let _config = match output::required_config(globals) {
        Ok(config) => config,
        Err(code) => return code,
    };
    output::say("this command is not built yet");
    ExitCode::from(exit::FAILURE)
}
