//! Rules of the code's structure that the compiler does not check.

use std::fs;
use std::path::{Path, PathBuf};

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(files.len() > 30, "the sources were not found");
    files
}

/// The part of a file that is compiled into the product.
fn production(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

/// A file of tests beside the code that it tests.
fn is_tests(path: &Path) -> bool {
    path.with_extension("").iter().any(|part| part.to_string_lossy().ends_with("tests"))
}

fn offenders(words: &[&str], allowed: impl Fn(&Path) -> bool) -> Vec<String> {
    sources()
        .iter()
        .filter(|(path, text)| !allowed(path) && words.iter().any(|w| production(text).contains(w)))
        .map(|(path, _)| path.display().to_string())
        .collect()
}

#[test]
fn only_mapping_knows_the_vrl_compiler() {
    let found = offenders(&["vrl::compiler", "vrl::stdlib", "vrl::parser"], |p| {
        p.starts_with("mapping") || p == Path::new("mapping.rs")
    });
    assert_eq!(found, [""; 0], "VRL's compiler is named outside mapping/");
}

#[test]
fn only_the_delivery_client_opens_http_connections() {
    let found = offenders(&["hyper_rustls::", "hyper_util::client", "hyper::client"], |p| {
        p.starts_with("delivery/client.rs") || p.starts_with("delivery/client") || is_tests(p)
    });
    // `demo` sends its samples to our own gateway as an SDK would, over plain loopback sockets.
    assert_eq!(found, [""; 0], "another HTTP client than delivery/client.rs");
}

#[test]
fn a_stage_never_names_the_stages_after_it() {
    let order = [
        "event",
        "source",
        "filter",
        "mapping",
        "operation",
        "buffer",
        "delivery",
        "sink",
        "pipeline",
        "cli",
    ];
    // The stages that may know others: who puts them together.
    for (path, text) in sources() {
        let first =
            path.components().next().unwrap().as_os_str().to_string_lossy().replace(".rs", "");
        let Some(own) = order.iter().position(|s| *s == first) else { continue };
        if is_tests(&path) {
            continue;
        }
        if ["source", "sink", "pipeline", "cli"].contains(&order[own]) {
            continue;
        }
        for later in &order[own + 1..] {
            // `Origin` is part of what a filter is asked about; it is a type of the station before it.
            assert!(
                !production(&text).contains(&format!("crate::{later}::")),
                "{} names {later}, which comes after it",
                path.display()
            );
        }
    }
}

#[test]
fn there_is_no_unsafe_code() {
    let manifest =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"forbid\""));
}
