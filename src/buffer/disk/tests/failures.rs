//! Disks that fail or are full.

use std::sync::atomic::{AtomicU64, Ordering};

use super::faulty_disk::{Disk, Failing};
use super::*;
use crate::buffer::disk::meta::Meta;
use crate::buffer::disk::rewrite::Which;
use crate::buffer::disk::store::Change;

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
