//! Whether the file that is worked with is the one that the next start will find.
//!
//! A file that is removed, or replaced by another, goes on to take writes, which nobody finds
//! afterwards. So its name is looked at with every sync, and each second. One that was removed is
//! written again under its name, from what is still open; beside another one that took its place
//! nothing is touched.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::fsync;

/// A file by name, and as it was opened last.
#[derive(Debug)]
pub(super) struct Presence {
    path: PathBuf,
    /// Shares its locks with the file that was given away; those end when the next is opened.
    opened: Mutex<Option<File>>,
}

impl Presence {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), opened: Mutex::new(None) }
    }

    fn opened(&self) -> MutexGuard<'_, Option<File>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the next opening take whatever has the name.
    pub(super) fn forget(&self) {
        *self.opened() = None;
    }

    /// Opens the file: anew if it is the one that was opened before, else that one again.
    pub(super) fn open(&self) -> io::Result<File> {
        let mut opened = self.opened();
        if let Some(before) = &*opened {
            match fs::metadata(&self.path) {
                Ok(found) if is_same(&found, before)? => {}
                Ok(_) => return before.try_clone(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if let Err(error) = self.restore(before) {
                        tracing::debug!(%error, "The file cannot be written again.");
                        return before.try_clone();
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let file = self.find()?;
        *opened = Some(file.try_clone()?);
        Ok(file)
    }

    fn find(&self) -> io::Result<File> {
        let file = match OpenOptions::new().read(true).write(true).open(&self.path) {
            // Writing fails then, and says so; reading goes on.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                File::open(&self.path)?
            }
            opened => opened?,
        };
        if file.metadata()?.len() == 0 {
            // A database gets its name only once it is whole; redb would begin a new one.
            return Err(io::Error::new(io::ErrorKind::InvalidData, EMPTY));
        }
        Ok(file)
    }

    /// Writes the file that was removed under its name again. Nobody writes to it meanwhile: it is
    /// as a crash would have left it.
    fn restore(&self, before: &File) -> io::Result<()> {
        let copy = self.path.with_added_extension("new");
        let mut options = OpenOptions::new();
        let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&copy)?;
        let mut before = before;
        // Not after gigabytes were copied.
        if let Err(error) = can_link(&copy) {
            fs::remove_file(&copy)?;
            return Err(error);
        }
        before.rewind()?;
        let written = io::copy(&mut before, &mut out).and_then(|_| out.sync_all());
        // A hard link, unlike a renaming, never takes the place of another file.
        let named = written.and_then(|()| fs::hard_link(&copy, &self.path));
        fs::remove_file(&copy)?;
        named?;
        fsync::folder_of(&self.path)?;
        tracing::warn!(
            file = %self.path.display(),
            "The file of the buffer was removed; it was written again with all that waits in it.",
        );
        Ok(())
    }

    /// Tells by an error that another start would not find the file that was opened.
    pub(super) fn check(&self) -> io::Result<()> {
        let opened = self.opened();
        let Some(opened) = &*opened else { return Ok(()) };
        let same = match fs::metadata(&self.path) {
            Ok(found) => is_same(&found, opened)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if same { Ok(()) } else { Err(io::Error::new(io::ErrorKind::NotFound, GONE)) }
    }
}

/// What is said of a file without content.
pub(super) const EMPTY: &str = "it is an empty file";

const GONE: &str = "the file was removed or replaced while it was in use; restart once the right \
     one is in its place";

/// Tells by an error that the file system has no hard links.
fn can_link(file: &Path) -> io::Result<()> {
    let link = file.with_added_extension("link");
    fs::hard_link(file, &link)?;
    fs::remove_file(&link)
}

fn is_same(found: &fs::Metadata, opened: &File) -> io::Result<bool> {
    let opened = opened.metadata()?;
    Ok((found.dev(), found.ino()) == (opened.dev(), opened.ino()))
}
