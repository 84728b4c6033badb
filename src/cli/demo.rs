//! `demo` (skeleton).

use std::process::ExitCode;

use super::{Globals, exit, output};

/// Options of `demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {}

/// Runs the command.
pub fn run(_args: DemoArgs, _globals: &Globals) -> ExitCode {
    output::say("this command is not built yet");
    ExitCode::from(exit::FAILURE)
}
