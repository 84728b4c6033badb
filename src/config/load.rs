//! From a file to a checked [`Config`].

use std::io::Read;
use std::path::Path;

use super::context::Context;
use super::declare::constant;
use super::load_mode::LoadMode;
use super::reference::reason;
use super::{Config, check, toml, yaml};
use crate::diagnostic::{Diagnostic, Diagnostics, Place};

impl Config {
    /// Reads and checks a file; its name decides between YAML and TOML. Returns warnings beside it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file. No diagnostic shows a value or a line.
    pub fn load(path: &Path, mode: LoadMode) -> Result<(Self, Vec<Diagnostic>), Diagnostics> {
        let name = path.display().to_string();
        let text = read(path, &name)?;
        Self::parse(&text, &name, mode, &|name| std::env::var(name).ok())
    }

    /// As [`Config::load`] with the text of a file, its name, and the environment.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn parse(
        text: &str,
        name: &str,
        mode: LoadMode,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Self, Vec<Diagnostic>), Diagnostics> {
        let is_toml = Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case("toml"));
        let tree = if is_toml { toml::parse(text, name)? } else { yaml::parse(text, name)? };
        let mut cx = Context::new(name, mode, env);
        let config = check::decode(&tree, &mut cx);
        Ok(finish(config, cx)?)
    }
}

impl Default for Config {
    /// What an empty file says: no source and no destination.
    fn default() -> Self {
        constant("{}")
    }
}

/// Sorts what was found, and decides.
fn finish(
    config: Option<Config>,
    cx: Context<'_>,
) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let failed = cx.errors() > 0;
    let mut diagnostics = cx.diagnostics;
    diagnostics.sort_by_key(|d| d.place.as_ref().map(|place| (place.line, place.column)));
    match config {
        Some(config) if !failed => Ok((config, diagnostics)),
        None if !failed => {
            Err(vec![Diagnostic::error("internal", "the configuration could not be decoded")])
        }
        _ => Err(diagnostics),
    }
}

/// Reads a text file within the bound of a configuration.
fn read(path: &Path, name: &str) -> Result<String, Vec<Diagnostic>> {
    let fault = |code: &str, message: String, help: &str| {
        let place = Place { file: name.to_owned(), ..Place::default() };
        vec![Diagnostic::error(code, message).at(place).help(help)]
    };
    // A pipe could be read once only, and opening one can wait for ever.
    if std::fs::metadata(path).is_ok_and(|about| !about.is_file() && !about.is_dir()) {
        let help = "write the configuration to a file, and name that with --config FILE";
        return Err(fault("unreadable_file", "this is not a regular file".to_owned(), help));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(yaml::MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            let message = format!("cannot read the file: {}", reason(&error));
            let help = "name another with --config FILE; `rudder-customerio init` writes one";
            fault("unreadable_file", message, help)
        })?;
    if bytes.len() > yaml::MAX_BYTES {
        return Err(vec![yaml::too_large(name)]);
    }
    let text = String::from_utf8(bytes);
    text.map_err(|_| fault("not_utf8", "the file is not UTF-8 text".to_owned(), "save it as UTF-8"))
}
