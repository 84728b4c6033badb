//! The script files and the list that joins them, built in or from a folder.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::source::{MAX_SOURCE_BYTES, too_large};
use crate::config::tree::{Data, Entry, Node};
use crate::config::yaml;
use crate::diagnostic::{Diagnostic, Diagnostics, Place};

/// The list's file.
const LIST: &str = "mapping.yaml";
/// Largest file of tests.
const MAX_TESTS_BYTES: u64 = 1024 * 1024;

macro_rules! embed {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("../../vrl/", $name)))),*] };
}

const BUILT_IN_LIST: &str = include_str!("../../vrl/mapping.yaml");

const BUILT_IN_FILES: &[(&str, &str)] = embed! {
    "alias.vrl" "created.vrl" "email.vrl" "group.vrl" "identify.vrl" "mapped.vrl" "page.vrl"
    "person.vrl" "previous.vrl" "record.vrl" "related.vrl" "row.vrl" "screen.vrl" "sent.vrl"
    "track.vrl" "user.vrl" "when.vrl"
};

const BUILT_IN_TESTS: &[(&str, &str)] = embed! {
    "tests/alias.yaml" "tests/group.yaml" "tests/identify.yaml" "tests/page.yaml"
    "tests/record.yaml" "tests/screen.yaml" "tests/track.yaml"
};

/// Script texts and the list that joins them: read, and not compiled yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mappings {
    /// Event type (lower case) and its files in order.
    pub(crate) list: Vec<(String, Vec<String>)>,
    /// Text of the list, `mapping.yaml`.
    pub(crate) list_text: String,
    /// File name and text of each listed file.
    pub(crate) files: Vec<(String, String)>,
    /// Test files: name (`tests/track.yaml`) and text.
    pub(crate) tests: Vec<(String, String)>,
    /// The folder; `None` for the built-in scripts.
    pub(crate) dir: Option<PathBuf>,
}

impl Mappings {
    /// Returns the scripts that are part of the binary.
    #[must_use]
    pub fn built_in() -> Self {
        let own = |files: &[(&str, &str)]| {
            files.iter().map(|(n, t)| ((*n).into(), (*t).into())).collect()
        };
        Self {
            // A test holds that the built-in list is valid.
            list: parse_list(BUILT_IN_LIST, LIST).unwrap_or_default(),
            list_text: BUILT_IN_LIST.to_owned(),
            files: own(BUILT_IN_FILES),
            tests: own(BUILT_IN_TESTS),
            dir: None,
        }
    }

    /// Reads a folder like `vrl/`: `mapping.yaml`, the files that it lists, and `tests/*.yaml`.
    ///
    /// # Errors
    ///
    /// Diagnostics for an unreadable folder or file, and for mistakes in `mapping.yaml`.
    pub fn read(dir: &Path) -> Result<Self, Diagnostics> {
        let list_path = dir.join(LIST);
        let list_text = read_text(&list_path, MAX_SOURCE_BYTES as u64).map_err(|fault| {
            let help = "a mapping folder holds `mapping.yaml`; `init` writes one to begin with";
            vec![(*fault).help(help)]
        })?;
        let list = parse_list(&list_text, &list_path.display().to_string())?;
        let mut names: Vec<&String> = list.iter().flat_map(|(_, files)| files).collect();
        names.sort_unstable();
        names.dedup();
        let (mut files, mut faults) = (Vec::new(), Vec::new());
        for name in names {
            match read_text(&dir.join(name), MAX_SOURCE_BYTES as u64) {
                Ok(text) => files.push((name.clone(), text)),
                Err(fault) => faults.push(*fault),
            }
        }
        let tests = read_tests(dir).unwrap_or_else(|fault| {
            faults.push(*fault);
            Vec::new()
        });
        if !faults.is_empty() {
            return Err(faults.into());
        }
        Ok(Self { list, list_text, files, tests, dir: Some(dir.to_owned()) })
    }

    /// Returns the text of a file.
    #[must_use]
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.files.iter().find(|(n, _)| n == name).map(|(_, text)| text.as_str())
    }

    /// Returns a file's name as messages show it: with the folder, if there is one.
    #[must_use]
    pub(crate) fn shown(&self, name: &str) -> String {
        match &self.dir {
            Some(dir) => dir.join(name).display().to_string(),
            None => name.to_owned(),
        }
    }
}

fn read_text(path: &Path, limit: u64) -> Result<String, Box<Diagnostic>> {
    let name = path.display().to_string();
    let fault = |message: String| {
        let place = Place { file: name.clone(), ..Place::default() };
        Box::new(Diagnostic::error("unreadable", message).at(place))
    };
    match fs::metadata(path) {
        Ok(about) if !about.is_file() => return Err(fault("this is not a file".to_owned())),
        Ok(about) if about.len() > limit => return Err(Box::new(too_large(&name))),
        Ok(_) => {}
        Err(error) => return Err(fault(format!("cannot read the file: {error}"))),
    }
    let bytes = fs::read(path).map_err(|error| fault(format!("cannot read the file: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| fault("the file is not UTF-8".to_owned()))?;
    // Editors on Windows begin a file with a byte order mark, which VRL does not know.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn read_tests(dir: &Path) -> Result<Vec<(String, String)>, Box<Diagnostic>> {
    let folder = dir.join("tests");
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".yaml") || name.ends_with(".yml"))
        .collect();
    names.sort_unstable();
    let read = |name: String| {
        let text = read_text(&folder.join(&name), MAX_TESTS_BYTES)?;
        Ok((format!("tests/{name}"), text))
    };
    names.into_iter().map(read).collect()
}

fn parse_list(text: &str, file: &str) -> Result<Vec<(String, Vec<String>)>, Vec<Diagnostic>> {
    let root = yaml::parse(text, file)?;
    let mut reading = Reading { file, faults: Vec::new() };
    if !matches!(root.data, Data::Map(_) | Data::Null) {
        reading.fault(&root, None, "the list must be a mapping of event types", SHAPE);
    }
    let mut list: Vec<(String, Vec<String>)> = Vec::new();
    for entry in root.entries() {
        let name = entry.key.to_lowercase();
        if list.iter().any(|(known, _)| *known == name) {
            let message = format!("the type `{name}` is listed twice (types have no case)");
            reading.fault(&entry.value, Some(&entry.key), &message, "join both lists");
            continue;
        }
        let files = reading.files(entry);
        list.push((name, files));
    }
    if list.is_empty() && reading.faults.is_empty() {
        reading.fault(&root, None, "no event type is listed", SHAPE);
    }
    if reading.faults.is_empty() { Ok(list) } else { Err(reading.faults) }
}

const SHAPE: &str = "write one line per event type, such as `track: [person.vrl, track.vrl]`";

struct Reading<'a> {
    file: &'a str,
    faults: Vec<Diagnostic>,
}

impl Reading<'_> {
    fn fault(&mut self, node: &Node, key: Option<&str>, message: &str, help: &str) {
        let place = Place {
            file: self.file.to_owned(),
            line: node.at.line,
            column: node.at.column,
            key: key.map(str::to_owned),
            source: None,
        };
        self.faults.push(Diagnostic::error("mapping_list", message).at(place).help(help));
    }

    fn files(&mut self, entry: &Entry) -> Vec<String> {
        let key = Some(entry.key.as_str());
        let elements = entry.value.elements();
        if !matches!(entry.value.data, Data::List(_)) {
            self.fault(&entry.value, key, "expected a list of files", SHAPE);
        } else if elements.is_empty() {
            self.fault(
                &entry.value,
                key,
                "the list is empty",
                "remove the type, or list its files",
            );
        }
        let mut files = Vec::new();
        for element in elements {
            let inside = |name: &str| {
                Path::new(name).components().all(|c| matches!(c, Component::Normal(_)))
                    && !name.is_empty()
            };
            match element.as_text() {
                Some(name) if inside(name) => files.push(name.to_owned()),
                Some(_) => self.fault(element, key, "the file lies outside of the folder", SHAPE),
                None => self.fault(element, key, "expected a file name", SHAPE),
            }
        }
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<(u32, u32, String)> {
        parse_list(text, LIST)
            .unwrap_err()
            .into_iter()
            .map(|d| {
                let place = d.place.unwrap();
                (place.line, place.column, d.message)
            })
            .collect()
    }

    #[test]
    fn mistakes_in_the_list_are_told_with_their_place() {
        let text =
            "track: [a.vrl, ../b.vrl, /etc/passwd, 5]\nTrack: [a.vrl]\npage: a.vrl\ngroup: []\n";
        let found = faults(text);
        let at: Vec<_> = found.iter().map(|(line, column, _)| (*line, *column)).collect();
        assert_eq!(at, [(1, 16), (1, 26), (1, 39), (2, 8), (3, 7), (4, 8)], "{found:?}");
        assert!(found[0].2.contains("outside"));
        assert!(found[3].2.contains("twice"));
        assert_eq!(faults("- a\n")[0].0, 1);
        assert_eq!(faults("")[0].2, "no event type is listed");
    }

    #[test]
    fn a_file_in_a_subfolder_is_fine() {
        let list = parse_list("Track: [shared/a.vrl, b.vrl]", LIST).unwrap();
        let files = vec!["shared/a.vrl".to_owned(), "b.vrl".to_owned()];
        assert_eq!(list, [("track".to_owned(), files)]);
    }

    #[test]
    fn all_unreadable_files_are_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Mappings::read(dir.path()).unwrap_err()[0].code, "unreadable");
        fs::write(dir.path().join(LIST), "a: [no.vrl, folder, big.vrl, latin.vrl, ok.vrl]")
            .unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        fs::write(dir.path().join("big.vrl"), " ".repeat(MAX_SOURCE_BYTES + 1)).unwrap();
        fs::write(dir.path().join("latin.vrl"), b"x = \"\xe9\"").unwrap();
        fs::write(dir.path().join("ok.vrl"), "\u{feff}. = []").unwrap();
        let faults = Mappings::read(dir.path()).unwrap_err();
        let codes: Vec<_> = faults.iter().map(|d| d.code.as_str()).collect();
        assert_eq!(codes, ["script_too_large", "unreadable", "unreadable", "unreadable"]);
        fs::write(dir.path().join(LIST), "a: [ok.vrl]").unwrap();
        assert_eq!(Mappings::read(dir.path()).unwrap().text("ok.vrl"), Some(". = []"));
    }
}
