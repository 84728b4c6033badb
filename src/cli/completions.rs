//! `completions`: completions for a shell.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Arguments, Globals, output};

/// Options of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  rudder-customerio completions bash > ~/.local/share/bash-completion/completions/rudder-customerio
  rudder-customerio completions zsh > ~/.zfunc/_rudder-customerio")]
pub struct CompletionsArgs {
    /// The shell to complete in
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script for the shell.
pub fn run(args: CompletionsArgs, _globals: &Globals) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut Arguments::command(),
        "rudder-customerio",
        &mut script,
    );
    output::print(&String::from_utf8_lossy(&script))
}
