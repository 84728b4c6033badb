//! Replayed letters, which are known only while their events are stored for good.

use super::faulty_disk::{Disk, Failing};
use super::*;

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
