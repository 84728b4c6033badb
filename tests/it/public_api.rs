//! What the library exports: a name or signature that changes is seen here, and meant.

mod crates;
mod list;
mod macros;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use self::crates::Crate;
use self::list::exported;

const WHAT_TO_DO: &str = "The public API has changed. A program that embeds the library may not \
compile any more, or may now rely on what is new: review the difference, give it a line in \
CHANGELOG.md, and accept it with `INSTA_UPDATE=always cargo test --test it public_api`. What should \
not be public is `pub(crate)`, or `pub` in a private module.";

/// The sources by their path below `src/`.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn the_exported_names_and_signatures_are_as_reviewed() {
    let list = exported(&Crate::read(&sources()));
    insta::with_settings!({ description => WHAT_TO_DO, omit_expression => true }, {
        insta::assert_snapshot!("public_api", list);
    });
}

fn list_of(files: &[(&str, &str)]) -> String {
    let owned = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    exported(&Crate::read(&owned.collect()))
}

const LIB: &str = "mod hidden; pub mod shown; pub use hidden::Thing; use hidden::Other as Private;";
const HIDDEN: &str = "
    #[derive(Clone)] pub struct Thing { pub field: u8, own: u8 }
    pub struct Other;
    pub(crate) trait Inner {}
    impl Inner for Thing {}
    impl std::fmt::Display for Thing { }
    impl Thing {
        pub fn seen(&self, a: Option<&str>) -> Vec<u8> {}
        pub(crate) fn unseen(&self) {}
        fn own(&self) {}
        #[cfg(test)] pub fn for_tests(&self) {}
    }";
const SHOWN: &str = "pub use crate::hidden::Thing as Renamed; pub const N: u8 = 1;
    #[non_exhaustive] pub enum Kind { One, Two { a: u8 }, Three(u8) }
    pub async fn run<T: Into<u8>>(t: T) -> Result<(), u8> {} #[cfg(test)] pub fn test() {}";

#[test]
fn what_can_be_named_from_outside_is_listed_under_every_path() {
    let list = list_of(&[("lib.rs", LIB), ("hidden.rs", HIDDEN), ("shown.rs", SHOWN)]);
    insta::assert_snapshot!(list, @r"
    shown::Kind
        enum Kind (non-exhaustive)
            One
            Two { a: u8 }
            Three(u8)

    shown::N
        const N: u8 = 1

    shown::Renamed
    Thing
        struct Thing: Clone
            field: u8
            ..
            impl std::fmt::Display
            fn seen(&self, a: Option<&str>) -> Vec<u8>

    shown::run
        async fn run<T: Into<u8>>(t: T) -> Result<(), u8>
    ");
}

#[test]
fn a_change_of_a_name_or_a_signature_shows() {
    let before = list_of(&[("lib.rs", LIB), ("hidden.rs", HIDDEN), ("shown.rs", SHOWN)]);
    for (from, to, shows) in [
        ("pub fn seen", "pub fn looked", true),
        ("Option<&str>", "Option<&u8>", true),
        ("pub field: u8", "pub field: u16", true),
        ("derive(Clone)", "derive(Debug)", true),
        ("impl std::fmt::Display", "impl std::fmt::Debug", true),
        ("own: u8", "own: u16", false),
        ("pub(crate) fn unseen", "pub(crate) fn gone", false),
        ("pub struct Other", "pub struct Another", false),
    ] {
        let changed = HIDDEN.replace(from, to);
        assert_ne!(changed, HIDDEN);
        let lib =
            LIB.replace("Other", if changed.contains("Another") { "Another" } else { "Other" });
        let after = list_of(&[("lib.rs", &lib), ("hidden.rs", &changed), ("shown.rs", SHOWN)]);
        assert_eq!(after != before, shows, "{from} → {to}");
    }
}
