//! Disks that fail, lose power, or hold something else than a buffer.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use redb::{ReadableTable, StorageBackend};

use super::*;
use crate::buffer::disk::meta::Meta;
use crate::buffer::disk::rewrite::Which;
use crate::buffer::disk::store::Change;

/// A disk whose writes are lost unless they are synced, and which fails when told to.
#[derive(Debug, Default)]
struct Disk(Mutex<Platter>);

#[derive(Debug, Default)]
struct Platter {
    seen: Vec<u8>,
    durable: Vec<u8>,
    dirty: Vec<(usize, usize)>,
    /// Operations until it fails, and how many then fail.
    fails: Option<(u64, u64)>,
    failing: Option<Failing>,
    /// Its size; 0 for one that is never full.
    size: u64,
    /// Syncs wait until it is taken away.
    stuck: bool,
    /// Syncs that have begun.
    syncs: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Failing {
    Writes,
    Syncs,
    Growth,
    Everything,
}

impl Disk {
    fn platter(&self) -> std::sync::MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, how: Failing, after: u64, times: u64) {
        let mut platter = self.platter();
        platter.failing = Some(how);
        platter.fails = Some((after, times));
    }

    fn heal(&self) {
        self.platter().failing = None;
    }

    /// Returns what a loss of power now would leave.
    fn after_a_crash(&self) -> Arc<Self> {
        let durable = self.platter().durable.clone();
        let platter = Platter { seen: durable.clone(), durable, ..Platter::default() };
        Arc::new(Self(Mutex::new(platter)))
    }

    /// Waits until the disk has, durably, so many events that wait. Gives up after a long time.
    async fn until_it_has(&self, events: u64) {
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
    fn lose_power(&self, random: &mut fastrand::Rng) -> Arc<Self> {
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

    fn factory(self: &Arc<Self>) -> BackendFactory {
        let disk = Arc::clone(self);
        Arc::new(move || Ok(Box::new(Handle(Arc::clone(&disk))) as Box<dyn StorageBackend>))
    }

    fn open(self: &Arc<Self>) -> DiskBuffer {
        self.try_open().unwrap()
    }

    fn try_open(self: &Arc<Self>) -> Result<DiskBuffer, Vec<Diagnostic>> {
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

pub(super) async fn until_it_works(buffer: &DiskBuffer) {
    while buffer.stats().unavailable.is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(super) fn seconds(portion: &Portion) -> Vec<i64> {
    portion.iter().map(|(_, event)| event.received_at.timestamp()).collect()
}

#[tokio::test]
async fn a_failed_commit_refuses_at_once_and_the_buffer_comes_back_by_itself() {
    for how in [Failing::Writes, Failing::Syncs, Failing::Everything] {
        let disk = Arc::new(Disk::default());
        let buffer = disk.open();
        buffer.append(vec![event(1), event(2)]).await.unwrap();
        disk.fail(how, 0, u64::MAX);
        let refused = buffer.append(vec![event(3)]).await.unwrap_err();
        assert!(matches!(refused, AppendError::Failed(_)), "{refused:?}");
        assert!(buffer.append(vec![event(3)]).now_or_never().is_some(), "without waiting");
        assert!(buffer.stats().unavailable.is_some());

        let read = buffer.read(9, u64::MAX).await;
        assert_eq!(seconds(&read), [1, 2], "reading goes on ({how:?})");
        buffer.settle(&delivered(&[0]));
        buffer.flush().await;
        assert_eq!(buffer.stats().events, 1);
        assert_eq!(buffer.fetch(vec![Sequence(1)]).await.unwrap().len(), 1);

        disk.heal();
        until_it_works(&buffer).await;
        let next = buffer.append(vec![event(4)]).await.unwrap();
        assert!(next > Sequence(1));
        assert_eq!(seconds(&buffer.read(9, u64::MAX).await), [4]);
        drop(buffer);
        let buffer = disk.open();
        assert_eq!(seconds(&buffer.read(9, u64::MAX).await), [2, 4]);
        let ledger = buffer.all_lives().unwrap();
        assert_eq!((ledger.received, ledger.buffered, ledger.gap()), (3, 2, 0));
    }
}

#[tokio::test]
async fn what_ended_beside_the_events_of_an_append_is_as_durable_as_these() {
    let disk = Arc::new(Disk::default());
    let buffer = disk.open();
    let mut tally = Tally::default();
    tally.end(&Outcome::Withheld(ReasonCode::OnetrustDenied.into()));
    buffer.append_with(vec![event(1)], tally.clone()).await.unwrap();
    let after_a_crash = || disk.after_a_crash().open().all_lives().unwrap();
    let ledger = after_a_crash();
    assert_eq!((ledger.received, ledger.buffered, ledger.gap()), (2, 1, 0));
    assert_eq!(ledger, buffer.all_lives().unwrap());

    disk.fail(Failing::Writes, 0, u64::MAX);
    assert!(buffer.append_with(vec![event(2)], tally.clone()).await.is_err());
    assert_eq!(buffer.all_lives().unwrap(), ledger, "a refused append counts nothing");
    disk.heal();
    until_it_works(&buffer).await;
    buffer.record(&tally);
    buffer.flush().await;
    assert_eq!(after_a_crash().count(OutcomeKind::Withheld, ReasonCode::OnetrustDenied), 2);
}

#[tokio::test]
async fn on_a_disk_that_is_full_at_the_start_what_is_stored_is_delivered() {
    let disk = Arc::new(Disk::default());
    let buffer = disk.open();
    buffer.append(vec![event(1), event(2)]).await.unwrap();
    drop(buffer);
    disk.fail(Failing::Writes, 0, u64::MAX);
    let buffer = disk.open();
    assert!(matches!(buffer.append(vec![event(3)]).await, Err(AppendError::Failed(_))));
    assert_eq!(seconds(&buffer.read(9, u64::MAX).await), [1, 2]);
    buffer.settle(&delivered(&[0]));
    disk.heal();
    until_it_works(&buffer).await;
    buffer.append(vec![event(4)]).await.unwrap();
    drop(buffer);
    assert_eq!(seconds(&disk.open().read(9, u64::MAX).await), [2, 4]);
}

#[tokio::test]
async fn a_full_disk_can_be_emptied_and_filled_again() {
    let disk = Arc::new(Disk::default());
    disk.platter().size = 4 << 20;
    let buffer = disk.open();
    let large = || {
        let mut event = event(1);
        event.original.raw = vec![b' '; 200_000].into();
        event
    };
    let mut stored = 0;
    while buffer.append(vec![large()]).await.is_ok() {
        stored += 1;
        assert!(stored < 1000, "it never became full");
    }
    until_it_works(&buffer).await;
    let mut read = Vec::new();
    while read.len() < stored {
        read.extend(buffer.read(9, u64::MAX).await.into_iter().map(|(sequence, _)| sequence.0));
    }
    buffer.settle(&delivered(&read));
    buffer.flush().await;
    assert_eq!(buffer.stats().events, 0);
    // redb frees the pages of a removed row some commits later.
    let mut tries = 0;
    while buffer.append(vec![large()]).await.is_err() {
        tries += 1;
        assert!(tries < 20, "what was removed is not used again");
        until_it_works(&buffer).await;
    }
    drop(buffer);
    assert_eq!(disk.open().stats().events, 1);
}

fn replay(letter: u128) -> Stored {
    Stored { letter: Some(LetterId(letter)), ..event(1) }
}

/// Admits an append whose commit cannot end before `disk` is let go.
fn admit(disk: &Disk, append: &mut BoxFuture<'_, Result<Sequence, AppendError>>) {
    disk.platter().stuck = true;
    assert!(append.now_or_never().is_none());
}

#[tokio::test]
async fn a_letter_counts_as_replayed_only_while_its_events_are_stored_for_good() {
    let disk = Arc::new(Disk::default());
    let buffer = disk.open();
    let known = async || buffer.replayed(vec![LetterId(1), LetterId(2)]).await.unwrap();
    buffer.append(vec![replay(1)]).await.unwrap();

    let mut append = buffer.append(vec![replay(1), replay(2)]);
    let before = disk.platter().syncs;
    admit(&disk, &mut append);
    while disk.platter().syncs == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Its commit is under way.
    drop(append);
    disk.platter().stuck = false;
    for _ in 0..50 {
        assert_eq!(known().await, [true, false], "it was given up");
        tokio::task::yield_now().await;
    }
    buffer.flush().await;
    assert_eq!(known().await, [true, false], "the first append of letter 1 stays");

    let mut append = buffer.append(vec![replay(2)]);
    admit(&disk, &mut append);
    disk.platter().stuck = false;
    buffer.flush().await;
    assert_eq!(known().await, [true, false], "it was not answered");
    append.await.unwrap();
    assert_eq!(known().await, [true, true]);
    drop(buffer);
    let buffer = disk.open();
    let known = buffer.replayed(vec![LetterId(1), LetterId(2)]).await.unwrap();
    assert_eq!(known, [true, true]);
}

#[tokio::test]
async fn a_letter_of_a_commit_that_failed_is_not_replayed_whatever_reached_the_disk() {
    for after in 0..4 {
        let disk = Arc::new(Disk::default());
        let buffer = disk.open();
        buffer.append(vec![event(1)]).await.unwrap();
        disk.fail(Failing::Syncs, after, u64::MAX);
        if buffer.append(vec![replay(1)]).await.is_ok() {
            continue;
        }
        assert_eq!(seconds(&buffer.read(9, u64::MAX).await), [1]);
        let known = async || buffer.replayed(vec![LetterId(1)]).await.unwrap_or(vec![false]);
        assert_eq!(known().await, [false]);
        disk.heal();
        while buffer.stats().unavailable.is_some() {
            assert_eq!(known().await, [false], "{after}");
            tokio::task::yield_now().await;
        }
        assert_eq!(known().await, [false], "{after}");
        buffer.append(vec![replay(1)]).await.unwrap();
        assert_eq!(known().await, [true], "{after}");
    }
}

#[tokio::test]
async fn an_append_of_a_letter_whose_other_append_is_given_up_keeps_it() {
    let disk = Arc::new(Disk::default());
    let buffer = disk.open();
    // Both in one commit, and in two.
    for letters in [1, 2] {
        let mut given_up = buffer.append(vec![replay(letters)]);
        admit(&disk, &mut given_up);
        if letters == 2 {
            disk.platter().stuck = false;
            buffer.flush().await;
        }
        let mut stays = buffer.append(vec![replay(letters)]);
        admit(&disk, &mut stays);
        disk.platter().stuck = false;
        buffer.flush().await;
        drop(given_up);
        stays.await.unwrap();
        buffer.flush().await;
        assert_eq!(buffer.replayed(vec![LetterId(letters)]).await.unwrap(), [true]);
    }
}

#[tokio::test]
async fn a_letter_that_is_known_elsewhere_can_be_forgotten() {
    let disk = Arc::new(Disk::default());
    let buffer = disk.open();
    buffer.append(vec![replay(1), replay(2)]).await.unwrap();
    buffer.forget_replayed(&[LetterId(1)]);
    buffer.flush().await;
    let letters = vec![LetterId(1), LetterId(2)];
    assert_eq!(buffer.replayed(letters).await.unwrap(), [false, true]);
    assert_eq!(buffer.stats().events, 2);
}

#[tokio::test]
async fn settlements_become_durable_though_nobody_flushes() {
    let disk = Arc::new(Disk::default());
    let buffer = disk.open();
    buffer.append(vec![event(1), event(2)]).await.unwrap();
    assert_eq!(sequences(&buffer, 9).await, [0, 1]);
    disk.until_it_has(2).await;
    buffer.settle(&delivered(&[0]));
    disk.until_it_has(1).await;
}

#[tokio::test]
async fn settlements_become_durable_while_the_reserve_alone_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    let buffer = disk.open();
    buffer.append(vec![event(1), event(2)]).await.unwrap();
    drop(buffer);
    // A folder in its place stands for a disk without room for it.
    let reserve = dir.path().join(RESERVE);
    std::fs::create_dir(&reserve).unwrap();
    let store = Store::new(dir.path().join(FILE), disk.factory(), Reserve::new(Some(reserve)));
    let meta = store.open().unwrap();
    let state = State::new(1 << 30, WhenFull::Wait, meta.clone());
    let shared = Arc::new(Shared::new(store, state, OnCorruption::Stop));
    let mut writer = Writer::new(Arc::clone(&shared), meta);
    writer.try_again = Duration::from_hours(1);
    writer.begin_refusing(&shared.store.reserve.ensure().unwrap_err(), true);
    let writer = Some(std::thread::spawn(move || writer.run()));
    let line = Line::new(Arc::clone(&shared));
    let reader = Reader::new(Arc::clone(&shared));
    let buffer = DiskBuffer { shared, line, reader, writer };

    assert!(matches!(buffer.append(vec![event(3)]).await, Err(AppendError::Failed(_))));
    assert_eq!(sequences(&buffer, 9).await, [0, 1]);
    buffer.settle(&delivered(&[0]));
    disk.until_it_has(1).await;
    assert!(buffer.stats().unavailable.is_some());
}

#[tokio::test]
async fn what_is_settled_before_a_full_disk_can_be_opened_is_written_once_it_can_be() {
    let disk = Arc::new(Disk::default());
    disk.open().append(vec![event(1), event(2)]).await.unwrap();
    disk.fail(Failing::Writes, 0, u64::MAX);
    let store = Store::new(PathBuf::from("/nowhere"), disk.factory(), Reserve::new(None));
    let failure = store.open().unwrap_err();
    let meta = store.open_view().unwrap();
    let state = State::new(1 << 30, WhenFull::Wait, meta.clone());
    let shared = Arc::new(Shared::new(store, state, OnCorruption::Stop));
    let mut writer = Writer::new(Arc::clone(&shared), meta);
    writer.try_again = Duration::from_millis(300);
    writer.begin_refusing(&failure, false);
    let writer = Some(std::thread::spawn(move || writer.run()));
    let line = Line::new(Arc::clone(&shared));
    let reader = Reader::new(Arc::clone(&shared));
    let buffer = DiskBuffer { shared, line, reader, writer };

    assert_eq!(sequences(&buffer, 9).await, [0, 1]);
    buffer.settle(&delivered(&[0]));
    buffer.flush().await;
    disk.heal();
    let works = tokio::time::timeout(Duration::from_secs(30), until_it_works(&buffer)).await;
    assert!(works.is_ok(), "{:?}", buffer.stats().unavailable);
    buffer.append(vec![event(3)]).await.unwrap();
    drop(buffer);
    let buffer = disk.open();
    assert_eq!(buffer.all_lives().unwrap().gap(), 0);
    assert_eq!(all_sequences(&buffer).await, [1, 2]);
}

#[tokio::test]
async fn flushes_do_not_open_a_failed_database_again_before_its_pause_is_over() {
    let disk = Arc::new(Disk::default());
    let opened = Arc::new(AtomicU64::new(0));
    let (factory, count) = (disk.factory(), Arc::clone(&opened));
    let counting: BackendFactory = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
        factory()
    });
    let store = Store::new(PathBuf::from("/nowhere"), counting, Reserve::new(None));
    let meta = store.open().unwrap();
    let state = State::new(1 << 30, WhenFull::Wait, meta.clone());
    let shared = Arc::new(Shared::new(store, state, OnCorruption::Stop));
    let mut writer = Writer::new(Arc::clone(&shared), meta);
    writer.try_again = Duration::from_hours(1);
    let writer = Some(std::thread::spawn(move || writer.run()));
    let line = Line::new(Arc::clone(&shared));
    let reader = Reader::new(Arc::clone(&shared));
    let buffer = DiskBuffer { shared, line, reader, writer };

    disk.fail(Failing::Everything, 0, u64::MAX);
    buffer.append(vec![event(1)]).await.unwrap_err();
    buffer.flush().await;
    let tries = opened.load(Ordering::Relaxed);
    let mut tally = Tally::default();
    tally.end(&Outcome::Withheld(ReasonCode::OnetrustDenied.into()));
    for _ in 0..20 {
        buffer.record(&tally);
        buffer.flush().await;
    }
    assert_eq!(opened.load(Ordering::Relaxed), tries);

    disk.heal();
    buffer.close();
    buffer.flush().await;
    let ledger = disk.after_a_crash().open().all_lives().unwrap();
    assert_eq!((ledger.received, ledger.gap()), (20, 0), "a last flush tries at once");
}

/// A buffer on a full disk whose writer does nothing by itself.
fn halted(disk: &Arc<Disk>) -> (Arc<Shared>, Reader, Writer) {
    let mut reserve = Reserve::new(None);
    reserve.no_room = true;
    let store = Store::new(PathBuf::from("/nowhere"), disk.factory(), reserve);
    let meta = store.open().unwrap();
    let state = State::new(1 << 30, WhenFull::Wait, meta.clone());
    let shared = Arc::new(Shared::new(store, state, OnCorruption::Stop));
    let mut writer = Writer::new(Arc::clone(&shared), meta);
    writer.begin_refusing(&shared.store.reserve.ensure().unwrap_err(), true);
    (Arc::clone(&shared), Reader::new(shared), writer)
}

#[tokio::test]
async fn a_kill_while_rows_are_written_again_on_a_full_disk_leaves_an_exact_ledger() {
    let disk = Arc::new(Disk::default());
    disk.open().append((0..10).map(event).collect()).await.unwrap();
    let (shared, reader, mut writer) = halted(&disk);
    assert_eq!(reader.read(10, u64::MAX).await.len(), 10);
    shared.state().settle(&delivered(&[0, 1, 2, 3, 4, 5, 6, 7]));
    writer.rescue().unwrap();
    let buffer = disk.after_a_crash().open();
    let ledger = buffer.all_lives().unwrap();
    assert_eq!((ledger.received, ledger.buffered, ledger.gap()), (10, 2, 0));
    assert_eq!(all_sequences(&buffer).await, [8, 9]);
}

#[tokio::test]
async fn who_drops_the_buffer_does_not_wait_for_rows_to_be_written_again() {
    let disk = Arc::new(Disk::default());
    disk.open().append((0..10).map(event).collect()).await.unwrap();
    let (shared, reader, mut writer) = halted(&disk);
    assert_eq!(reader.read(10, u64::MAX).await.len(), 10);
    shared.state().settle(&delivered(&[0, 1, 2, 3, 4, 5, 6, 7]));
    shared.state().dropped = true;
    writer.rescue().unwrap();
    let rows = shared.state().take_rewrites(Which::All, 1);
    assert_eq!(rows.len(), 1, "it is still to be written again");
}

#[tokio::test]
async fn reading_goes_on_wherever_making_room_on_a_full_disk_fails() {
    for after in 0..60 {
        let disk = Arc::new(Disk::default());
        disk.open().append((0..10).map(event).collect()).await.unwrap();
        let (shared, reader, mut writer) = halted(&disk);
        assert_eq!(reader.read(9, u64::MAX).await.len(), 9);
        shared.state().settle(&delivered(&[0, 1, 2, 3, 4, 5, 6]));
        disk.fail(Failing::Writes, after, 1);
        writer.recover();
        disk.heal();
        assert!(shared.state().trouble.is_some());
        // After an error redb reads nothing that is not in its cache. It refuses commits as well,
        // which shows that without more rows than the cache holds.
        let usable = shared.store.commit(&Change::default(), &Meta::default(), |_| ());
        assert!(usable.is_ok(), "{after}: {usable:?}");
    }
}

#[tokio::test]
async fn a_writer_that_panics_is_told_of_and_nobody_waits_for_it() {
    let disk = Arc::new(Disk::default());
    let buffer = disk.open();
    buffer.append(vec![event(1)]).await.unwrap();
    let mut queued = buffer.append(vec![event(2)]);
    {
        // Nothing moves while the state is locked.
        let mut state = buffer.shared.state();
        state.sabotaged = true;
    }
    let append = (&mut queued).now_or_never();
    buffer.flush().await;
    let answer = match append {
        Some(answer) => answer,
        None => queued.await,
    };
    assert!(matches!(answer, Err(AppendError::Failed(_))), "{answer:?}");
    while buffer.stats().unavailable.is_none() {
        tokio::task::yield_now().await;
    }
    assert!(buffer.stats().unavailable.unwrap().contains("ended unexpectedly"));
    assert!(matches!(buffer.append(vec![event(3)]).await, Err(AppendError::Failed(_))));
    assert_eq!(seconds(&buffer.read(9, u64::MAX).await), [1], "what is stored is delivered");
    buffer.settle(&delivered(&[0]));
    buffer.flush().await;
    buffer.close();
    assert!(buffer.read(9, u64::MAX).await.is_empty());
}

#[tokio::test]
async fn an_empty_file_that_cannot_be_cut_is_not_opened_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    let opened = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (factory, count) = (disk.factory(), Arc::clone(&opened));
    let factory: BackendFactory = Arc::new(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        factory()
    });
    let options = options(dir.path(), 1 << 30, WhenFull::Wait);
    std::fs::create_dir_all(&options.dir).unwrap();
    let file = std::fs::File::create(options.dir.join(FILE)).unwrap();
    file.set_len(1 << 30).unwrap();
    let buffer = DiskBuffer::open_with(options, factory).unwrap();
    let mut tally = Tally::default();
    tally.end(&Outcome::Withheld(ReasonCode::OnetrustDenied.into()));
    for _ in 0..9 {
        buffer.record(&tally);
        buffer.flush().await;
    }
    assert_eq!(opened.load(std::sync::atomic::Ordering::Relaxed), 1 + 3);
}

/// Bytes that the rows of a database take.
fn row_bytes(store: &Store) -> usize {
    let (mut from, mut sum) = (0, 0);
    while let Some(raw) = store.row_from(from).unwrap() {
        sum += raw.bytes.len();
        from = raw.first + 1;
    }
    sum
}

#[tokio::test]
async fn events_that_wait_for_long_do_not_keep_their_rows_on_the_disk() {
    let disk = Arc::new(Disk::default());
    let bound = 2000 * event(0).bytes();
    let options = options(Path::new("/nowhere"), bound, WhenFull::Refuse);
    let buffer = DiskBuffer::open_with(options.clone(), disk.factory()).unwrap();
    let mut stuck = Vec::new();
    for _ in 0..40 {
        let first = buffer.append((0..100).map(event).collect()).await.unwrap().0;
        assert_eq!(sequences(&buffer, 100).await.len(), 100);
        stuck.extend([first + 7, first + 93]);
        let others: Vec<_> = (first..first + 100).filter(|n| !stuck.contains(n)).collect();
        buffer.settle(&delivered(&others));
        buffer.flush().await;
    }
    let bytes = u64::try_from(row_bytes(&buffer.shared.store)).unwrap();
    assert!(bytes < 2 * buffer.stats().bytes + bound / 4, "{bytes} bytes");
    let fetched = buffer.fetch(vec![Sequence(stuck[3]), Sequence(stuck[0])]).await.unwrap();
    let fetched: Vec<_> = fetched.iter().map(|event| event.received_at.timestamp()).collect();
    assert_eq!(fetched, [93, 7]);
    buffer.settle(&delivered(&stuck[..3]));
    drop(buffer);

    let buffer = DiskBuffer::open_with(options, disk.factory()).unwrap();
    assert_eq!(buffer.stats().events, 77);
    buffer.close();
    assert_eq!(sequences(&buffer, 99).await, stuck[3..]);
    buffer.settle(&delivered(&stuck));
    assert_eq!((buffer.stats().events, buffer.stats().bytes), (0, 0));
    buffer.flush().await;
    assert_eq!(row_bytes(&buffer.shared.store), 0);
    assert_eq!(buffer.shared.state().waste, 0);
}

/// One random walk: appends, reads, settlements, failures of every kind, and loss of power.
async fn walk(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut disk = Arc::new(Disk::default());
    // With a small bound, rows of which little waits are written again.
    let bound = if random.bool() { 1 << 30 } else { 60 * event(0).bytes() };
    let options = options(Path::new("/nowhere"), bound, WhenFull::Refuse);
    let open = |disk: &Arc<Disk>| DiskBuffer::open_with(options.clone(), disk.factory()).unwrap();
    let mut next = 0;
    // Acknowledged and not settled; refused; settled, perhaps not durably.
    let (mut acknowledged, mut refused) = (BTreeSet::new(), BTreeSet::new());
    let mut last = None;
    for _ in 0..4 {
        let buffer = open(&disk);
        let mut settled = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for _ in 0..12 {
            if random.u8(..4) == 0 {
                let how = [Failing::Writes, Failing::Syncs, Failing::Growth, Failing::Everything];
                let how = how[random.usize(..how.len())];
                disk.fail(how, random.u64(..12), random.u64(1..6));
            }
            let size = if random.bool() { 4 } else { 14 };
            let events: Vec<_> = (next..next + random.i64(1..size)).map(event).collect();
            let seconds: Vec<_> = events.iter().map(|e| e.received_at.timestamp()).collect();
            next += events.len() as i64;
            match buffer.append(events).await {
                Ok(first) => {
                    assert!(Some(first) > last, "seed {seed}: {first:?} after {last:?}");
                    last = Some(Sequence(first.0 + seconds.len() as u64 - 1));
                    acknowledged.extend(seconds);
                }
                Err(_) => refused.extend(seconds),
            }
            if random.bool()
                && let Some(portion) = buffer.read(random.usize(1..20), u64::MAX).now_or_never()
            {
                for (sequence, event) in portion {
                    let second = event.received_at.timestamp();
                    assert!(seen.insert(second), "seed {seed}: {second} was read twice");
                    if random.u8(..5) > 0 {
                        buffer.settle(&delivered(&[sequence.0]));
                        settled.insert(second);
                    }
                }
            } else {
                tokio::task::yield_now().await;
            }
            assert_eq!(buffer.all_lives().unwrap().gap(), 0, "seed {seed}");
        }
        let clean = random.bool();
        if clean {
            disk.heal();
            while buffer.shared.state().trouble.is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            buffer.flush().await;
        }
        let after = disk.lose_power(&mut random);
        drop(buffer);
        disk = after;

        let buffer = open(&disk);
        buffer.close();
        let mut there = BTreeSet::new();
        let mut before = None;
        loop {
            let portion = buffer.read(7, u64::MAX).await;
            if portion.is_empty() {
                break;
            }
            for (sequence, event) in portion {
                assert!(Some(sequence) > before, "seed {seed}");
                before = Some(sequence);
                let second = event.received_at.timestamp();
                assert!(there.insert(second), "seed {seed}: {second} is there twice");
            }
        }
        let stats = buffer.stats();
        assert_eq!(stats.events, there.len() as u64, "seed {seed}");
        let ledger = buffer.all_lives().unwrap();
        assert_eq!((ledger.gap(), ledger.buffered), (0, stats.events), "seed {seed}");
        let expected: BTreeSet<_> = acknowledged.difference(&settled).copied().collect();
        assert!(expected.is_subset(&there), "seed {seed}: lost {:?}", &expected - &there);
        if clean {
            assert_eq!(there, expected, "seed {seed}");
        } else {
            let known = &acknowledged | &refused;
            assert!(there.is_subset(&known), "seed {seed}");
        }
        // What a crash has left in doubt may be there; from now on it counts as stored.
        acknowledged = there;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_and_whenever_power_is_lost_nothing_acknowledged_is_lost_or_doubled() {
    let seeds = std::env::var("WALK_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(25);
    for seed in 0..seeds {
        walk(seed).await;
    }
}

#[tokio::test]
async fn what_is_no_buffer_stops_the_start_or_is_set_aside() {
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("text", b"not a database".to_vec()),
        ("noise", (0..40_000_u32).map(|n| n as u8).collect()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path(), 1 << 30, WhenFull::Wait);
        std::fs::create_dir_all(&options.dir).unwrap();
        let file = options.dir.join(FILE);
        std::fs::write(&file, &bytes).unwrap();
        let refused = DiskBuffer::open(options.clone()).unwrap_err();
        let text = refused[0].to_string();
        assert!(text.contains("damaged") && text.contains("set_aside"), "{what}: {text}");
        assert!(text.contains("events.redb"), "{what}: {text}");
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "{what}: nothing is changed");

        options.on_corruption = OnCorruption::SetAside;
        let buffer = DiskBuffer::open(options.clone()).unwrap();
        buffer.append(vec![event(1)]).await.unwrap();
        drop(buffer);
        let aside = std::fs::read_dir(&options.dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().contains(".damaged-"))
            .unwrap();
        assert_eq!(std::fs::read(aside).unwrap(), bytes, "{what}");
    }
}

/// Changes the database below the buffer.
fn tamper(dir: &TempDir, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = redb::Database::open(dir.path().join("buffer").join(FILE)).unwrap();
    let write = database.begin_write().unwrap();
    change(&write);
    write.commit().unwrap();
}

pub(super) fn damage_row(dir: &TempDir, first: u64) {
    tamper(dir, |write| {
        let mut rows = write.open_table(store::ROWS).unwrap();
        let mut row = rows.get(first).unwrap().unwrap().value().to_vec();
        *row.last_mut().unwrap() ^= 1;
        rows.insert(first, &*row).unwrap();
    });
}

#[tokio::test]
async fn a_format_of_a_later_version_always_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    tamper(&dir, |write| {
        let table: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
        write.open_table(table).unwrap().insert("format", &9_u32.to_le_bytes()[..]).unwrap();
    });
    let mut options = options(dir.path(), 1, WhenFull::Wait);
    options.on_corruption = OnCorruption::SetAside;
    let refused = DiskBuffer::open(options).unwrap_err();
    assert!(refused[0].message.contains("format 9"), "{}", refused[0]);
}

#[tokio::test]
async fn reading_stops_before_a_damaged_row() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    buffer.append(vec![event(1)]).await.unwrap();
    buffer.append(vec![event(2)]).await.unwrap();
    drop(buffer);
    damage_row(&dir, 1);
    let buffer = open(&dir);
    assert_eq!(seconds(&buffer.read(1, u64::MAX).await), [1]);
    let mut read = buffer.read(9, u64::MAX);
    while buffer.stats().unavailable.is_none() {
        assert!((&mut read).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(read);
    assert!(buffer.stats().damaged);
    let reason = buffer.stats().unavailable.unwrap();
    assert!(reason.contains("row 1") && reason.contains("set_aside"), "{reason}");
    assert!(reason.contains("buffer export"), "{reason}");
    assert!(matches!(buffer.append(vec![event(3)]).await, Err(AppendError::Failed(_))));
    buffer.settle(&delivered(&[0]));
    drop(buffer);
    assert_eq!(open(&dir).stats().events, 1, "settling goes on, and the row stays");
}

#[tokio::test]
async fn a_damaged_row_that_is_set_aside_gives_events_to_reject() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    buffer.append(vec![event(1)]).await.unwrap();
    buffer.append(vec![event(2), event(3)]).await.unwrap();
    buffer.append(vec![event(4)]).await.unwrap();
    drop(buffer);
    damage_row(&dir, 1);
    let mut options = options(dir.path(), 1 << 30, WhenFull::Wait);
    options.on_corruption = OnCorruption::SetAside;
    let buffer = DiskBuffer::open(options.clone()).unwrap();
    let read = buffer.read(9, u64::MAX).await;
    let operations: Vec<_> = read.iter().map(|(_, event)| event.operations.len()).collect();
    assert_eq!(operations, [1, 0, 0, 1]);
    let outcome = Outcome::Rejected(ReasonCode::Internal.into());
    let ended: Vec<_> = read.iter().map(|(sequence, _)| (*sequence, outcome.clone())).collect();
    buffer.settle(&ended[1..2]);
    assert_eq!(buffer.stats().bytes, 3 * event(0).bytes(), "as its index says");
    buffer.settle(&ended);
    drop(buffer);
    let buffer = open(&dir);
    let stats = buffer.stats();
    assert_eq!((stats.events, stats.bytes, stats.unavailable), (0, 0, None));
    let ledger = buffer.all_lives().unwrap();
    assert_eq!((ledger.count(OutcomeKind::Rejected, ReasonCode::Internal), ledger.gap()), (4, 0));
    let aside = std::fs::read_dir(&options.dir).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("row-1.damaged-")
    });
    assert_eq!(aside.count(), 1, "the row is kept beside the database");
}

#[tokio::test]
async fn a_buffer_can_be_looked_into_and_exported_while_nobody_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("buffer");
    assert!(inspect(&folder).unwrap_err().message.contains("no buffer"));
    let buffer = open(&dir);
    buffer.append((1..4).map(event).collect()).await.unwrap();
    buffer.append(vec![event(4)]).await.unwrap();
    buffer.read(9, u64::MAX).await;
    buffer.settle(&delivered(&[0, 2]));
    assert!(inspect(&folder).unwrap_err().message.contains("another process"));
    drop(buffer);

    let before = std::fs::read(folder.join(FILE)).unwrap();
    let seen = inspect(&folder).unwrap();
    assert_eq!((seen.events, seen.operations, seen.rows), (2, 2, 2));
    assert_eq!((seen.bytes, seen.next), (2 * event(0).bytes(), Sequence(4)));
    assert_eq!(seen.oldest.unwrap().timestamp(), 2);
    assert_eq!(seen.newest.unwrap().timestamp(), 4);
    assert_eq!((seen.ledger.received, seen.ledger.gap()), (4, 0));
    let mut exported = Vec::new();
    let each = |sequence: Sequence, event: Stored| {
        exported.push((sequence.0, event.received_at.timestamp()));
        Ok(())
    };
    assert_eq!(export(&folder, each).unwrap().events, 2);
    assert_eq!(exported, [(1, 2), (3, 4)]);
    assert_eq!(std::fs::read(folder.join(FILE)).unwrap(), before, "nothing is changed");
}

#[tokio::test]
async fn events_are_taken_only_while_there_is_a_reserve() {
    let dir = tempfile::tempdir().unwrap();
    let reserve = dir.path().join("buffer").join(RESERVE);
    drop(open(&dir));
    assert!(std::fs::metadata(&reserve).unwrap().len() > 0);
    // A folder in its place stands for a disk without room for it.
    std::fs::remove_file(&reserve).unwrap();
    std::fs::create_dir(&reserve).unwrap();
    let buffer = open(&dir);
    assert!(buffer.stats().unavailable.is_some());
    assert!(matches!(buffer.append(vec![event(1)]).await, Err(AppendError::Failed(_))));
    std::fs::remove_dir(&reserve).unwrap();
    until_it_works(&buffer).await;
    buffer.append(vec![event(1)]).await.unwrap();
    assert!(std::fs::metadata(&reserve).unwrap().is_file());
}
