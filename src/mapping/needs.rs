//! What a program can read of an event, and the proof that the rest may be left out.
//!
//! VRL records every path of the event that a program can read. What lies outside cannot influence
//! the run, but it could remain in `.` and so in the result. So an event is pruned only when the
//! type of `.` at the end is closed, which shows that every way through the program replaced the
//! root.

use std::sync::Arc;

use vrl::compiler::Program;
use vrl::path::{OwnedSegment, PathPrefix};
use vrl::value::Kind;

use crate::event::Need;

/// What a program can read.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    /// What the decoder has to build.
    pub(super) need: Need,
    /// Why everything is built; `None` if the event is pruned.
    pub(super) why_all: Option<&'static str>,
    /// The paths that the program reads, as far as they go without an index; sorted, each once.
    pub(super) reads: Vec<Arc<[String]>>,
}

/// Finds out what a program can read.
pub(super) fn prove(program: &Program) -> Proof {
    let reads = reads(program);
    let why_all = if reads.iter().any(|path| path.is_empty()) {
        Some("it reads the event as a whole (`.` or `get`)")
    } else {
        let end = program.final_type_info();
        if !end.result.returns().is_never() {
            Some("it uses `return`")
        } else if !is_closed(end.state.external.target_kind()) {
            Some("not every way through it replaces the event by `. = …`")
        } else {
            None
        }
    };
    let need = if why_all.is_some() { Need::All } else { tree(&reads) };
    Proof { need, why_all, reads }
}

fn reads(program: &Program) -> Vec<Arc<[String]>> {
    let mut paths: Vec<Arc<[String]>> = program
        .info()
        .target_queries
        .iter()
        .filter(|path| path.prefix == PathPrefix::Event)
        .map(|path| {
            path.path
                .segments
                .iter()
                .map_while(|segment| match segment {
                    OwnedSegment::Field(name) => Some(name.to_string()),
                    OwnedSegment::Index(_) => None,
                })
                .collect()
        })
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

fn tree(paths: &[Arc<[String]>]) -> Need {
    let mut root = Need::Some(Vec::new());
    for path in paths {
        add(&mut root, path);
    }
    root
}

fn add(need: &mut Need, path: &[String]) {
    let Some((first, rest)) = path.split_first() else {
        *need = Need::All;
        return;
    };
    let Need::Some(members) = need else { return };
    match members.iter_mut().find(|(name, _)| **name == **first) {
        Some((_, inner)) => add(inner, rest),
        None => {
            let mut inner = Need::Some(Vec::new());
            add(&mut inner, rest);
            members.push((first.as_str().into(), inner));
        }
    }
}

/// Whether a value of this kind holds nothing but what the program put there.
///
/// Below the root the kinds are those of values that the program read or made, so only the root and
/// the elements of an array there (several operations) have to be looked at.
fn is_closed(kind: &Kind) -> bool {
    let members = kind.as_object().is_none_or(|o| !o.unknown_kind().contains_any_defined());
    let elements = kind.as_array().is_none_or(|array| {
        !array.unknown_kind().contains_any_defined() && array.known().values().all(is_closed)
    });
    members && elements
}
