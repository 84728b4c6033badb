//! `init`: the configuration and scripts of the binary, as files to edit.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::mapping::Mappings;

use super::output::{self, Tone};
use super::{Globals, exists, exit};

/// Files of `config/` that are written.
const CONFIG: [(&str, &str); 9] = [
    ("rudder-customerio.yaml", include_str!("../../config/rudder-customerio.yaml")),
    ("quickstart.yaml", include_str!("../../config/quickstart.yaml")),
    ("sample-events.ndjson", include_str!("../../config/sample-events.ndjson")),
    ("schema.json", include_str!("../../config/schema.json")),
    ("behind-vector.yaml", include_str!("../../config/behind-vector.yaml")),
    ("vector/grpc.yaml", include_str!("../../config/vector/grpc.yaml")),
    ("vector/http.yaml", include_str!("../../config/vector/http.yaml")),
    ("vector/sdk.yaml", include_str!("../../config/vector/sdk.yaml")),
    ("vector/direct.yaml", include_str!("../../config/vector/direct.yaml")),
];

/// Options of `init`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  rudder-customerio init my-pipeline
  rudder-customerio init            (into the working directory)

Nothing that exists is overwritten: if config/ or vrl/ is already there, nothing is written.")]
pub struct InitArgs {
    /// Folder to write config/ and vrl/ into; it is created if needed
    #[arg(default_value = ".")]
    dir: PathBuf,
}

/// Writes the files.
pub fn run(args: InitArgs, globals: &Globals) -> ExitCode {
    let dir = &args.dir;
    match write(dir) {
        Ok(()) => {
            output::say(format!(
                "{} wrote {} and {}",
                output::paint(Tone::Good, "ok", globals.color),
                dir.join("config").display(),
                dir.join("vrl").display(),
            ));
            output::say(next_steps(dir));
            ExitCode::from(exit::SUCCESS)
        }
        Err(why) => {
            output::say(format!("{} {why}", output::paint(Tone::Bad, "error:", globals.color)));
            ExitCode::from(exit::FAILURE)
        }
    }
}

fn next_steps(dir: &Path) -> String {
    let enter =
        if dir == Path::new(".") { String::new() } else { format!("  cd {}\n", dir.display()) };
    format!(
        "\nNext:\n{enter}  edit config/rudder-customerio.yaml: `consent.rules` (none yet: what people refused is \
         not looked at) and `write_keys`\n  edit the scripts in vrl/, if the mapping shall differ\n  \
         export CUSTOMERIO_SITE_ID=… CUSTOMERIO_API_KEY=… WRITE_KEY=…\n  \
         rudder-customerio map config/sample-events.ndjson\n  \
         rudder-customerio validate --online\n  \
         rudder-customerio run"
    )
}

fn write(dir: &Path) -> Result<(), String> {
    let (config, vrl) = (dir.join("config"), dir.join("vrl"));
    for folder in [&config, &vrl] {
        if exists(folder) {
            return Err(format!(
                "{} is already there, and nothing is overwritten; name another folder",
                folder.display()
            ));
        }
    }
    let scripts = Mappings::built_in();
    for (name, text) in CONFIG {
        put(&config.join(name), &with_scripts(text))?;
    }
    for (name, text) in &scripts.files {
        put(&vrl.join(name), text)?;
    }
    for (name, text) in &scripts.tests {
        put(&vrl.join(name), text)?;
    }
    put(&vrl.join("mapping.yaml"), &scripts.list_text)
}

/// Lets the configuration name the scripts that are written beside it, so that edits take effect.
fn with_scripts(text: &str) -> String {
    text.replacen("\n  dir: null\n", "\n  dir: vrl\n", 1)
}

/// Writes one file, whose folder is created, and which must not be there yet.
fn put(path: &Path, text: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = std::fs::File::create_new(path).map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("vrl")).unwrap();
        let why = write(dir.path()).unwrap_err();
        assert!(why.contains("vrl is already there"), "{why}");
        assert!(!exists(&dir.path().join("config")));
    }

    #[test]
    fn the_written_configuration_uses_the_written_scripts() {
        let env = |_: &str| Some("x".to_owned());
        let mode = crate::config::LoadMode::Full;
        for wanted in ["rudder-customerio.yaml", "behind-vector.yaml"] {
            let (_, text) = CONFIG.iter().find(|(name, _)| *name == wanted).unwrap();
            let (config, _) =
                crate::config::Config::parse(&with_scripts(text), "c.yaml", mode, &env).unwrap();
            assert_eq!(config.mapping.dir, Some(PathBuf::from("vrl")), "{wanted}");
        }
    }

    #[test]
    fn the_written_scripts_are_those_of_the_binary() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        let read = Mappings::read(&dir.path().join("vrl")).unwrap();
        let own = Mappings::built_in();
        assert_eq!((read.list, read.files, read.tests), (own.list, own.files, own.tests));
    }
}
