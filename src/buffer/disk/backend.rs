//! Where redb's bytes go: a file, or what a test puts in its place.

use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use super::presence::Presence;

/// Opens the storage; called again after each failure.
pub type BackendFactory = Arc<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync>;

/// Makes the factory for a file that is there.
pub(super) fn file(presence: &Arc<Presence>) -> BackendFactory {
    let presence = Arc::clone(presence);
    Arc::new(move || {
        let backend = FileBackend::new(presence.open()?).map_err(io::Error::other)?;
        Ok(Box::new(Present { below: Boxed(Box::new(backend)), presence: Arc::clone(&presence) })
            as Box<dyn StorageBackend>)
    })
}

/// Makes the factory for a new file that only its owner may read.
pub(super) fn new_file(path: &Path) -> BackendFactory {
    let path = path.to_owned();
    Arc::new(move || {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let backend = FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Box::new(backend) as Box<dyn StorageBackend>)
    })
}

/// Storage whose syncs fail when others would not find what was written: a commit to a file that
/// was removed must not be acknowledged.
#[derive(Debug)]
struct Present {
    below: Boxed,
    presence: Arc<Presence>,
}

/// redb takes a backend by type, not by trait object.
#[derive(Debug)]
pub(super) struct Boxed(pub(super) Box<dyn StorageBackend>);

type Io<T> = Result<T, io::Error>;
type Lock<T> = Result<T, BackendError>;

impl StorageBackend for Boxed {
    fn len(&self) -> Io<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Io<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Io<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Io<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Io<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> Io<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<bool> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<bool> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<()> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<()> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<()> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<bool> {
        self.0.query_lock_range(start, end)
    }
}

impl StorageBackend for Present {
    fn len(&self) -> Io<u64> {
        self.below.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Io<()> {
        self.below.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Io<()> {
        self.below.set_len(len)
    }

    fn sync_data(&self) -> Io<()> {
        self.below.sync_data()?;
        self.presence.check()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Io<()> {
        self.below.write(offset, data)
    }

    fn close(&self) -> Io<()> {
        self.below.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<bool> {
        self.below.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<bool> {
        self.below.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<()> {
        self.below.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<()> {
        self.below.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<()> {
        self.below.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Lock<bool> {
        self.below.query_lock_range(start, end)
    }
}
