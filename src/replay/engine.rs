//! The order of a replay: read, ask the buffer, test, hand in, mark.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::bench::{Bench, Verdict};
use super::shelf::Portion;
use super::{Ending, Message, Report, Selection};
use crate::buffer::{Buffer, LetterId};
use crate::delivery::dead_letter::read::ReadLetter;
use crate::sink::Rules;
use crate::source::intake::PATIENCE;
use crate::source::{EventBatch, Incoming, Intake, Origin, Receipt, Refused, Replay, Summary};

/// Notices that are told; a file of another kind would give one per line.
const NOTICES: usize = 100;

/// What stands before the first letter that goes to delivery.
const OVERWRITES: &str = "an identify that is replayed may overwrite newer values of its person";

/// Where letters go.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) rules: Arc<dyn Fn() -> Arc<Rules> + Send + Sync>,
    pub(super) buffer: Arc<dyn Buffer>,
    /// `None`: nothing can be handed in.
    pub(super) intake: Option<Intake>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("intake", &self.intake).finish_non_exhaustive()
    }
}

pub(super) struct Engine {
    target: Target,
    selection: Selection,
    bench: Bench,
    report: Report,
    out: mpsc::Sender<Message>,
    source_types: Arc<HashMap<String, Arc<str>>>,
    notices: usize,
    /// Whether it was told what a replay may do.
    warned: bool,
    /// When the next events may leave, with a rate.
    next: Instant,
}

impl Engine {
    pub(super) fn new(
        target: Target,
        selection: Selection,
        bench: Bench,
        report: Report,
        out: mpsc::Sender<Message>,
        source_types: Arc<HashMap<String, Arc<str>>>,
    ) -> Self {
        let (notices, warned, next) = (0, false, Instant::now());
        Self { target, selection, bench, report, out, source_types, notices, warned, next }
    }

    pub(super) async fn run(mut self, warnings: Vec<String>) -> Report {
        if !self.selection.dry_run {
            tracing::info!(bytes = self.report.of_bytes, "A replay of dead letters begins.");
        }
        let ending = self.everything(warnings).await.err().unwrap_or(Ending::Done);
        self.report.waiting = None;
        let Report { replayed, done_before, unreadable, .. } = self.report;
        if let Ending::Failed(error) = &ending {
            tracing::error!(error, replayed, "A replay of dead letters cannot go on.");
        } else if !self.selection.dry_run {
            let still_failing: u64 = self.report.still_failing.values().sum();
            tracing::info!(
                replayed,
                still_failing,
                done_before,
                unreadable,
                stopped = ending == Ending::Stopped,
                "A replay of dead letters has ended.",
            );
        }
        let end = Message::End { report: self.report.clone(), ending };
        // Nobody listens if the receiver is gone.
        self.out.send(end).await.ok();
        self.report
    }

    async fn everything(&mut self, warnings: Vec<String>) -> Result<(), Ending> {
        for text in warnings {
            self.warn(text).await?;
        }
        loop {
            if self.out.is_closed() {
                return Err(Ending::Stopped);
            }
            let portion = self.bench.next().await.map_err(Ending::Failed)?;
            self.report.letters += portion.read;
            self.report.done_before += portion.done_before;
            self.report.unreadable += portion.unreadable;
            let (bytes, end) = (portion.bytes, portion.end);
            self.tell(&portion.notices).await?;
            if !portion.letters.is_empty() {
                self.replay(portion).await?;
            }
            self.report.bytes = bytes;
            if end {
                return Ok(());
            }
            self.progress();
        }
    }

    /// Takes one portion through every step.
    async fn replay(&mut self, portion: Portion) -> Result<(), Ending> {
        let Portion { file, mut letters, .. } = portion;
        let known = self.known(&letters.iter().map(|l| l.id).collect::<Vec<_>>()).await?;
        let mut done = Vec::new();
        let mut known = known.into_iter();
        letters.retain(|letter| {
            let known = known.next().unwrap_or(false);
            if known {
                done.push(letter.id);
            }
            !known
        });
        // Stored in a life of the process that ended before it could mark them.
        self.report.done_before += done.len() as u64;
        self.mark(&file, done).await?;
        let Some(first) = letters.first() else { return Ok(()) };

        let source_type = self.source_types.get(&*first.source);
        let batch = Arc::new(EventBatch {
            elements: letters.iter().map(element).collect(),
            set_type: None,
            origin: Origin {
                source: Arc::clone(&first.source),
                source_type: source_type.map_or_else(|| Arc::from(""), Arc::clone),
            },
            received_at: Utc::now(),
            client_ip: None,
        });
        let rules = (self.target.rules)();
        let verdicts = self.bench.walk(rules, Arc::clone(&batch)).await.map_err(Ending::Failed)?;
        let mut going = Vec::new();
        for (letter, verdict) in letters.iter().zip(verdicts) {
            let was = format!("{} {}", letter.outcome, letter.reason);
            *self.report.selected.entry(was).or_default() += 1;
            match verdict {
                Verdict::Fails(how, detail) => {
                    self.report.fails(how, detail.as_deref());
                    continue;
                }
                Verdict::KeptBack(how) => going.push((letter, Some(how))),
                Verdict::Ready => going.push((letter, None)),
            }
        }
        if !self.warned && going.iter().any(|(_, kept_back)| kept_back.is_none()) {
            self.warned = true;
            self.warn(OVERWRITES.to_owned()).await?;
        }
        if !self.selection.dry_run {
            let elements = going.iter().map(|(letter, _)| element(letter)).collect();
            self.hand_in(elements, &batch.origin).await?;
            self.mark(&file, going.iter().map(|(letter, _)| letter.id).collect()).await?;
        }
        for (letter, kept_back) in going {
            match kept_back {
                Some(how) => *self.report.kept_back.entry(how).or_default() += 1,
                None => {
                    self.report.replayed += 1;
                    self.report.unknown += u64::from(letter.unknown);
                }
            }
        }
        Ok(())
    }

    /// Hands events in until they are safe: in a durable buffer, or at their end.
    async fn hand_in(
        &mut self,
        mut elements: Vec<Incoming>,
        origin: &Origin,
    ) -> Result<(), Ending> {
        let Some(intake) = self.target.intake.clone() else { return Ok(()) };
        while !elements.is_empty() {
            self.pace(elements.len()).await?;
            let batch = EventBatch {
                elements: elements.clone(),
                set_type: None,
                origin: origin.clone(),
                received_at: Utc::now(),
                client_ip: None,
            };
            let refused = match intake.submit(batch, PATIENCE).await {
                Ok(receipt) => match self.answer(receipt).await? {
                    Ok(summary) => {
                        self.report.failed_again += summary.failures();
                        self.report.waiting = None;
                        return Ok(());
                    }
                    Err(refused) => refused,
                },
                Err(refused) => refused,
            };
            let after = match &refused {
                Refused::Closed => return Err(Ending::Stopped),
                Refused::Full(after) => *after,
                Refused::Unavailable => Duration::from_secs(1),
            };
            self.report.waiting = Some(refused.to_string());
            self.progress();
            self.unless_left(sleep(after)).await?;
            // Dead letters that failed behind the commit refuse what the buffer has taken.
            let ids: Vec<_> = elements.iter().filter_map(letter_of).collect();
            let mut known = self.known(&ids).await?.into_iter();
            elements.retain(|_| !known.next().unwrap_or(false));
        }
        Ok(())
    }

    async fn answer(&self, mut receipt: Receipt) -> Result<Result<Summary, Refused>, Ending> {
        if self.target.buffer.durable() {
            // At most 20 s. Not given up before: what is stored is to be marked.
            return Ok(receipt.buffered().await);
        }
        match self.unless_left(receipt.settled()).await? {
            Err(Refused::Closed) => Err(Ending::Stopped),
            answer => Ok(answer),
        }
    }

    /// Waits until so many events may leave.
    async fn pace(&mut self, events: usize) -> Result<(), Ending> {
        let Some(rate) = self.selection.rate else { return Ok(()) };
        self.unless_left(sleep_until(self.next)).await?;
        self.next = Instant::now() + spacing(events, rate);
        Ok(())
    }

    async fn unless_left<T>(&self, wait: impl Future<Output = T>) -> Result<T, Ending> {
        tokio::select! {
            done = wait => Ok(done),
            () = self.out.closed() => Err(Ending::Stopped),
        }
    }

    async fn known(&self, letters: &[LetterId]) -> Result<Vec<bool>, Ending> {
        let asked = self.target.buffer.replayed(letters.to_vec()).await;
        asked.map_err(|error| Ending::Failed(format!("the buffer cannot be asked: {error}")))
    }

    async fn mark(&self, file: &std::path::Path, letters: Vec<LetterId>) -> Result<(), Ending> {
        let file: PathBuf = file.to_owned();
        let marked = self.bench.mark(file, letters.clone()).await.map_err(Ending::Failed)?;
        if marked {
            // The mark is what keeps them from a second replay now.
            self.target.buffer.forget_replayed(&letters);
        }
        Ok(())
    }

    async fn warn(&self, text: String) -> Result<(), Ending> {
        self.out.send(Message::Warning { text }).await.map_err(|_| Ending::Stopped)
    }

    async fn tell(&mut self, notices: &[String]) -> Result<(), Ending> {
        for notice in notices {
            self.notices += 1;
            let text = match self.notices.cmp(&NOTICES) {
                std::cmp::Ordering::Less => notice.clone(),
                std::cmp::Ordering::Equal => "more of this kind is counted only".to_owned(),
                std::cmp::Ordering::Greater => return Ok(()),
            };
            let told = self.out.send(Message::Notice { text }).await;
            told.map_err(|_| Ending::Stopped)?;
        }
        Ok(())
    }

    /// Tells how far it is, if the receiver keeps up.
    fn progress(&self) {
        self.out.try_send(Message::Progress { report: self.report.clone() }).ok();
    }
}

fn element(letter: &ReadLetter) -> Incoming {
    let replay = Replay {
        letter: letter.id,
        id_input: letter.id_input.clone(),
        received_at: letter.received_at,
    };
    Incoming {
        json: Ok(letter.event.clone()),
        position: letter.line,
        replay: Some(Box::new(replay)),
    }
}

fn letter_of(element: &Incoming) -> Option<LetterId> {
    element.replay.as_ref().map(|replay| replay.letter)
}

/// Returns how long so many events are spread over.
fn spacing(events: usize, rate: u32) -> Duration {
    let events = u32::try_from(events).unwrap_or(u32::MAX);
    Duration::from_secs(1).saturating_mul(events) / rate.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portion_delays_the_next_by_its_share_of_the_rate() {
        assert_eq!(spacing(5, 10), Duration::from_millis(500));
        assert_eq!(spacing(500, 50), Duration::from_secs(10));
        assert_eq!(spacing(usize::MAX, 0), Duration::from_secs(u64::from(u32::MAX)));
    }
}
