//! Databases and rows that are damaged, of another version, or none of ours.

use redb::ReadableTable;

use super::*;

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
        let mut rows = write.open_table(tables::ROWS).unwrap();
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
