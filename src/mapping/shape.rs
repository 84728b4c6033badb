//! What the type of a program's result already shows to be wrong.
//!
//! Only certain mistakes are reported: the checks of each event's operations come later anyway.

use vrl::compiler::Program;
use vrl::value::Kind;
use vrl::value::kind::Field;

use super::source::Source;
use crate::diagnostic::{Diagnostic, Place};

/// Members that every operation has, both texts.
const MEMBERS: [&str; 2] = ["type", "action"];

/// Looks at the type of `.` at the end of the program.
pub(super) fn check(source: &Source, program: &Program) -> Vec<Diagnostic> {
    let end = program.final_type_info();
    // With a `return` the type at the end is not that of every result.
    if !end.result.returns().is_never() {
        return Vec::new();
    }
    let file = source.locate(usize::MAX).file;
    check_root(end.state.external.target_kind())
        .into_iter()
        .map(|message| {
            Diagnostic::error("invalid_result", message)
                .at(Place { file: file.to_owned(), ..Place::default() })
                .help("`.` must be one operation (an object) or an array of operations at the end")
        })
        .collect()
}

fn check_root(kind: &Kind) -> Vec<String> {
    if !kind.contains_object() && !kind.contains_array() {
        return vec![format!("`.` is always {kind} at the end of the script")];
    }
    if !kind.contains_array() {
        return missing(kind, "`.`");
    }
    if kind.contains_object() {
        return Vec::new();
    }
    let Some(array) = kind.as_array() else { return Vec::new() };
    let mut wrong = Vec::new();
    for (index, element) in array.known() {
        let name = format!("element {} of `.`", usize::from(*index));
        if element.contains_undefined() {
            continue;
        }
        if element.contains_object() {
            wrong.extend(missing(element, &name));
        } else {
            wrong.push(format!("{name} is always {element}, not an operation"));
        }
    }
    wrong
}

/// Names the members that an object can never have as a text.
fn missing(kind: &Kind, name: &str) -> Vec<String> {
    let Some(object) = kind.as_object() else { return Vec::new() };
    MEMBERS
        .iter()
        .filter_map(|member| {
            let kind = object
                .known()
                .get(&Field::from(*member))
                .cloned()
                .unwrap_or_else(|| object.unknown_kind());
            if kind.contains_bytes() {
                None
            } else if kind.contains_any_defined() {
                Some(format!("`{member}` of {name} is always {kind}, not a text"))
            } else {
                Some(format!("{name} never has `{member}` at the end of the script"))
            }
        })
        .collect()
}
