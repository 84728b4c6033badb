//! `sandbox` (skeleton).

use std::process::ExitCode;

use super::{Globals, exit, output};

/// Options of `sandbox`.
#[derive(Debug, clap::Args)]
pub struct SandboxArgs {}

/// Runs the command.
pub fn run(_args: SandboxArgs, _globals: &Globals) -> ExitCode {
    output::say("this command is not built yet");
    ExitCode::from(exit::FAILURE)
}
