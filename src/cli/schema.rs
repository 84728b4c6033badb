//! `schema`: the JSON Schema of the configuration.

use std::process::ExitCode;

use super::{Globals, output};

/// Options of `schema`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  rudder-customerio schema > schema.json

An editor with the YAML language server then checks a configuration that begins with
  # yaml-language-server: $schema=schema.json")]
pub struct SchemaArgs {}

/// Prints the schema.
pub fn run(_args: SchemaArgs, _globals: &Globals) -> ExitCode {
    output::print(&format!("{:#}\n", crate::config::schema()))
}
