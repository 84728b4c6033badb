//! Commands; one file each, printing only (skeleton).

use std::process::ExitCode;

pub fn run() -> ExitCode {
    ExitCode::SUCCESS
}
