//! What people read: help texts, and the demo's story.

use crate::support::{binary, run_with_input};

const COMMANDS: [&str; 13] = [
    "demo",
    "run",
    "validate",
    "test",
    "map",
    "buffer",
    "health",
    "sandbox",
    "replay",
    "init",
    "import",
    "schema",
    "completions",
];

fn help(args: &[&str]) -> String {
    let output = binary().args(args).output().expect("start the binary");
    assert_eq!(output.status.code(), Some(0), "{args:?}");
    assert!(output.stderr.is_empty(), "{args:?}: help goes to standard output");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn help_texts_are_as_reviewed() {
    insta::assert_snapshot!("help", help(&["--help"]));
    for command in COMMANDS {
        insta::assert_snapshot!(format!("help_{command}"), help(&[command, "--help"]));
    }
    for command in ["inspect", "export"] {
        let text = help(&["buffer", command, "--help"]);
        insta::assert_snapshot!(format!("help_buffer_{command}"), text);
    }
}

#[test]
fn a_wrong_command_line_ends_with_2_and_suggests() {
    let output = run_with_input(&["vaildate"], b"");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("validate"), "{text}");
}

#[test]
fn map_reads_a_path_as_a_source_does_and_says_when_the_configuration_has_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("c.yaml");
    let text = "sources: [ { type: rudderstack }, { type: stdin, event_path: .log.\"a-b\" } ]\n\
                customerio: { site_id: a, api_key: b }\n";
    std::fs::write(&config, text).expect("write the configuration");
    let line = br#"{"log":{"a-b":"{\"type\":\"alias\",\"userId\":\"u\",\"previousId\":\"p\"}"}}"#;
    let map = |more: &[&str]| {
        let args = [&["-c", config.to_str().expect("UTF-8"), "map"], more].concat();
        let output = run_with_input(&args, line);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = map(&[]);
    assert!(code == Some(1) && out.contains("malformed"), "{out}");
    assert!(err.contains("sources[1]") && err.contains("--event-path '.log.\"a-b\"'"), "{err}");
    let (code, out, err) = map(&["--event-path", ".log.\"a-b\""]);
    assert!(code == Some(0) && out.contains("\"merge\"") && err.is_empty(), "{out}{err}");
    for path in ["log", ".", ".log[0]", ""] {
        let (code, _, err) = map(&["--event-path", path]);
        assert!(code == Some(2) && err.contains("begin with a dot"), "{err}");
    }
}

#[test]
fn what_cannot_run_without_a_source_is_not_valid() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = dir.path().join("c.yaml");
    let text = "sources: []\ncustomerio: { site_id: a, api_key: b }\n";
    std::fs::write(&config, text).expect("write the configuration");
    for command in ["validate", "run"] {
        let output = run_with_input(&["-c", config.to_str().expect("UTF-8"), command], b"");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.starts_with("error[no_source]") && said.contains("(sources)"), "{said}");
    }
}

#[test]
fn the_demo_tells_its_story() {
    let output = run_with_input(&["demo", "--once"], b"");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // The usual ports may be in use, by another test for example.
    let words: Vec<String> = text
        .split_inclusive([' ', '/', '\n'])
        .map(|word| match word.strip_prefix("127.0.0.1:") {
            Some(port) => {
                format!("ADDRESS{}", port.trim_start_matches(|c: char| c.is_ascii_digit()))
            }
            None => word.to_owned(),
        })
        .collect();
    insta::assert_snapshot!("demo", words.concat());
}
