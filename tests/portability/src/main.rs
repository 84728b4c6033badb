//! Runs the mapping in older versions of VRL and compares with what today's version gives.
//!
//! `cargo test --test it portability` writes the joined scripts and the cases; this program reads
//! them. Which versions run is chosen by the features.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, thread};

use serde::Deserialize;
use serde_json::Value as Json;

/// VRL recurses without a limit of its own, and deeper without optimisation.
const STACK_BYTES: usize = 256 << 20;

/// Nothing may depend on the time zone.
const ZONES: [&str; 2] = ["UTC", "Asia/Kolkata"];

/// How much of what is wrong is shown.
const SHOWN: usize = 20;

/// What the test of the main crate wrote.
#[derive(Deserialize)]
struct Document {
    /// The scripts of each event type, joined.
    scripts: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    /// Event type in lower case.
    script: String,
    /// The value of `%`.
    metadata: Json,
    event: Json,
    /// A list of operations, `dropped`, or `failed`.
    expected: Json,
}

/// Makes a module that runs the cases in one version of VRL.
macro_rules! version {
    ($krate:ident) => {
        mod $krate {
            use std::collections::BTreeMap;

            use ::$krate::compiler::runtime::{Runtime, Terminate};
            use ::$krate::compiler::state::RuntimeState;
            use ::$krate::compiler::{Program, TargetValueRef, TimeZone, compile};
            use ::$krate::diagnostic::Formatter;
            use ::$krate::value::{Secrets, Value};
            use serde_json::Value as Json;

            use super::{Document, ZONES};

            /// Names of the functions in this version's standard library.
            pub fn functions() -> Vec<&'static str> {
                ::$krate::stdlib::all().iter().map(|f| f.identifier()).collect()
            }

            /// Compiles the scripts and runs the cases; returns what is wrong.
            pub fn check(document: &Document) -> Vec<String> {
                let mut wrong = Vec::new();
                let functions = ::$krate::stdlib::all();
                let mut programs: BTreeMap<&str, Program> = BTreeMap::new();
                for (name, text) in &document.scripts {
                    match compile(text, &functions) {
                        Ok(done) => {
                            if !done.warnings.is_empty() {
                                let told = Formatter::new(text, done.warnings).to_string();
                                println!("{name}: compiles with warnings:\n{told}");
                            }
                            programs.insert(name, done.program);
                        }
                        Err(list) => {
                            let told = Formatter::new(text, list).to_string();
                            wrong.push(format!("{name}: does not compile:\n{told}"));
                        }
                    }
                }
                let mut runtime = Runtime::new(RuntimeState::default());
                for case in &document.cases {
                    let Some(program) = programs.get(case.script.as_str()) else { continue };
                    for zone in ZONES {
                        let zone = TimeZone::parse(zone).expect("a known zone");
                        // As `parse_json` reads it.
                        let event = case.event.to_string();
                        let mut value: Value = serde_json::from_str(&event).expect("an event");
                        let mut metadata = Value::from(case.metadata.clone());
                        let mut secrets = Secrets::default();
                        let mut target = TargetValueRef {
                            value: &mut value,
                            metadata: &mut metadata,
                            secrets: &mut secrets,
                        };
                        let ended = runtime.resolve(&mut target, program, &zone);
                        runtime.clear();
                        let got = match ended {
                            Ok(_) => match serde_json::to_value(&value).expect("a JSON value") {
                                Json::Array(operations) => Json::Array(operations),
                                one => Json::Array(vec![one]),
                            },
                            Err(Terminate::Abort(_)) => Json::from("dropped"),
                            Err(_) => Json::from("failed"),
                        };
                        let after = serde_json::to_value(&metadata).expect("a JSON value");
                        if after != case.metadata {
                            wrong.push(format!("{}: the metadata became {after}", case.name));
                            break;
                        }
                        if got != case.expected {
                            wrong.push(format!(
                                "{}:\n  event    {}\n  expected {}\n  got      {got}",
                                case.name, case.event, case.expected
                            ));
                            break;
                        }
                    }
                }
                wrong
            }
        }
    };
}

/// Names the versions: minor version, crate, feature.
macro_rules! versions {
    ($($minor:literal $krate:ident $feature:literal)*) => {
        $(
            #[cfg(feature = $feature)]
            version!($krate);
        )*

        /// Runs the versions that are built in: minor version, its functions, and what is wrong.
        #[allow(unused_mut, unused_variables, clippy::vec_init_then_push)]
        fn check(document: &Document) -> Vec<(u32, Vec<&'static str>, Vec<String>)> {
            let mut versions = Vec::new();
            $(
                #[cfg(feature = $feature)]
                versions.push(($minor, $krate::functions(), $krate::check(document)));
            )*
            versions
        }
    };
}

versions! {
    16 vrl_0_16 "vrl-0_16"
    17 vrl_0_17 "vrl-0_17"
    18 vrl_0_18 "vrl-0_18"
    19 vrl_0_19 "vrl-0_19"
    20 vrl_0_20 "vrl-0_20"
    21 vrl_0_21 "vrl-0_21"
    22 vrl_0_22 "vrl-0_22"
    23 vrl_0_23 "vrl-0_23"
    24 vrl_0_24 "vrl-0_24"
    25 vrl_0_25 "vrl-0_25"
    26 vrl_0_26 "vrl-0_26"
    27 vrl_0_27 "vrl-0_27"
    28 vrl_0_28 "vrl-0_28"
    29 vrl_0_29 "vrl-0_29"
    30 vrl_0_30 "vrl-0_30"
    31 vrl_0_31 "vrl-0_31"
    32 vrl_0_32 "vrl-0_32"
    33 vrl_0_33 "vrl-0_33"
    34 vrl_0_34 "vrl-0_34"
    35 vrl_0_35 "vrl-0_35"
    36 vrl_0_36 "vrl-0_36"
    37 vrl_0_37 "vrl-0_37"
}

/// Compares a version's functions with the committed list.
fn unlisted(list: &str, version: u32, functions: &[&str]) -> Vec<String> {
    let mut listed: Vec<&str> = Vec::new();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, first)) = line.split_once(" 0.") else { continue };
        if first.parse::<u32>().is_ok_and(|first| first <= version) {
            listed.push(name);
        }
    }
    let missing = functions.iter().filter(|name| !listed.contains(name));
    let absent = listed.iter().filter(|name| !functions.contains(name));
    missing
        .map(|name| format!("`{name}` is not in the list of functions"))
        .chain(absent.map(|name| format!("`{name}` is in the list and not in this version")))
        .collect()
}

/// A file of the repository that every run needs.
const LIST: &str = "tests/data/vrl-functions.txt";

fn run() -> ExitCode {
    // This program is built in two folders.
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let root = above.find(|folder| folder.join(LIST).is_file());
    let root = root.expect("a folder of the repository");
    let path = env::args().nth(1).map_or(root.join("target/tmp/portability.json"), Into::into);
    let document = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Document>(&bytes).expect("a document of the test"),
        Err(error) => {
            eprintln!("{}: {error}; run `cargo test --test it portability` first", path.display());
            return ExitCode::FAILURE;
        }
    };
    let list = fs::read_to_string(root.join(LIST)).expect("the list");
    let versions = check(&document);
    if versions.is_empty() {
        eprintln!("no version is chosen; add `--features vrl-0_34` (or others)");
        return ExitCode::FAILURE;
    }
    let mut code = ExitCode::SUCCESS;
    for (version, functions, mut wrong) in versions {
        wrong.extend(unlisted(&list, version, &functions));
        println!("VRL 0.{version}: {} cases, {} wrong", document.cases.len(), wrong.len());
        for text in wrong.iter().take(SHOWN) {
            println!("{text}");
        }
        if !wrong.is_empty() {
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn main() -> ExitCode {
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(run).expect("a thread");
    thread.join().unwrap_or(ExitCode::FAILURE)
}
