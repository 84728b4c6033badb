//! The folder of dead letters: which files are in it, in which order, and names that are durable.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::fsync;

/// Lists the files of a folder in order, with their sizes; a folder that is not there is empty.
pub fn list(dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(named(dir, &error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Some(place) = place(&path) else { continue };
        match fs::metadata(&path) {
            Ok(file) if file.is_file() => files.push((place, path, file.len())),
            // Removed meanwhile, or no file.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(named(&path, &error)),
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path, size)| (path, size)).collect())
}

/// Makes names in a folder durable.
pub fn sync(dir: &Path) -> io::Result<()> {
    fsync::folder(dir).map_err(|e| named(dir, &e))
}

/// Reads date and number from a file's name; files of other names are left alone.
pub fn place(path: &Path) -> Option<(String, u64)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".ndjson")?;
    let (date, n) = stem.rsplit_once('-')?;
    let valid = chrono::NaiveDate::parse_from_str(date, "%Y-%m-%d").is_ok();
    valid.then(|| Some((date.to_owned(), n.parse().ok()?)))?
}

/// Puts the path in front of an error.
pub fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
