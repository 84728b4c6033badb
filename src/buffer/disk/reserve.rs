//! Room that is kept so that a full disk can be emptied.
//!
//! Removing a row writes pages before it frees any, and the file has holes where redb has not
//! written yet: on a full disk not even a removal could be committed. So a file of a few MiB is
//! kept beside the database. It is given up when the disk is full, and events are only taken again
//! once it could be written again.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::failure::Failure;

/// Size of the file: some hundred commits of settlements.
const BYTES: u64 = 4 * 1024 * 1024;

/// The file that keeps the room.
#[derive(Debug)]
pub(super) struct Reserve {
    file: Option<PathBuf>,
    /// Stands for a disk without room for it.
    #[cfg(test)]
    pub(super) no_room: bool,
}

impl Reserve {
    /// Keeps the room in `file`; without one there is no reserve.
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self {
            file,
            #[cfg(test)]
            no_room: false,
        }
    }

    /// Writes the file unless it is there in full.
    pub(super) fn ensure(&self) -> Result<(), Failure> {
        #[cfg(test)]
        if self.no_room {
            return Err(Failure::Full("no room".to_owned()));
        }
        let Some(file) = &self.file else { return Ok(()) };
        if std::fs::metadata(file).is_ok_and(|found| found.len() == BYTES) {
            return Ok(());
        }
        let written = self.write(file);
        if written.is_err() {
            self.release();
        }
        written.map_err(|error| redb::Error::Io(error).into())
    }

    fn write(&self, file: &PathBuf) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(file)?;
        // Not zeros: some file systems store those without taking any room.
        let mut block = vec![0; 64 * 1024];
        for _ in 0..BYTES / 65_536 {
            fastrand::fill(&mut block);
            out.write_all(&block)?;
        }
        out.sync_all()
    }

    /// Gives the room up.
    pub(super) fn release(&self) {
        if let Some(file) = &self.file
            && let Err(error) = std::fs::remove_file(file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(
                file = %file.display(),
                %error,
                "The reserve of the buffer cannot be given up.",
            );
        }
    }
}
