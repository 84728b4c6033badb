use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use futures_util::FutureExt;
use tempfile::TempDir;

use super::*;
use crate::event::Original;
use crate::event::identity::IdInput;
use crate::operation::{ConflictKeys, Effect, Operation};
use crate::outcome::{OutcomeKind, ReasonCode};

mod damage;
mod failures;
mod faulty_disk;
mod letters;
mod power;
mod rescue;

pub(super) fn event(second: i64) -> Stored {
    let operation = Operation {
        keys: ConflictKeys::default(),
        effect: Effect::Ordinary,
        body: Bytes::from_static(b"{}"),
    };
    Stored {
        operations: [operation].into_iter().collect(),
        original: Original { raw: Bytes::from_static(b"{}"), assigned: [].into_iter().collect() },
        id_input: IdInput::default(),
        received_at: DateTime::from_timestamp(second, 0).unwrap(),
        source: Arc::from("test"),
        letter: None,
    }
}

pub(super) fn options(dir: &Path, max_size: u64, when_full: WhenFull) -> DiskOptions {
    let dir = dir.join("buffer");
    DiskOptions { dir, max_size, when_full, on_corruption: OnCorruption::Stop }
}

fn open(dir: &TempDir) -> DiskBuffer {
    DiskBuffer::open(options(dir.path(), 1 << 30, WhenFull::Wait)).unwrap()
}

fn room_for(events: u64, when_full: WhenFull) -> (TempDir, Arc<DiskBuffer>) {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path(), events * event(0).bytes(), when_full);
    let buffer = DiskBuffer::open(options).unwrap();
    (dir, Arc::new(buffer))
}

pub(super) fn delivered(sequences: &[u64]) -> Vec<(Sequence, Outcome)> {
    sequences.iter().map(|n| (Sequence(*n), Outcome::Delivered)).collect()
}

pub(super) async fn sequences(buffer: &DiskBuffer, limit: usize) -> Vec<u64> {
    buffer.read(limit, u64::MAX).await.into_iter().map(|(sequence, _)| sequence.0).collect()
}

pub(super) async fn until_it_works(buffer: &DiskBuffer) {
    while buffer.stats().unavailable.is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(super) fn seconds(portion: &Portion) -> Vec<i64> {
    portion.iter().map(|(_, event)| event.received_at.timestamp()).collect()
}

async fn all_sequences(buffer: &DiskBuffer) -> Vec<u64> {
    buffer.close();
    let mut all = Vec::new();
    loop {
        match sequences(buffer, 7).await {
            some if some.is_empty() => return all,
            some => all.extend(some),
        }
    }
}

#[tokio::test]
async fn each_event_is_read_once_in_order_of_append() {
    let (_dir, buffer) = room_for(9, WhenFull::Refuse);
    assert_eq!(buffer.append(vec![event(1), event(2)]).await, Ok(Sequence(0)));
    assert_eq!(buffer.append(vec![event(3)]).await, Ok(Sequence(2)));
    assert_eq!(sequences(&buffer, 1).await, [0]);
    assert_eq!(sequences(&buffer, 2).await, [1, 2]);
    assert!(buffer.read(2, u64::MAX).now_or_never().is_none(), "nothing further");
}

#[tokio::test]
async fn a_reader_that_waits_is_woken_by_an_append() {
    let (_dir, buffer) = room_for(9, WhenFull::Wait);
    let reader = Arc::clone(&buffer);
    let read = tokio::spawn(async move { sequences(&reader, 10).await });
    tokio::task::yield_now().await;
    buffer.append(vec![event(1)]).await.unwrap();
    assert_eq!(read.await.unwrap(), [0]);
}

#[tokio::test]
async fn a_read_that_is_given_up_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    for _ in 0..20 {
        buffer.append((0..5).map(event).collect()).await.unwrap();
        for _ in 0..3 {
            buffer.read(2, u64::MAX).now_or_never();
            tokio::task::yield_now().await;
        }
    }
    // What a given-up read has answered in one poll is lost to us, as with any answer.
    let mut seen = 0;
    for sequence in all_sequences(&buffer).await {
        assert!(sequence >= seen, "{sequence} comes after {seen}");
        seen = sequence + 1;
    }
    assert_eq!(seen, 100);
}

#[tokio::test]
async fn after_a_restart_what_was_not_settled_is_read_in_order_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    buffer.append((0..20).map(event).collect()).await.unwrap();
    buffer.append((20..23).map(event).collect()).await.unwrap();
    assert_eq!(sequences(&buffer, 23).await.len(), 23);
    buffer.settle(&delivered(&[0, 1, 2, 9, 17, 20, 21, 22]));
    buffer.flush().await;
    drop(buffer);

    let buffer = open(&dir);
    let stats = buffer.stats();
    assert_eq!((stats.events, stats.bytes), (15, 15 * event(0).bytes()));
    assert_eq!(stats.oldest.unwrap().timestamp(), 3);
    assert_eq!(buffer.append(vec![event(99)]).await, Ok(Sequence(23)));
    let expected: Vec<u64> = (3..20).filter(|n| ![9, 17].contains(n)).chain([23]).collect();
    assert_eq!(all_sequences(&buffer).await, expected);
    assert_eq!(buffer.all_lives().unwrap().gap(), 0);
}

#[tokio::test]
async fn a_settlement_is_durable_without_a_flush_when_the_buffer_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    buffer.append(vec![event(1), event(2)]).await.unwrap();
    assert_eq!(sequences(&buffer, 9).await, [0, 1]);
    buffer.settle(&delivered(&[0]));
    drop(buffer);
    assert_eq!(open(&dir).stats().events, 1);
}

#[tokio::test]
async fn what_every_life_counted_is_in_the_ledger_of_all_lives() {
    let dir = tempfile::tempdir().unwrap();
    let mut tally = Tally::default();
    tally.end(&Outcome::Withheld(ReasonCode::OnetrustDenied.into()));
    for life in 1..=3 {
        let buffer = open(&dir);
        let first = buffer.append(vec![event(1), event(2)]).await.unwrap();
        while sequences(&buffer, 9).await.last() != Some(&(first.0 + 1)) {}
        buffer.settle(&[
            (first, Outcome::Rejected(ReasonCode::Refused.into())),
            (first, Outcome::Delivered),
        ]);
        buffer.record(&tally);
        let ledger = buffer.all_lives().unwrap();
        assert_eq!((ledger.received, ledger.buffered, ledger.gap()), (3 * life, life, 0));
        assert_eq!(ledger.count(OutcomeKind::Rejected, ReasonCode::Refused), life);
        assert_eq!(ledger.count(OutcomeKind::Withheld, ReasonCode::OnetrustDenied), life);
        assert_eq!(ledger.total(OutcomeKind::Delivered), 0, "an event ends once");
    }
}

#[tokio::test]
async fn room_comes_from_settling_not_from_reading() {
    let (_dir, buffer) = room_for(1, WhenFull::Refuse);
    buffer.append(vec![event(1)]).await.unwrap();
    assert_eq!(sequences(&buffer, 9).await, [0]);
    assert!(matches!(buffer.append(vec![event(2)]).await, Err(AppendError::Full(_))));
    assert_eq!(buffer.stats().unavailable.as_deref(), Some("buffer is full"));
    buffer.settle(&delivered(&[0, 0, 77]));
    assert_eq!(buffer.append(vec![event(2)]).await, Ok(Sequence(1)));
}

#[tokio::test]
async fn what_was_never_read_can_be_settled_too() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    buffer.append((0..3).map(event).collect()).await.unwrap();
    buffer.append((3..5).map(event).collect()).await.unwrap();
    buffer.settle(&delivered(&[1, 3, 4]));
    assert_eq!(buffer.stats().events, 2);
    assert_eq!(sequences(&buffer, 9).await, [0, 2]);
    buffer.flush().await;
    assert!(buffer.read(9, 9).now_or_never().is_none());
    drop(buffer);
    assert_eq!(all_sequences(&open(&dir)).await, [0, 2]);
}

#[tokio::test]
async fn waiting_for_room_ends_when_patience_does() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path(), event(0).bytes(), WhenFull::Wait);
    let mut buffer = DiskBuffer::open(options).unwrap();
    assert_eq!(buffer.line.patience.as_secs(), 20);
    buffer.line.patience = Duration::from_millis(1);
    buffer.append(vec![event(1)]).await.unwrap();
    assert!(matches!(buffer.append(vec![event(2)]).await, Err(AppendError::Full(_))));
    assert_eq!(buffer.stats().events, 1);
}

#[tokio::test]
async fn a_large_batch_is_not_overtaken_by_small_ones() {
    let (_dir, buffer) = room_for(2, WhenFull::Wait);
    buffer.append(vec![event(1)]).await.unwrap();
    let mut large = buffer.append(vec![event(2), event(3)]);
    assert!((&mut large).now_or_never().is_none());
    let mut small = buffer.append(vec![event(4)]);
    assert!((&mut small).now_or_never().is_none(), "it would fit, but it is not its turn");
    buffer.settle(&delivered(&[0]));
    assert_eq!(large.await, Ok(Sequence(1)));
    buffer.settle(&delivered(&[1]));
    assert_eq!(small.await, Ok(Sequence(3)));
}

#[tokio::test]
async fn a_batch_above_the_bound_is_taken_when_nothing_is_held() {
    let (_dir, buffer) = room_for(1, WhenFull::Refuse);
    assert_eq!(buffer.append(vec![event(1), event(2)]).await, Ok(Sequence(0)));
    assert!(buffer.append(vec![event(3)]).await.is_err());
    buffer.settle(&delivered(&[0, 1]));
    assert_eq!(buffer.stats().bytes, 0);
    assert_eq!(buffer.append(vec![event(3)]).await, Ok(Sequence(2)));
}

#[tokio::test]
async fn after_close_reads_end_after_the_last_event_and_settling_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    buffer.append(vec![event(1)]).await.unwrap();
    buffer.close();
    assert_eq!(buffer.append(vec![event(2)]).await, Err(AppendError::Closed));
    assert_eq!(sequences(&buffer, 9).await, [0]);
    assert!(sequences(&buffer, 9).await.is_empty());
    assert!(sequences(&buffer, 9).await.is_empty());
    buffer.settle(&delivered(&[0]));
    drop(buffer);
    assert_eq!(open(&dir).stats().events, 0);
}

#[tokio::test]
async fn close_answers_those_who_wait() {
    let (_dir, buffer) = room_for(1, WhenFull::Wait);
    buffer.append(vec![event(1)]).await.unwrap();
    let mut waiting = [buffer.append(vec![event(2)]), buffer.append(vec![event(3)])];
    for append in &mut waiting {
        assert!(append.now_or_never().is_none());
    }
    buffer.close();
    for append in waiting {
        assert_eq!(append.await, Err(AppendError::Closed));
    }
}

#[tokio::test]
async fn an_append_that_is_given_up_leaves_nothing_whenever_that_happens() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    let mut kept = Vec::new();
    let withheld = || {
        let mut tally = Tally::default();
        tally.end(&Outcome::Withheld(ReasonCode::OnetrustDenied.into()));
        tally
    };
    for round in 0..30_u64 {
        let letter = Some(LetterId(u128::from(round)));
        let events = vec![Stored { letter, ..event(1) }, event(2)];
        let mut given_up = buffer.append_with(events, withheld());
        assert!((&mut given_up).now_or_never().is_none());
        let mut stays = buffer.append_with(vec![event(3)], withheld());
        assert!((&mut stays).now_or_never().is_none());
        if round % 3 == 1 {
            // The commit is under way, or done and not taken.
            std::thread::yield_now();
        } else if round % 3 == 2 {
            buffer.flush().await;
        }
        drop(given_up);
        kept.push(stays.await.unwrap().0);
    }
    let stats = buffer.stats();
    assert_eq!((stats.events, stats.bytes), (30, 30 * event(0).bytes()));
    buffer.flush().await;
    let letters = (0..30).map(LetterId).collect();
    assert_eq!(buffer.replayed(letters).await.unwrap(), [false; 30]);
    assert_eq!(all_sequences(&buffer).await, kept);
    assert_eq!(buffer.all_lives().unwrap().received, 60);
    drop(buffer);

    let buffer = open(&dir);
    assert_eq!(buffer.stats().events, 30);
    let ledger = buffer.all_lives().unwrap();
    assert_eq!((ledger.received, ledger.buffered, ledger.gap()), (60, 30, 0));
    assert_eq!(ledger.count(OutcomeKind::Withheld, ReasonCode::OnetrustDenied), 30);
    assert_eq!(all_sequences(&buffer).await, kept);
}

#[tokio::test]
async fn an_event_is_read_only_once_its_append_has_answered() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    let mut append = buffer.append(vec![event(1)]);
    assert!((&mut append).now_or_never().is_none());
    buffer.flush().await;
    let mut read = buffer.read(9, 9);
    assert!((&mut read).now_or_never().is_none());
    append.await.unwrap();
    assert_eq!(read.await.len(), 1);
}

#[tokio::test]
async fn a_read_stops_behind_the_event_with_which_its_bytes_are_reached() {
    let (_dir, buffer) = room_for(9, WhenFull::Wait);
    buffer.append((0..5).map(event).collect()).await.unwrap();
    let size = event(0).bytes();
    assert_eq!(buffer.read(9, size + 1).await.len(), 2);
    assert_eq!(buffer.read(9, size).await.len(), 1);
    assert_eq!(buffer.read(9, 0).await.len(), 1, "never none");
}

#[tokio::test]
async fn the_oldest_is_the_first_that_is_not_settled() {
    let (_dir, buffer) = room_for(9, WhenFull::Wait);
    buffer.append(vec![event(1), event(2), event(3)]).await.unwrap();
    assert_eq!(buffer.stats().oldest.unwrap().timestamp(), 1);
    assert_eq!(sequences(&buffer, 9).await.len(), 3);
    buffer.settle(&delivered(&[1]));
    assert_eq!(buffer.stats().oldest.unwrap().timestamp(), 1);
    buffer.settle(&delivered(&[0]));
    let stats = buffer.stats();
    assert_eq!(stats.oldest.unwrap().timestamp(), 3);
    assert_eq!((stats.events, stats.bytes), (1, event(0).bytes()));
}

#[tokio::test]
async fn what_is_not_settled_can_be_fetched_again_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    buffer.append((0..3).map(event).collect()).await.unwrap();
    buffer.append((3..6).map(event).collect()).await.unwrap();
    assert_eq!(sequences(&buffer, 9).await.len(), 6);
    let fetched = buffer.fetch([5, 0, 2, 3].map(Sequence).to_vec()).await.unwrap();
    let seconds: Vec<_> = fetched.iter().map(|e| e.received_at.timestamp()).collect();
    assert_eq!(seconds, [5, 0, 2, 3]);
    buffer.settle(&delivered(&[2]));
    assert!(buffer.fetch(vec![Sequence(2)]).await.is_err());
}

#[tokio::test]
async fn a_replayed_letter_is_remembered_beyond_settlement_and_restart() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(&dir);
    let letter = Some(LetterId(7));
    buffer.append(vec![Stored { letter, ..event(0) }]).await.unwrap();
    sequences(&buffer, 9).await;
    buffer.settle(&delivered(&[0]));
    drop(buffer);
    let replayed = open(&dir).replayed(vec![LetterId(7), LetterId(8)]).await.unwrap();
    assert_eq!(replayed, [true, false]);
}

#[tokio::test]
async fn a_second_buffer_over_the_same_file_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(&dir);
    let refused = DiskBuffer::open(options(dir.path(), 1, WhenFull::Wait)).unwrap_err();
    assert!(refused[0].message.contains("another process"), "{}", refused[0]);
}
