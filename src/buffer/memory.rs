//! The buffer in memory: bounded by bytes, first in first out, gone when the process ends.
//!
//! An event counts against the bound from its append to its settlement, read or not. Appends that
//! wait for room wait in a queue, so that a large batch is not starved by small ones behind it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{AppendError, Buffer, BufferStats, LetterId, Sequence, Stored};
use crate::config::WhenFull;
use crate::outcome::{LedgerSnapshot, Outcome, Tally};

/// How long an append waits for room with `when_full: wait`. Senders give up on a request that
/// hangs for 60 s, so the answer has to come well before.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a sender is asked to wait before it repeats a refused batch.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A [`Buffer`] whose events live in memory alone.
///
/// `max_bytes` bounds the sum of [`Stored::bytes`]; a single batch above the bound is taken while
/// nothing else is held, since it could never be taken otherwise.
#[derive(Debug)]
pub struct MemoryBuffer {
    max_bytes: u64,
    when_full: WhenFull,
    patience: Duration,
    shelf: Mutex<Shelf>,
    /// The turn to wait for room; tokio's mutex is fair, which makes the queue.
    append_turn: tokio::sync::Mutex<()>,
    read_turn: tokio::sync::Mutex<()>,
    room: Notify,
    news: Notify,
}

#[derive(Debug, Default)]
struct Shelf {
    next: u64,
    unread: VecDeque<Sequence>,
    unsettled: BTreeMap<Sequence, Held>,
    replayed: HashSet<LetterId>,
    bytes: u64,
    closed: bool,
    /// An append did not fit, and nothing was settled since.
    short_of_room: bool,
}

#[derive(Debug)]
struct Held {
    event: Arc<Stored>,
    bytes: u64,
}

impl MemoryBuffer {
    /// Makes an empty buffer.
    #[must_use]
    pub fn new(max_bytes: u64, when_full: WhenFull) -> Self {
        Self {
            max_bytes,
            when_full,
            patience: PATIENCE,
            shelf: Mutex::default(),
            append_turn: tokio::sync::Mutex::default(),
            read_turn: tokio::sync::Mutex::default(),
            room: Notify::new(),
            news: Notify::new(),
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the events if they fit; takes them out of `events` when it does.
    fn try_append(&self, events: &mut Vec<Stored>, bytes: u64) -> Result<Sequence, AppendError> {
        let first = {
            let mut shelf = self.shelf();
            if shelf.closed {
                return Err(AppendError::Closed);
            }
            let fits = shelf.bytes.saturating_add(bytes) <= self.max_bytes;
            if !fits && !shelf.unsettled.is_empty() {
                shelf.short_of_room = true;
                return Err(AppendError::Full(RETRY_AFTER));
            }
            shelf.put(std::mem::take(events))
        };
        self.news.notify_one();
        Ok(first)
    }

    async fn append_in_turn(&self, mut events: Vec<Stored>) -> Result<Sequence, AppendError> {
        let bytes = events.iter().map(Stored::bytes).sum();
        if self.when_full == WhenFull::Refuse {
            return self.try_append(&mut events, bytes);
        }
        let waiting = async {
            let _turn = self.append_turn.lock().await;
            loop {
                match self.try_append(&mut events, bytes) {
                    Err(AppendError::Full(_)) => self.room.notified().await,
                    done => return done,
                }
            }
        };
        timeout(self.patience, waiting).await.unwrap_or(Err(AppendError::Full(RETRY_AFTER)))
    }

    async fn read_in_turn(&self, events: usize, bytes: u64) -> Vec<(Sequence, Arc<Stored>)> {
        let _turn = self.read_turn.lock().await;
        loop {
            {
                let mut shelf = self.shelf();
                let n = shelf.portion(events, bytes);
                if n > 0 || shelf.closed {
                    return shelf.hand_out(n);
                }
            }
            self.news.notified().await;
        }
    }
}

impl Shelf {
    fn put(&mut self, events: Vec<Stored>) -> Sequence {
        let first = Sequence(self.next);
        for event in events {
            let sequence = Sequence(self.next);
            let bytes = event.bytes();
            self.next += 1;
            self.bytes += bytes;
            self.replayed.extend(event.letter);
            self.unsettled.insert(sequence, Held { event: Arc::new(event), bytes });
            self.unread.push_back(sequence);
        }
        first
    }

    /// Returns how many of the unread events a read of these bounds takes.
    fn portion(&self, events: usize, bytes: u64) -> usize {
        let mut sum = 0_u64;
        let fits = |sequence: &&Sequence| {
            let fits = sum < bytes.max(1);
            sum += self.unsettled.get(sequence).map_or(0, |held| held.bytes);
            fits
        };
        self.unread.iter().take(events.max(1)).take_while(fits).count()
    }

    fn hand_out(&mut self, n: usize) -> Vec<(Sequence, Arc<Stored>)> {
        let event = |sequence: Sequence| {
            let held = self.unsettled.get(&sequence)?;
            Some((sequence, Arc::clone(&held.event)))
        };
        self.unread.drain(..n).filter_map(event).collect()
    }
}

impl Buffer for MemoryBuffer {
    fn append(&self, events: Vec<Stored>) -> BoxFuture<'_, Result<Sequence, AppendError>> {
        Box::pin(self.append_in_turn(events))
    }

    fn read(&self, events: usize, bytes: u64) -> BoxFuture<'_, Vec<(Sequence, Arc<Stored>)>> {
        Box::pin(self.read_in_turn(events, bytes))
    }

    fn fetch(&self, events: Vec<Sequence>) -> BoxFuture<'_, Result<Vec<Arc<Stored>>, String>> {
        let shelf = self.shelf();
        let event = |sequence: &Sequence| match shelf.unsettled.get(sequence) {
            Some(held) => Ok(Arc::clone(&held.event)),
            None => Err(format!("the buffer does not hold event {}", sequence.0)),
        };
        let events = events.iter().map(event).collect();
        Box::pin(std::future::ready(events))
    }

    fn settle(&self, events: &[(Sequence, Outcome)]) {
        {
            let mut shelf = self.shelf();
            for (sequence, _) in events {
                if let Some(held) = shelf.unsettled.remove(sequence) {
                    shelf.bytes -= held.bytes;
                    shelf.short_of_room = false;
                }
            }
        }
        self.room.notify_one();
    }

    fn record(&self, _ended: &Tally) {}

    fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn all_lives(&self) -> Option<LedgerSnapshot> {
        None
    }

    #[cfg(feature = "pipeline")]
    fn replayed(&self, letters: Vec<LetterId>) -> BoxFuture<'_, Result<Vec<bool>, String>> {
        let shelf = self.shelf();
        let replayed = letters.iter().map(|letter| shelf.replayed.contains(letter)).collect();
        Box::pin(std::future::ready(Ok(replayed)))
    }

    #[cfg(feature = "pipeline")]
    fn forget_replayed(&self, letters: &[LetterId]) {
        let mut shelf = self.shelf();
        for letter in letters {
            shelf.replayed.remove(letter);
        }
    }

    fn close(&self) {
        self.shelf().closed = true;
        self.room.notify_one();
        self.news.notify_one();
    }

    fn stats(&self) -> BufferStats {
        let shelf = self.shelf();
        let full = shelf.bytes >= self.max_bytes || shelf.short_of_room;
        BufferStats {
            events: shelf.unsettled.len() as u64,
            bytes: shelf.bytes,
            max_bytes: self.max_bytes,
            oldest: shelf.unsettled.first_key_value().map(|(_, held)| held.event.received_at),
            unavailable: (full && !shelf.unsettled.is_empty()).then(|| "buffer is full".to_owned()),
            damaged: false,
        }
    }

    fn durable(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chrono::DateTime;
    use futures_util::FutureExt;

    use super::*;
    use crate::event::Original;
    use crate::event::identity::IdInput;
    use crate::operation::{ConflictKeys, Effect, Operation, Operations};

    fn event(second: i64) -> Stored {
        let operation = Operation {
            keys: ConflictKeys::default(),
            effect: Effect::Ordinary,
            body: Bytes::from_static(b"{}"),
        };
        let raw = Bytes::from_static(b"{}");
        Stored {
            operations: Operations::from_iter([operation]),
            original: Original { raw, assigned: smallvec::SmallVec::new() },
            id_input: IdInput::default(),
            received_at: DateTime::from_timestamp(second, 0).unwrap(),
            source: Arc::from("test"),
            letter: None,
        }
    }

    fn room_for(events: u64, when_full: WhenFull) -> Arc<MemoryBuffer> {
        Arc::new(MemoryBuffer::new(events * event(0).bytes(), when_full))
    }

    fn delivered(sequences: &[u64]) -> Vec<(Sequence, Outcome)> {
        sequences.iter().map(|n| (Sequence(*n), Outcome::Delivered)).collect()
    }

    async fn sequences(buffer: &MemoryBuffer, limit: usize) -> Vec<u64> {
        buffer.read(limit, u64::MAX).await.into_iter().map(|(sequence, _)| sequence.0).collect()
    }

    #[tokio::test]
    async fn each_event_is_read_once_in_order_of_append() {
        let buffer = room_for(9, WhenFull::Refuse);
        assert_eq!(buffer.append(vec![event(1), event(2)]).await, Ok(Sequence(0)));
        assert_eq!(buffer.append(vec![event(3)]).await, Ok(Sequence(2)));
        assert_eq!(sequences(&buffer, 2).await, [0, 1]);
        assert_eq!(sequences(&buffer, 2).await, [2]);
        assert!(
            buffer.read(2, u64::MAX).now_or_never().is_none(),
            "nothing further may be handed out"
        );
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_by_an_append() {
        let buffer = room_for(9, WhenFull::Wait);
        let reader = Arc::clone(&buffer);
        let read = tokio::spawn(async move { sequences(&reader, 10).await });
        tokio::task::yield_now().await;
        buffer.append(vec![event(1)]).await.unwrap();
        assert_eq!(read.await.unwrap(), [0]);
    }

    #[tokio::test]
    async fn room_comes_from_settling_not_from_reading() {
        let buffer = room_for(1, WhenFull::Refuse);
        buffer.append(vec![event(1)]).await.unwrap();
        assert_eq!(sequences(&buffer, 9).await, [0]);
        let refused = buffer.append(vec![event(2)]).await;
        assert!(matches!(refused, Err(AppendError::Full(_))));
        assert!(buffer.stats().unavailable.is_some());
        buffer.settle(&delivered(&[0, 0, 77]));
        assert_eq!(buffer.append(vec![event(2)]).await, Ok(Sequence(1)));
    }

    #[tokio::test]
    async fn waiting_for_room_ends_when_patience_does() {
        let mut buffer = MemoryBuffer::new(event(0).bytes(), WhenFull::Wait);
        assert_eq!(buffer.patience.as_secs(), 20);
        buffer.patience = Duration::from_millis(1);
        buffer.append(vec![event(1)]).await.unwrap();
        let refused = buffer.append(vec![event(2)]).await;
        assert!(matches!(refused, Err(AppendError::Full(_))));
        assert_eq!(buffer.stats().events, 1);
    }

    #[tokio::test]
    async fn a_large_batch_is_not_overtaken_by_small_ones() {
        let buffer = room_for(2, WhenFull::Wait);
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
    async fn giving_up_an_append_lets_the_next_one_in() {
        let buffer = room_for(2, WhenFull::Wait);
        buffer.append(vec![event(1)]).await.unwrap();
        let mut large = buffer.append(vec![event(2), event(3)]);
        assert!((&mut large).now_or_never().is_none());
        let small = buffer.append(vec![event(4)]);
        drop(large);
        assert_eq!(small.await, Ok(Sequence(1)));
    }

    #[tokio::test]
    async fn a_batch_above_the_bound_is_taken_when_nothing_is_held() {
        let buffer = room_for(1, WhenFull::Refuse);
        assert_eq!(buffer.append(vec![event(1), event(2)]).await, Ok(Sequence(0)));
        assert!(buffer.append(vec![event(3)]).await.is_err());
        buffer.settle(&delivered(&[0, 1]));
        assert_eq!(buffer.stats().bytes, 0);
        assert_eq!(buffer.append(vec![event(3)]).await, Ok(Sequence(2)));
    }

    #[tokio::test]
    async fn after_close_reads_end_after_the_last_event() {
        let buffer = room_for(9, WhenFull::Wait);
        buffer.append(vec![event(1)]).await.unwrap();
        buffer.close();
        assert_eq!(buffer.append(vec![event(2)]).await, Err(AppendError::Closed));
        assert_eq!(sequences(&buffer, 9).await, [0]);
        assert!(sequences(&buffer, 9).await.is_empty());
        assert!(sequences(&buffer, 9).await.is_empty());
    }

    #[tokio::test]
    async fn close_answers_those_who_wait() {
        let buffer = room_for(1, WhenFull::Wait);
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
    async fn the_oldest_is_the_first_that_is_not_settled() {
        let buffer = room_for(9, WhenFull::Wait);
        buffer.append(vec![event(1), event(2), event(3)]).await.unwrap();
        buffer.settle(&delivered(&[1]));
        assert_eq!(buffer.stats().oldest.unwrap().timestamp(), 1);
        buffer.settle(&delivered(&[0]));
        let stats = buffer.stats();
        assert_eq!(stats.oldest.unwrap().timestamp(), 3);
        assert_eq!((stats.events, stats.bytes), (1, event(0).bytes()));
    }

    #[tokio::test]
    async fn a_read_stops_behind_the_event_with_which_its_bytes_are_reached() {
        let buffer = room_for(9, WhenFull::Wait);
        buffer.append((0..5).map(event).collect()).await.unwrap();
        let size = event(0).bytes();
        assert_eq!(buffer.read(9, size + 1).await.len(), 2);
        assert_eq!(buffer.read(9, size).await.len(), 1);
        assert_eq!(buffer.read(9, 0).await.len(), 1, "never none");
    }

    #[tokio::test]
    async fn what_is_not_settled_can_be_fetched_again() {
        let buffer = room_for(9, WhenFull::Wait);
        buffer.append((0..3).map(event).collect()).await.unwrap();
        let fetched = buffer.fetch(vec![Sequence(2), Sequence(0)]).await.unwrap();
        let seconds: Vec<_> = fetched.iter().map(|e| e.received_at.timestamp()).collect();
        assert_eq!(seconds, [2, 0]);
        buffer.settle(&delivered(&[2]));
        assert!(buffer.fetch(vec![Sequence(2)]).await.is_err());
    }

    #[tokio::test]
    async fn a_replayed_letter_is_remembered_beyond_its_settlement() {
        let buffer = room_for(9, WhenFull::Wait);
        let letter = Some(LetterId(7));
        buffer.append(vec![Stored { letter, ..event(0) }]).await.unwrap();
        buffer.settle(&delivered(&[0]));
        let replayed = buffer.replayed(vec![LetterId(7), LetterId(8)]).await.unwrap();
        assert_eq!(replayed, [true, false]);
        buffer.forget_replayed(&[LetterId(7)]);
        assert_eq!(buffer.replayed(vec![LetterId(7)]).await.unwrap(), [false]);
    }
}
