//! A disk in memory that fails, fills up, or loses power.

use std::io;
use std::sync::{Mutex, PoisonError};

use redb::StorageBackend;

use super::*;

/// A disk whose writes are lost unless they are synced, and which fails when told to.
#[derive(Debug, Default)]
pub(super) struct Disk(Mutex<Platter>);

#[derive(Debug, Default)]
pub(super) struct Platter {
    seen: Vec<u8>,
    durable: Vec<u8>,
    dirty: Vec<(usize, usize)>,
    /// Operations until it fails, and how many then fail.
    pub(super) fails: Option<(u64, u64)>,
    pub(super) failing: Option<Failing>,
    /// Its size; 0 for one that is never full.
    pub(super) size: u64,
    /// Syncs wait until it is taken away.
    pub(super) stuck: bool,
    /// Syncs that have begun.
    pub(super) syncs: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Failing {
    Writes,
    Syncs,
    Growth,
    Everything,
}

impl Disk {
    pub(super) fn platter(&self) -> std::sync::MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fail(&self, how: Failing, after: u64, times: u64) {
        let mut platter = self.platter();
        platter.failing = Some(how);
        platter.fails = Some((after, times));
    }

    pub(super) fn heal(&self) {
        self.platter().failing = None;
    }

    /// Returns what a loss of power now would leave.
    pub(super) fn after_a_crash(&self) -> Arc<Self> {
        let durable = self.platter().durable.clone();
        let platter = Platter { seen: durable.clone(), durable, ..Platter::default() };
        Arc::new(Self(Mutex::new(platter)))
    }

    /// Waits until the disk has, durably, so many events that wait. Gives up after a long time.
    pub(super) async fn until_it_has(&self, events: u64) {
        for _ in 0..3000 {
            let disk = self.after_a_crash();
            let there = tokio::task::spawn_blocking(move || {
                disk.try_open().map(|buffer| buffer.stats().events).ok()
            });
            if there.await.unwrap() == Some(events) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never had {events} events");
    }

    /// Forgets what was not synced, but for a part of it that happened to reach the disk.
    pub(super) fn lose_power(&self, random: &mut fastrand::Rng) -> Arc<Self> {
        let mut platter = self.platter();
        let mut durable = std::mem::take(&mut platter.durable);
        durable.resize(durable.len().max(platter.seen.len()), 0);
        for (start, end) in std::mem::take(&mut platter.dirty) {
            if random.bool() && end <= platter.seen.len() {
                durable[start..end].copy_from_slice(&platter.seen[start..end]);
            }
        }
        let platter = Platter { seen: durable.clone(), durable, ..Platter::default() };
        Arc::new(Self(Mutex::new(platter)))
    }

    pub(super) fn factory(self: &Arc<Self>) -> BackendFactory {
        let disk = Arc::clone(self);
        Arc::new(move || Ok(Box::new(Handle(Arc::clone(&disk))) as Box<dyn StorageBackend>))
    }

    pub(super) fn open(self: &Arc<Self>) -> DiskBuffer {
        self.try_open().unwrap()
    }

    pub(super) fn try_open(self: &Arc<Self>) -> Result<DiskBuffer, Vec<Diagnostic>> {
        let options = options(Path::new("/nowhere"), 1 << 30, WhenFull::Wait);
        DiskBuffer::open_with(options, self.factory())
    }
}

impl Platter {
    fn may(&mut self, what: Failing) -> io::Result<()> {
        let Some(failing) = self.failing else { return Ok(()) };
        if failing != Failing::Everything && failing != what {
            return Ok(());
        }
        let Some((after, times)) = &mut self.fails else { return Ok(()) };
        if *after > 0 {
            *after -= 1;
            return Ok(());
        }
        if *times == 0 {
            self.failing = None;
            return Ok(());
        }
        *times -= 1;
        Err(match what {
            Failing::Growth | Failing::Writes => io::ErrorKind::StorageFull.into(),
            _ => io::Error::other("the disk is ill"),
        })
    }
}

#[derive(Debug)]
struct Handle(Arc<Disk>);

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.platter().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.platter();
        let start = usize::try_from(offset).unwrap();
        let bytes = platter.seen.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.0.platter();
        if platter.size > 0 && len > platter.size {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if len > platter.seen.len() as u64 {
            platter.may(Failing::Growth)?;
        }
        platter.seen.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.platter().syncs += 1;
        while self.0.platter().stuck {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut platter = self.0.platter();
        let dirty = std::mem::take(&mut platter.dirty);
        // As Linux does: what could not be synced is not tried again.
        platter.may(Failing::Syncs)?;
        let len = platter.seen.len();
        platter.durable.resize(len, 0);
        let Platter { seen, durable, .. } = &mut *platter;
        for (start, end) in dirty {
            let end = end.min(len);
            if start < end {
                durable[start..end].copy_from_slice(&seen[start..end]);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.0.platter();
        platter.may(Failing::Writes)?;
        let start = usize::try_from(offset).unwrap();
        let end = start + data.len();
        platter.seen.get_mut(start..end).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        platter.dirty.push((start, end));
        Ok(())
    }
}
