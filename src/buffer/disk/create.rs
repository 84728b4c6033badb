//! The first opening. redb makes its file in several steps, and what a kill leaves in between looks
//! like damage. So the database is made under another name, and gets its own once it is whole.

use std::fs;
use std::io;
use std::path::Path;

use super::backend;
use super::failure::Failure;
use super::reserve::Reserve;
use super::store::Store;
use crate::fsync;

/// Makes an empty database in `file` unless something is there.
pub(super) fn create(file: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::from(redb::Error::Io(error));
    if file.try_exists().map_err(failed)? {
        return Ok(());
    }
    let fresh = file.with_added_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let store = Store::new(fresh.clone(), backend::new_file(&fresh), Reserve::new(None));
    store.open()?;
    store.close();
    fs::rename(&fresh, file).and_then(|()| fsync::folder_of(file)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::presence::Presence;
    use super::*;

    #[test]
    fn what_a_cut_off_creation_left_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("events.redb");
        fs::write(dir.path().join("events.redb.new"), [0; 8192]).unwrap();
        create(&file).unwrap();
        let names = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["events.redb"]);
        let factory = backend::file(&Arc::new(Presence::new(&file)));
        Store::new(file, factory, Reserve::new(None)).open().unwrap();
    }

    #[test]
    fn what_is_there_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("events.redb");
        fs::write(&file, "no database").unwrap();
        create(&file).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"no database");
    }
}
