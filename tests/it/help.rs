//! What people read: help texts, and the demo's story.

use crate::support::{binary, run_with_input};

const COMMANDS: [&str; 12] = [
    "demo",
    "run",
    "validate",
    "test",
    "map",
    "buffer",
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
