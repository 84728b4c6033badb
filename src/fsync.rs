//! Names in a folder that survive a crash: a file that was created or renamed is found after it only
//! once its folder was synced too.

use std::fs::File;
use std::io;
use std::path::Path;

/// Makes the names in a folder durable.
///
/// # Errors
///
/// The operating system's.
pub fn folder(dir: &Path) -> io::Result<()> {
    // The parent of a relative name alone is empty.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

/// Makes the name of a file durable.
///
/// # Errors
///
/// As for [`folder`].
pub fn folder_of(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_name_alone_is_in_the_working_directory() {
        folder_of(Path::new("Cargo.toml")).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert_eq!(folder(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(folder_of(&missing.join("file")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
