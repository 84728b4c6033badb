//! What commands print: data to standard output, messages to standard error.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{Config, ConsentConfig, LoadMode};
use crate::diagnostic::{Diagnostic, Diagnostics, Place, Severity};
use crate::outcome::{LedgerSnapshot, OutcomeKind};

use super::{Color, DEFAULT_CONFIG, Globals, exit};

/// Code of the warning that a configuration has no source.
const NO_SOURCE: &str = "no_source";

/// Decides whether standard error is coloured.
pub fn color(choice: Color) -> bool {
    match choice {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            !refused && io::stderr().is_terminal()
        }
    }
}

/// Writes data to standard output and gives the exit code. A reader that has gone is no failure.
pub fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write to standard output: {error}");
            ExitCode::from(exit::FAILURE)
        }
        _ => ExitCode::from(exit::SUCCESS),
    }
}

/// How a message begins.
#[derive(Clone, Copy)]
pub enum Tone {
    /// Something is as it should be.
    Good,
    /// Something is worth a look.
    Warning,
    /// Something is wrong.
    Bad,
    /// What to do next.
    Hint,
}

/// Colours a word for standard error.
pub fn paint(tone: Tone, word: &str, color: bool) -> String {
    if !color {
        return word.to_owned();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Warning => "33",
        Tone::Bad => "31",
        Tone::Hint => "36",
    };
    format!("\u{1b}[1;{code}m{word}\u{1b}[0m")
}

/// Writes a line to standard error, if anybody still reads it.
pub fn say(text: impl AsRef<str>) {
    let mut err = io::stderr().lock();
    let written = writeln!(err, "{}", text.as_ref());
    drop(written);
}

/// Shows diagnostics on standard error, one after another.
pub fn report(diagnostics: &[Diagnostic], color: bool) {
    for diagnostic in diagnostics {
        let (tone, name) = match diagnostic.severity {
            Severity::Warning => (Tone::Warning, "warning"),
            Severity::Error => (Tone::Bad, "error"),
        };
        let text = diagnostic.to_string();
        let rest = text.strip_prefix(name).unwrap_or(&text);
        say(format!("{}{rest}\n", paint(tone, name, color)));
    }
}

/// Writes a count with its noun: `1 error`, `2 errors`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("{number} {noun}") } else { format!("{number} {noun}s") }
}

/// Writes the ledger as one line, without what is zero.
pub fn account(ledger: &LedgerSnapshot) -> String {
    let mut parts = vec![format!("received {}", ledger.received)];
    let mut add = |name: &str, n: u64| {
        if n > 0 {
            parts.push(format!("{name} {n}"));
        }
    };
    add("recovered", ledger.recovered);
    for kind in OutcomeKind::ALL {
        add(kind.as_str(), ledger.total(kind));
    }
    add("buffered", ledger.buffered);
    parts.join(", ")
}

/// The message of a command that needs a configuration and found none.
pub fn no_config() -> Diagnostic {
    Diagnostic::error("no_config", format!("no configuration: {DEFAULT_CONFIG} is not there"))
        .help("name one with --config FILE, or write one with `rudder-customerio init`")
}

/// The warning that nobody's refusal is heeded, for commands that send or prepare to.
pub fn no_consent_rule(config: &Config, path: &Path) -> Option<Diagnostic> {
    let ConsentConfig { rules, onetrust_categories, ketch_purposes, .. } = &config.consent;
    let none = rules.is_empty() && onetrust_categories.is_empty() && ketch_purposes.is_empty();
    let message = "no consent rule: what people refused is not looked at";
    let place = Place {
        file: path.display().to_string(),
        key: Some("consent.rules".to_owned()),
        ..Place::default()
    };
    let help = "add one per consent provider, such as { provider: oneTrust, consents: [ C0004 ] }";
    none.then(|| Diagnostic::warning("no_consent_rule", message).at(place).help(help))
}

/// Loads the configuration of what is to run, with its warnings. Without a source there is nothing to
/// run; [`Config::load`] alone leaves that to programs with sources of their own.
pub fn load_to_run(path: &Path) -> Result<(Config, Vec<Diagnostic>), Diagnostics> {
    let (config, mut warnings) = Config::load(path, LoadMode::Full)?;
    if let Some(fault) = warnings.iter_mut().find(|warning| warning.code == NO_SOURCE) {
        fault.severity = Severity::Error;
        return Err(warnings.into());
    }
    warnings.extend(no_consent_rule(&config, path));
    Ok((config, warnings))
}

/// Loads the configuration for a command that must have one but needs no source, with its warnings.
pub fn required_config(globals: &Globals) -> Result<(Config, Vec<Diagnostic>), ExitCode> {
    required(globals, |path| {
        let (config, mut warnings) = Config::load(path, LoadMode::Full)?;
        warnings.retain(|warning| warning.code != NO_SOURCE);
        warnings.extend(no_consent_rule(&config, path));
        Ok((config, warnings))
    })
}

/// Loads the configuration for `run`, with its warnings.
pub fn config_to_run(globals: &Globals) -> Result<(Config, Vec<Diagnostic>), ExitCode> {
    required(globals, load_to_run)
}

fn required(
    globals: &Globals,
    load: impl FnOnce(&Path) -> Result<(Config, Vec<Diagnostic>), Diagnostics>,
) -> Result<(Config, Vec<Diagnostic>), ExitCode> {
    let faults = match globals.config_file() {
        Some(path) => match load(&path) {
            Ok(loaded) => return Ok(loaded),
            Err(faults) => faults.into(),
        },
        None => vec![no_config()],
    };
    report(&faults, globals.color);
    Err(ExitCode::from(exit::CONFIG))
}

/// Loads the configuration, without secrets, for a command that can do without one.
pub fn optional_config(globals: &Globals) -> Result<Config, ExitCode> {
    match globals.config_file() {
        Some(path) => load(&path, globals),
        None => Ok(Config::default()),
    }
}

fn load(path: &Path, globals: &Globals) -> Result<Config, ExitCode> {
    match Config::load(path, LoadMode::WithoutSecrets) {
        Ok((config, warnings)) => {
            report(&warnings, globals.color);
            Ok(config)
        }
        Err(faults) => {
            report(&faults, globals.color);
            Err(ExitCode::from(exit::CONFIG))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::outcome::{Ledger, Outcome, ReasonCode, Tally};

    use super::*;

    #[test]
    fn an_account_shows_what_is_not_zero_in_the_order_of_the_pipeline() {
        let ledger = Ledger::default();
        let mut tally = Tally::default();
        let failed = Outcome::Failed(ReasonCode::ScriptError.into());
        for outcome in [Outcome::Delivered, failed, Outcome::Delivered] {
            tally.end(&outcome);
        }
        tally.buffer();
        ledger.enter(&tally);
        let text = account(&ledger.snapshot());
        assert_eq!(text, "received 4, failed 1, delivered 2, buffered 1");
    }

    #[test]
    fn any_consent_rule_silences_the_warning() {
        let none = Config::default();
        let fault = no_consent_rule(&none, Path::new("c.yaml")).unwrap();
        assert_eq!((fault.severity, fault.code.as_str()), (Severity::Warning, "no_consent_rule"));
        let mut some = Config::default();
        some.consent.ketch_purposes.push("marketing".to_owned());
        assert_eq!(no_consent_rule(&some, Path::new("c.yaml")), None);
    }
}
