//! Files that are removed or replaced under the buffer, and what is got out of damaged ones.

use std::fs;

use super::damage::damage_row;
use super::*;

fn file(dir: &TempDir) -> PathBuf {
    dir.path().join("buffer").join(FILE)
}

async fn until_it_fails(buffer: &DiskBuffer) -> String {
    loop {
        if let Some(reason) = buffer.stats().unavailable {
            return reason;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_file_that_was_removed_is_there_again_with_all_that_waits() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    buffer.append(vec![event(1), event(2)]).await.unwrap();
    assert_eq!(seconds(&buffer.read(1, u64::MAX).await), [1]);
    buffer.settle(&delivered(&[0]));
    buffer.flush().await;
    // Idle: noticed without a commit.
    fs::remove_file(file(&dir)).unwrap();
    while !file(&dir).exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    until_it_works(&buffer).await;
    assert!(buffer.durable());
    buffer.append(vec![event(3)]).await.unwrap();

    // Busy: no answer but a refusal, or the truth.
    let mut stored = vec![2, 3];
    for second in 4..40 {
        if second % 5 == 0 {
            fs::remove_file(file(&dir)).ok();
        }
        match buffer.append(vec![event(second)]).await {
            Ok(_) => stored.push(second),
            Err(_) => until_it_works(&buffer).await,
        }
    }
    // At the end: noticed by the last step.
    fs::remove_file(file(&dir)).ok();
    drop(buffer);
    let left: Vec<_> = fs::read_dir(dir.path().join("buffer")).unwrap().collect();
    assert_eq!(left.len(), 2, "database and reserve: {left:?}");
    let buffer = open(&dir);
    assert_eq!(seconds(&buffer.read(99, u64::MAX).await), stored);
    assert_eq!(buffer.all_lives().unwrap().gap(), 0);
}

#[tokio::test]
async fn a_file_that_was_replaced_refuses_reads_on_and_says_that_nothing_will_be_left() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    buffer.append(vec![event(1), event(2)]).await.unwrap();
    fs::rename(file(&dir), dir.path().join("away")).unwrap();
    fs::write(file(&dir), "another").unwrap();
    let refused = buffer.append(vec![event(3)]).await.unwrap_err();
    let AppendError::Failed(reason) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("removed or replaced") && reason.contains(FILE), "{reason}");
    assert!(until_it_fails(&buffer).await.contains("removed or replaced"));
    assert!(!buffer.durable());
    assert_eq!(seconds(&buffer.read(9, u64::MAX).await), [1, 2], "reading goes on");
    assert_eq!(fs::read(file(&dir)).unwrap(), b"another");

    // The right one is put back.
    fs::rename(dir.path().join("away"), file(&dir)).unwrap();
    until_it_works(&buffer).await;
    assert!(buffer.durable());
    buffer.append(vec![event(4)]).await.unwrap();
}

#[tokio::test]
async fn without_its_folder_the_buffer_delivers_what_it_has_and_promises_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    buffer.append(vec![event(1), event(2)]).await.unwrap();
    fs::remove_dir_all(dir.path().join("buffer")).unwrap();
    assert!(until_it_fails(&buffer).await.contains("removed or replaced"));
    assert!(matches!(buffer.append(vec![event(3)]).await, Err(AppendError::Failed(_))));
    assert_eq!(seconds(&buffer.read(9, u64::MAX).await), [1, 2]);
    buffer.settle(&delivered(&[0]));
    buffer.flush().await;
    assert!(!buffer.durable());
    assert_eq!(buffer.stats().events, 1);
}

/// Three rows of which the second, with three events, is damaged; one of its events is settled.
async fn damaged(dir: &TempDir) {
    let buffer = open(dir);
    buffer.append(vec![event(1)]).await.unwrap();
    buffer.append(vec![event(2), event(3), event(4)]).await.unwrap();
    buffer.append(vec![event(5)]).await.unwrap();
    assert_eq!(buffer.read(9, u64::MAX).await.len(), 5);
    buffer.settle(&delivered(&[2]));
    drop(buffer);
    damage_row(dir, 1);
}

#[tokio::test]
async fn an_export_passes_over_a_damaged_row_and_names_it() {
    let dir = tempfile::tempdir().unwrap();
    damaged(&dir).await;
    let folder = dir.path().join("buffer");
    let mut exported = Vec::new();
    let each = |sequence: Sequence, _| {
        exported.push(sequence.0);
        Ok(())
    };
    let found = export(&folder, each).unwrap();
    assert_eq!((exported.as_slice(), found.events), (&[0, 4][..], 2));
    let row = &found.damaged[0];
    assert_eq!((row.first, row.last, row.events), (Sequence(1), Sequence(3), 2));
    assert_eq!(found.damaged.len(), 1);
}

#[tokio::test]
async fn an_inspection_shows_the_totals_and_on_demand_every_damaged_row() {
    let dir = tempfile::tempdir().unwrap();
    damaged(&dir).await;
    let folder = dir.path().join("buffer");
    let quick = inspect(&folder).unwrap();
    assert_eq!((quick.events, quick.rows, quick.verified), (4, 3, false));
    assert!(quick.damaged.is_empty(), "it does not look there");
    let full = verify(&folder).unwrap();
    assert_eq!((full.events, full.rows, full.verified), (4, 3, true));
    assert_eq!(full.damaged.iter().map(|row| row.first.0).collect::<Vec<_>>(), [1]);
    assert_eq!(full.newest.unwrap().timestamp(), 5);

    damage_row(&dir, 4);
    damage_row(&dir, 0);
    let quick = inspect(&folder).unwrap();
    assert_eq!(quick.damaged.iter().map(|row| row.first.0).collect::<Vec<_>>(), [0, 4]);
    assert_eq!((quick.events, quick.oldest, quick.newest), (4, None, None));
    assert_eq!(verify(&folder).unwrap().damaged.len(), 3);
}

#[tokio::test]
async fn what_can_be_decoded_of_a_row_that_was_set_aside_is_not_out_of_reach() {
    let dir = tempfile::tempdir().unwrap();
    damaged(&dir).await;
    let mut options = options(dir.path(), 1 << 30, WhenFull::Wait);
    options.on_corruption = OnCorruption::SetAside;
    let buffer = DiskBuffer::open(options.clone()).unwrap();
    assert_eq!(buffer.read(9, u64::MAX).await.len(), 4);
    drop(buffer);
    let row = fs::read_dir(&options.dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("row-1.damaged-"))
        .unwrap();
    let found = salvage(&row).unwrap();
    let sequences: Vec<_> = found.iter().map(|(sequence, _)| sequence.0).collect();
    assert_eq!(sequences, [1, 2, 3]);
    let readable = found.iter().filter_map(|(_, event)| event.as_ref().ok());
    let readable: Vec<_> = readable.map(|event| event.received_at.timestamp()).collect();
    assert!(readable.starts_with(&[2, 3]), "{readable:?}");

    // Arbitrary damage is no panic.
    let bytes = fs::read(&row).unwrap();
    for place in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[place] ^= 0xff;
        bytes.truncate(bytes.len() - place % 3);
        fs::write(&row, &bytes).unwrap();
        drop(salvage(&row));
    }
    fs::write(&row, "no row").unwrap();
    assert!(salvage(&row).unwrap_err().help.is_some());
}

#[tokio::test]
async fn a_damaged_first_row_still_tells_how_long_it_waits() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).append(vec![event(77)]).await.unwrap();
    damage_row(&dir, 0);
    assert_eq!(open(&dir).stats().oldest.unwrap().timestamp(), 77);
}

/// Tells whether opening the file as it stands, as after a kill, reads through all of it.
fn opening_walks(dir: &TempDir) -> bool {
    use std::sync::atomic::{AtomicBool, Ordering};
    let copy = dir.path().join("copy");
    fs::copy(file(dir), &copy).unwrap();
    let walked = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&walked);
    let mut builder = redb::Builder::new();
    builder.set_repair_callback(move |_| note.store(true, Ordering::Relaxed));
    drop(builder.open(&copy).unwrap());
    walked.load(Ordering::Relaxed)
}

#[tokio::test]
async fn after_no_kind_of_commit_does_opening_after_a_kill_read_through_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    assert!(!opening_walks(&dir), "just created");
    let letter = Some(LetterId(1));
    buffer.append(vec![Stored { letter, ..event(1) }, event(2), event(3)]).await.unwrap();
    assert!(!opening_walks(&dir), "appended");
    assert_eq!(buffer.read(9, u64::MAX).await.len(), 3);
    buffer.settle(&delivered(&[1]));
    buffer.flush().await;
    assert!(!opening_walks(&dir), "settled in part");
    buffer.settle(&delivered(&[0, 2]));
    buffer.flush().await;
    assert!(!opening_walks(&dir), "a row was removed");
    fs::remove_file(file(&dir)).unwrap();
    while !file(&dir).exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    until_it_works(&buffer).await;
    assert!(!opening_walks(&dir), "opened again");
    let mut large = event(1);
    large.original.raw = vec![b' '; 70 << 20].into();
    let first = buffer.append(vec![large]).await.unwrap();
    assert_eq!(buffer.read(9, u64::MAX).await.len(), 1);
    buffer.settle(&delivered(&[first.0]));
    buffer.flush().await;
    assert!(!opening_walks(&dir), "the file was cut");
    drop(buffer);
    assert!(!opening_walks(&dir), "closed");
}

#[tokio::test]
#[ignore = "a measurement of how long opening takes after a kill"]
async fn opening_after_a_kill_with_many_events() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    let n = 300_000;
    for i in 0..n / 100 {
        buffer.append((i * 100..i * 100 + 100).map(event).collect()).await.unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("buffer")).unwrap();
    fs::copy(file(&dir), file(&copy)).unwrap();
    let begin = std::time::Instant::now();
    let again = open(&copy);
    println!("opened in {:?}, {} bytes", begin.elapsed(), fs::metadata(file(&copy)).unwrap().len());
    assert_eq!(again.stats().events, n.unsigned_abs());
}
