//! The data directory: one process at a time, and how others find that process.
//!
//! The lock is the operating system's, on the file `lock` in the directory: it ends with the
//! process however that ends, and no child inherits it. What stands in the file is a note for
//! people and for other commands; whether the directory is held is told by the lock alone.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
#[cfg(feature = "pipeline")]
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::diagnostic::{Diagnostic, Place};

const FILE: &str = "lock";

/// How often a lock is tried: whoever looks for the holder has it for a moment, and a process that
/// ends may still have it for one.
const TRIES: u32 = 25;
const PAUSE: Duration = Duration::from_millis(20);

/// A data directory that is this process' own until the value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    file: Mutex<File>,
}

/// The process that holds a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Where its admin endpoints listen, once they do.
    pub admin: Option<SocketAddr>,
}

impl DataDir {
    /// Takes the directory, which is created with mode 0700 if it is missing. Blocks for half a
    /// second if somebody else has it.
    ///
    /// # Errors
    ///
    /// A diagnostic that names the process that has it, or what the operating system said.
    pub fn lock(path: &Path) -> Result<Self, Diagnostic> {
        let cannot = |doing: &str, error: &io::Error| {
            fault(path, format!("cannot {doing} the data directory {}: {error}", path.display()))
                .help("let this user write there, or set `data_dir` to another folder")
        };
        check(path)?;
        create(path).map_err(|error| cannot("create", &error))?;
        let file = open_to_lock(&path.join(FILE)).map_err(|error| cannot("lock", &error))?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => {
                    let this = Self { path: path.to_owned(), file: Mutex::new(file) };
                    if let Err(error) = this.note(None) {
                        // On a full disk what is stored must be delivered all the same. What an
                        // earlier process has left would lead to that one.
                        this.blank().ok();
                        tracing::warn!(
                            dir = %path.display(),
                            %error,
                            "The lock file cannot be written; other commands will not find this \
                             process.",
                        );
                    }
                    return Ok(this);
                }
                Err(TryLockError::WouldBlock) => sleep(PAUSE),
                Err(TryLockError::Error(error)) => return Err(cannot("lock", &error)),
            }
        }
        Err(taken(path))
    }

    /// Returns the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names the address of this process' admin endpoints, by which other commands find it.
    ///
    /// # Errors
    ///
    /// When the lock file cannot be written; the lock is held all the same.
    #[cfg(feature = "pipeline")]
    pub fn announce(&self, admin: SocketAddr) -> io::Result<()> {
        self.note(Some(reachable(admin)))
    }

    fn note(&self, admin: Option<SocketAddr>) -> io::Result<()> {
        let mut note = serde_json::to_vec(&Holder { pid: std::process::id(), admin })?;
        note.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Cut last: a reader takes the first line, and finds one at every moment.
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&note)?;
        file.set_len(note.len() as u64)
    }

    /// Makes the note unreadable. The file keeps its size: on a disk that is full when the next
    /// process starts, there would be no room for another note.
    fn blank(&self) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let len = file.metadata()?.len().min(1024);
        file.set_len(len)?;
        file.seek(SeekFrom::Start(0))?;
        io::copy(&mut io::repeat(b' ').take(len), &mut *file).map(drop)
    }

    /// Returns who holds the directory; `None` if nobody does, whatever the lock file says.
    ///
    /// # Errors
    ///
    /// When the lock file cannot be read. May block for half a second.
    pub fn holder(path: &Path) -> io::Result<Option<Holder>> {
        let mut file = match File::open(path.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        for _ in 0..TRIES {
            match file.try_lock_shared() {
                Ok(()) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            let mut text = String::new();
            file.seek(SeekFrom::Start(0))?;
            file.read_to_string(&mut text)?;
            // A process that has only just taken the lock has not written yet.
            if let Some(Ok(holder)) = text.lines().next().map(serde_json::from_str) {
                return Ok(Some(holder));
            }
            sleep(PAUSE);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the lock file does not say who holds it"))
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // For people who look into the file; without it, nothing is wrong.
        self.blank().ok();
    }
}

/// Checks that the directory, if there is something of its name, is one.
///
/// # Errors
///
/// A diagnostic for a file, or for a link to nothing.
pub fn check(path: &Path) -> Result<(), Diagnostic> {
    let what = match (std::fs::symlink_metadata(path), std::fs::metadata(path)) {
        (Ok(_), Ok(found)) if !found.is_dir() => "is not a directory",
        (Ok(_), Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            "is not a directory, but a link to nothing"
        }
        // What else is wrong is told by the operating system when it is opened.
        _ => return Ok(()),
    };
    Err(fault(path, format!("the data directory {} {what}", path.display()))
        .help("move it away, or set `data_dir` to a folder"))
}

fn create(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn open_to_lock(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)
}

/// Returns an address to connect to for one that may mean every address of the machine.
#[cfg(feature = "pipeline")]
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn taken(path: &Path) -> Diagnostic {
    let pid = DataDir::holder(path).ok().flatten().map(|holder| holder.pid);
    let who = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    // The same number may be that of a process in another container, too.
    let help = if pid == Some(std::process::id()) {
        "stop that process, or, if it is this one, drain the sink that has it and drop its handles \
         first; or set `data_dir` to another folder"
    } else {
        "stop that process, or set `data_dir` to another folder"
    };
    fault(path, format!("the data directory {} is in use by {who}", path.display())).help(help)
}

fn fault(path: &Path, message: String) -> Diagnostic {
    let place = Place { file: path.display().to_string(), ..Place::default() };
    Diagnostic::error("data_dir", message).at(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: &str = "127.0.0.1:9797";

    fn pid() -> u32 {
        std::process::id()
    }

    #[test]
    fn a_second_one_is_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let held = DataDir::lock(&path).unwrap();
        let refused = DataDir::lock(&path).unwrap_err();
        assert_eq!(refused.code, "data_dir");
        assert!(refused.message.contains(&format!("process {}", pid())), "{refused}");
        let help = refused.help.unwrap();
        assert!(help.contains("data_dir") && help.contains("drop its handles"), "{help}");
        drop(held);
        DataDir::lock(&path).unwrap();
    }

    #[test]
    fn the_holder_is_found_with_its_address_for_as_long_as_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(DataDir::holder(&dir.path().join("nothing")).unwrap(), None);
        let held = DataDir::lock(dir.path()).unwrap();
        let without = Holder { pid: pid(), admin: None };
        assert_eq!(DataDir::holder(dir.path()).unwrap(), Some(without));
        held.announce("0.0.0.0:9797".parse().unwrap()).unwrap();
        let with = Holder { admin: Some(ADMIN.parse().unwrap()), ..without };
        assert_eq!(DataDir::holder(dir.path()).unwrap(), Some(with));
        drop(held);
        assert_eq!(DataDir::holder(dir.path()).unwrap(), None);
    }

    #[test]
    fn what_a_killed_process_left_behind_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let note = format!(r#"{{"pid":1,"admin":"{ADMIN}"}} and more"#);
        std::fs::write(dir.path().join(FILE), note).unwrap();
        assert_eq!(DataDir::holder(dir.path()).unwrap(), None);
        let held = DataDir::lock(dir.path()).unwrap();
        assert_eq!(DataDir::holder(dir.path()).unwrap().unwrap().pid, pid());
        drop(held);
    }

    #[test]
    fn a_look_at_the_holder_does_not_keep_a_process_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::lock(dir.path()).unwrap());
        let look = File::open(dir.path().join(FILE)).unwrap();
        look.try_lock_shared().unwrap();
        let locked = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| (0..20).any(|_| DataDir::lock(dir.path()).is_ok()));
            while !waiting.is_finished() {
                sleep(PAUSE);
                look.unlock().unwrap();
            }
            waiting.join().unwrap()
        });
        assert!(locked);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let refused = DataDir::lock(&file.join("data")).unwrap_err();
        assert!(refused.message.contains("cannot create"), "{refused}");
        assert!(refused.help.is_some());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_directory_is_called_so_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(dir.path().join("nothing"), &link).unwrap();
        for path in [&file, &link] {
            let refused = DataDir::lock(path).unwrap_err();
            assert!(refused.message.contains("is not a directory"), "{refused}");
            assert!(refused.help.unwrap().contains("data_dir"));
        }
        std::fs::create_dir(dir.path().join("nothing")).unwrap();
        DataDir::lock(&link).unwrap();
    }

    #[test]
    fn the_room_of_the_note_stays_for_the_next_but_not_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::lock(dir.path()).unwrap());
        let left = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(!left.is_empty() && left.trim().is_empty(), "{left:?}");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_look_into_a_directory_that_was_created() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let _held = DataDir::lock(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join(FILE))), (0o700, 0o600));
    }
}
