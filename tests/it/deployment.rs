//! The files for containers and systemd name what there is: paths, commands, options, versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rudder_customerio::config::Config;

use crate::support::{Stack, binary, run_with_input};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The instructions of the Dockerfile, each with what belongs to it on one line.
fn instructions() -> Vec<(String, String)> {
    let text = text("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let (name, rest) = line.split_once(' ').unwrap();
            (name.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect()
}

/// What follows the last instruction of a name.
fn last(name: &str) -> String {
    let all = instructions();
    let found = all.iter().rev().find(|(instruction, _)| instruction == name);
    found.unwrap_or_else(|| panic!("no {name}")).1.clone()
}

fn in_brackets(text: &str) -> Vec<String> {
    serde_json::from_str(&text[text.find('[').unwrap()..]).unwrap()
}

/// Whether the binary knows a command line up to its options' meaning.
fn is_understood(words: &[String]) {
    let output = binary().args(words).arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{words:?}");
    let help = String::from_utf8(output.stdout).unwrap();
    for option in words.iter().filter(|word| word.starts_with('-')) {
        assert!(help.contains(option.as_str()), "{option} is not in the help of {words:?}");
    }
}

/// Files that the product's code takes in when it is compiled, relative to the root.
fn compiled_in() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            if stem.ends_with("tests") || stem == "fuzz" {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let product = text.split("#[cfg(test)]").next().unwrap();
            for part in product.split("include_str!(\"").skip(1) {
                let named = &part[..part.find('"').unwrap()];
                let file = path.parent().unwrap().join(named).canonicalize().unwrap();
                files.push(file.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    files
}

#[test]
fn the_image_is_built_from_files_that_are_there_by_the_toolchain_of_the_project() {
    let toolchain = text("rust-toolchain.toml");
    let channel = toolchain.split("channel = \"").nth(1).unwrap().split('"').next().unwrap();
    let stages: Vec<_> = instructions().into_iter().filter(|(name, _)| name == "FROM").collect();
    assert_eq!(stages.len(), 2);
    assert!(stages[0].1.starts_with(&format!("rust:{channel}-")), "{stages:?} and {channel}");

    let ignored = text(".dockerignore");
    let kept: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignored.lines().any(|line| line == "*"), "everything else is left out");
    for name in kept.iter().filter(|name| **name != "examples") {
        assert!(root().join(name).exists(), "{name}");
    }
    let files = compiled_in();
    assert!(files.len() > 3, "{files:?}");
    for file in files {
        assert!(kept.iter().any(|name| file.starts_with(name)), "{} is not sent", file.display());
    }
    assert!(!root().join("build.rs").exists(), "a build script would have to be sent");
}

#[test]
fn the_image_runs_known_commands_as_nobody_and_writes_to_its_volume_only() {
    assert_eq!(in_brackets(&last("ENTRYPOINT")), ["rudder-customerio"]);
    is_understood(&in_brackets(&last("CMD")));
    let health = in_brackets(&last("HEALTHCHECK"));
    assert_eq!(health[0], "rudder-customerio");
    is_understood(&health[1..]);
    assert_eq!(last("USER"), "65532:65532", "a number, which Kubernetes can check");
    assert_eq!(last("STOPSIGNAL"), "SIGTERM");
    let (volume, folder) = (last("VOLUME"), last("WORKDIR"));
    assert_eq!(volume, folder, "relative paths of the configuration are in the volume");
    assert!(Config::default().data_dir.is_relative());
    let copies = instructions();
    let owner = copies.iter().any(|(name, rest)| {
        name == "COPY" && rest.contains("--chown=65532:65532") && rest.ends_with(&volume)
    });
    assert!(owner, "the volume belongs to the user");
    assert!(!text("Dockerfile").contains("ARG ") && !text("Dockerfile").contains("ENV "));
}

const UNIT: &str = "config/systemd/rudder-customerio.service";

/// The values of a key of the unit.
fn unit(key: &str) -> Vec<String> {
    let prefix = format!("{key}=");
    text(UNIT).lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
}

#[test]
fn the_unit_runs_a_known_command_and_is_hardened() {
    let start = unit("ExecStart").concat();
    let words: Vec<String> = start.split(' ').skip(1).map(str::to_owned).collect();
    assert!(start.starts_with("/usr/local/bin/rudder-customerio "), "{start}");
    is_understood(&words);
    assert_eq!(unit("ExecReload"), ["/bin/kill -HUP $MAINPID"]);
    for (key, value) in [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("CapabilityBoundingSet", ""),
        ("StateDirectory", "rudder-customerio"),
        ("WorkingDirectory", "%S/rudder-customerio"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", "2 78"),
    ] {
        assert_eq!(unit(key), [value], "{key}");
    }
    let patience: u64 = unit("TimeoutStopSec")[0].strip_suffix('s').unwrap().parse().unwrap();
    assert!(patience > Config::default().drain_timeout.as_secs(), "a stop may drain to its end");
    // The secrets that the head shows are those that are loaded.
    let loaded = unit("LoadCredential");
    for name in
        text(UNIT).lines().filter_map(|line| line.split("rudder-customerio.service/").nth(1))
    {
        let name = name.trim_end_matches("}\"");
        assert!(loaded.iter().any(|l| l.starts_with(&format!("{name}:"))), "{name} in {loaded:?}");
    }
    assert_eq!(loaded.len(), 3);
}

#[test]
fn systemd_takes_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rudder-customerio.service");
    let program = env!("CARGO_BIN_EXE_rudder-customerio");
    fs::write(&path, text(UNIT).replace("/usr/local/bin/rudder-customerio", program)).unwrap();
    let verify = Command::new("systemd-analyze").arg("verify").arg(&path).output();
    let Ok(output) = verify else {
        eprintln!("SKIPPED: systemd-analyze is not installed, so the unit was not verified");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("rudder-customerio.service:"), "{said}");
}

#[test]
fn health_is_the_readiness_of_the_running_process() {
    let mut stack = Stack::start("");
    let config = stack.dir.path().join("config.yaml").display().to_string();
    let health = |code: i32, words: &str| {
        let output = run_with_input(&["health", "-c", &config], b"");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "{said}");
    };
    health(0, "");
    assert!(stack.run.stop().success());
    health(1, "does not answer");
}
