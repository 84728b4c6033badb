//! The first command of the README.

use crate::support::run_with_input;

#[test]
fn the_demo_delivers_withholds_and_says_so() {
    let output = run_with_input(&["demo", "--once"], b"");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}\n{errors}");
    for wanted in ["withheld", "onetrust", "curl", "delivered"] {
        assert!(text.to_lowercase().contains(wanted), "{wanted} is missing in:\n{text}");
    }
}
