//! Requests whose events wait for delivery, with `ack: delivered`, and the repeats of them.
//!
//! A sender that has no answer gives up after its own time, 60 s for Vector, and sends the same bytes
//! again, as long as an outage of Customer.io lasts. Without this memory each time would store the
//! events once more. So a request with the bytes of an earlier one waits for the end of that one:
//!
//! - while the earlier one is handed in, and takes its place if that fails;
//! - while the earlier one is not delivered, whether or not its sender still waits;
//! - after that, until one sender is told. Who hung up, or was answered that it takes longer, comes
//!   back for the end.
//!
//! From when the answer is handed over, equal bytes are new events: somebody may mean them twice. For
//! the time before there is no telling; who sends equal events at once and means two gives them
//! different `messageId`s.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::Shared;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::Refused;
use super::submit::Acknowledged;

/// How long a request waits for delivery. It is answered before the 60 s after which Vector, and most
/// proxies, give up: a reason says more than silence.
const WAIT: Duration = Duration::from_secs(50);

/// How long an end that nobody was told is kept. Senders that repeat at all come again within minutes.
const KEEP: Duration = Duration::from_secs(600);

/// Requests that are remembered at most. One beyond is stored again if it is repeated: an outage may
/// last, and senders need not wait for it.
const MOST: usize = 100_000;

/// What identifies the bytes of a request.
pub type Fingerprint = [u8; 32];

/// The events are taken, but not delivered yet: most likely they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotDelivered;

impl NotDelivered {
    /// Label of the metric.
    pub const LABEL: &str = "not_delivered";
}

/// Requests that were taken, and whose end nobody knows yet; cheap to clone.
#[derive(Clone)]
pub struct Repeats {
    known: Arc<Mutex<HashMap<Fingerprint, Known>>>,
    wait: Duration,
    keep: Duration,
    most: usize,
}

enum Known {
    /// It is handed in; the channel closes when that is over.
    Entering(watch::Receiver<()>),
    Taken(Arc<Taken>),
}

struct Taken {
    end: Shared<Acknowledged>,
    told: Notify,
}

/// The right to hand a request in, while its repeats wait. Given up when dropped.
struct Turn<'a> {
    repeats: &'a Repeats,
    request: Fingerprint,
    _over: watch::Sender<()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut known = self.repeats.known();
        if let Some(Known::Entering(_)) = known.get(&self.request) {
            known.remove(&self.request);
        }
    }
}

impl Default for Repeats {
    fn default() -> Self {
        Self { known: Arc::default(), wait: WAIT, keep: KEEP, most: MOST }
    }
}

impl fmt::Debug for Repeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repeats").field("known", &self.known().len()).finish_non_exhaustive()
    }
}

/// Returns what identifies a request. It is not to be forged: who could would have the events of
/// others taken for delivered.
pub fn fingerprint(parts: &[&[u8]]) -> Fingerprint {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl Repeats {
    /// Waits for the end of a request, which `take` hands in unless it is a repeat. `take` returns
    /// nothing if there is nothing to wait for. `hurried` resolves when it is to wait no longer; it is
    /// polled once the request is remembered, since a repeat of any other would be stored again.
    ///
    /// # Errors
    ///
    /// Those of `take`, and how the events ended; [`NotDelivered`] when that takes too long.
    ///
    /// # Cancel safety
    ///
    /// Once `take` is done the request is remembered, if there is room, also when the future is dropped.
    pub async fn once<R>(
        &self,
        request: Fingerprint,
        take: impl Future<Output = Result<Option<Acknowledged>, R>>,
        hurried: impl Future<Output = ()>,
    ) -> Result<(), R>
    where
        R: From<Refused> + From<NotDelivered>,
    {
        let until = Instant::now() + self.wait;
        let first = timeout_at(until, self.first(request)).await.map_err(|_| NotDelivered)?;
        let (taken, remembered) = match first {
            Err(taken) => {
                // Nothing of the repeat is needed while it waits.
                drop(take);
                (taken, true)
            }
            Ok(turn) => match take.await? {
                Some(end) => {
                    let taken = Arc::new(Taken { end: end.shared(), told: Notify::new() });
                    if let Some(turn) = &turn {
                        self.remember(turn, &taken);
                    }
                    (taken, turn.is_some())
                }
                None => return Ok(()),
            },
        };
        let ended = tokio::select! {
            // An end that is there is told in any case.
            biased;
            ended = taken.end.clone() => ended,
            () = sleep_until(until) => return Err(NotDelivered.into()),
            () = hurried, if remembered => return Err(NotDelivered.into()),
        };
        self.forget(&request, &taken);
        taken.told.notify_one();
        ended?;
        Ok(())
    }

    /// Waits until it is known which request is the first with these bytes: this one, which gets its
    /// turn if there is room to remember it, or an earlier one.
    async fn first(&self, request: Fingerprint) -> Result<Option<Turn<'_>>, Arc<Taken>> {
        loop {
            let mut entering = {
                let mut known = self.known();
                match known.get(&request) {
                    Some(Known::Taken(taken)) => return Err(Arc::clone(taken)),
                    Some(Known::Entering(over)) => over.clone(),
                    None if known.len() >= self.most => return Ok(None),
                    None => {
                        let (over, entering) = watch::channel(());
                        known.insert(request, Known::Entering(entering));
                        return Ok(Some(Turn { repeats: self, request, _over: over }));
                    }
                }
            };
            // Nothing is sent, but it closes.
            drop(entering.changed().await);
        }
    }

    fn remember(&self, turn: &Turn<'_>, taken: &Arc<Taken>) {
        let request = turn.request;
        self.known().insert(request, Known::Taken(Arc::clone(taken)));
        let (repeats, remembered) = (self.clone(), Arc::clone(taken));
        tokio::spawn(async move {
            let ended = remembered.end.clone().await;
            // What was not stored after all has to be handed in again.
            if ended.is_ok() {
                // Told or not, it is over.
                drop(timeout(repeats.keep, remembered.told.notified()).await);
            }
            repeats.forget(&request, &remembered);
        });
    }

    /// Forgets this one, and no later one with the same bytes.
    fn forget(&self, request: &Fingerprint, over: &Arc<Taken>) {
        let mut known = self.known();
        if let Some(Known::Taken(taken)) = known.get(request)
            && Arc::ptr_eq(taken, over)
        {
            known.remove(request);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Fingerprint, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::sync::oneshot;

    use super::*;
    use crate::source::Summary;

    #[derive(Debug, PartialEq, Eq)]
    enum Refusal {
        Refused(Refused),
        NotDelivered,
    }

    impl From<Refused> for Refusal {
        fn from(refused: Refused) -> Self {
            Self::Refused(refused)
        }
    }

    impl From<NotDelivered> for Refusal {
        fn from(_: NotDelivered) -> Self {
            Self::NotDelivered
        }
    }

    type End = oneshot::Sender<Result<Summary, Refused>>;

    /// A request that is handed in, and what ends it.
    fn new() -> (End, Result<Option<Acknowledged>, Refusal>) {
        let (end, ended) = oneshot::channel();
        (end, Ok(Some(async move { ended.await.unwrap_or(Err(Refused::Closed)) }.boxed())))
    }

    async fn never() -> Result<Option<Acknowledged>, Refusal> {
        panic!("a repeat is not handed in")
    }

    const ONE: Fingerprint = [1; 32];

    #[tokio::test]
    async fn a_repeat_waits_for_the_end_of_what_its_sender_gave_up() {
        let repeats = Repeats::default();
        let (end, take) = new();
        assert_eq!(repeats.once(ONE, ready(take), pending()).now_or_never(), None, "and hangs up");
        let again = repeats.once(ONE, never(), pending());
        assert_eq!(repeats.once([2; 32], ready(Ok::<_, Refusal>(None)), pending()).await, Ok(()));
        end.send(Ok(Summary::default())).unwrap();
        assert_eq!(again.await, Ok(()));
    }

    #[tokio::test]
    async fn an_end_is_kept_until_a_sender_is_told_and_then_equal_bytes_are_new_events() {
        let repeats = Repeats::default();
        let (end, take) = new();
        assert_eq!(repeats.once(ONE, ready(take), pending()).now_or_never(), None);
        end.send(Ok(Summary::default())).unwrap();
        // The memory sees the end, and keeps it.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(repeats.once(ONE, never(), pending()).await, Ok(()));
        let (end, take) = new();
        assert_eq!(
            repeats.once(ONE, ready(take), pending()).now_or_never(),
            None,
            "it is handed in"
        );
        // What is over leaves the newer one alone.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let again = repeats.once(ONE, never(), pending());
        end.send(Ok(Summary::default())).unwrap();
        assert_eq!(again.await, Ok(()));
        assert!(repeats.known().is_empty());
    }

    #[tokio::test]
    async fn what_was_not_stored_is_handed_in_again() {
        let repeats = Repeats::default();
        let (end, take) = new();
        assert_eq!(repeats.once(ONE, ready(take), pending()).now_or_never(), None);
        end.send(Err(Refused::Unavailable)).unwrap();
        while !repeats.known().is_empty() {
            tokio::task::yield_now().await;
        }
        let refused = Refusal::Refused(Refused::Closed);
        assert_eq!(
            repeats.once(ONE, ready(Err(Refusal::Refused(Refused::Closed))), pending()).await,
            Err(refused)
        );
    }

    #[tokio::test]
    async fn a_repeat_waits_while_the_first_is_handed_in_and_takes_its_place_if_that_fails() {
        let repeats = Repeats::default();
        let (full, taking) = oneshot::channel();
        let take = async { taking.await.unwrap_or(Err(Refusal::Refused(Refused::Closed))) };
        let mut first = Box::pin(repeats.once(ONE, take, pending()));
        assert_eq!((&mut first).now_or_never(), None);
        let (end, take) = new();
        let mut second = Box::pin(repeats.once(ONE, ready(take), pending()));
        let mut third = Box::pin(repeats.once(ONE, never(), pending()));
        assert_eq!((&mut second).now_or_never(), None);
        assert_eq!((&mut third).now_or_never(), None);
        assert!(!end.is_closed(), "it waits with its events");
        assert!(full.send(Err(Refusal::Refused(Refused::Unavailable))).is_ok());
        assert_eq!(first.await, Err(Refusal::Refused(Refused::Unavailable)));
        assert_eq!((&mut second).now_or_never(), None, "it is handed in");
        assert_eq!((&mut third).now_or_never(), None);
        end.send(Ok(Summary::default())).unwrap();
        assert_eq!((second.await, third.await), (Ok(()), Ok(())));
        assert!(repeats.known().is_empty());
    }

    #[tokio::test]
    async fn whoever_hangs_up_before_it_is_handed_in_leaves_that_to_the_repeat() {
        let repeats = Repeats::default();
        let taking = pending::<Result<Option<Acknowledged>, Refusal>>();
        assert_eq!(repeats.once(ONE, taking, pending()).now_or_never(), None);
        assert!(repeats.known().is_empty());
        let (end, take) = new();
        end.send(Ok(Summary::default())).unwrap();
        assert_eq!(repeats.once(ONE, ready(take), pending()).await, Ok(()));
    }

    #[tokio::test]
    async fn what_is_not_remembered_has_its_end_all_the_same() {
        let repeats = Repeats { most: 0, ..Repeats::default() };
        let (end, take) = new();
        end.send(Ok(Summary::default())).unwrap();
        assert_eq!(repeats.once(ONE, ready(take), pending()).await, Ok(()));
        assert!(repeats.known().is_empty());
    }

    #[tokio::test]
    async fn who_is_hurried_comes_back_for_the_end_if_that_is_remembered() {
        let repeats = Repeats::default();
        let (end, take) = new();
        let refused = Err(Refusal::NotDelivered);
        assert_eq!(repeats.once(ONE, ready(take), ready(())).await, refused);
        assert_eq!(repeats.once(ONE, never(), ready(())).await, refused);
        end.send(Ok(Summary::default())).unwrap();
        assert_eq!(repeats.once(ONE, never(), ready(())).await, Ok(()), "it is told what is known");

        let forgetful = Repeats { most: 0, ..Repeats::default() };
        let (_end, take) = new();
        let waits = forgetful.once(ONE, ready(take), ready(()));
        assert_eq!(waits.now_or_never(), None, "its repeat would be stored again");
    }

    #[tokio::test]
    async fn who_waits_long_is_answered_and_comes_back_and_nothing_is_kept_for_ever() {
        let short = Duration::from_millis(10);
        let repeats = Repeats { wait: short, keep: short, ..Repeats::default() };
        let (end, take) = new();
        assert_eq!(repeats.once(ONE, ready(take), pending()).await, Err(Refusal::NotDelivered));
        assert_eq!(repeats.once(ONE, never(), pending()).await, Err(Refusal::NotDelivered));
        end.send(Ok(Summary::default())).unwrap();
        while !repeats.known().is_empty() {
            tokio::time::sleep(short).await;
        }
    }
}
