//! The thread that reads letters, walks their events as a test, and writes marks.
//!
//! It has the stack that scripts need, and may block on files. The engine asks it for one thing at
//! a time.

use std::collections::HashSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::sync::oneshot;

use super::Selection;
use crate::buffer::LetterId;
use crate::delivery::dead_letter::marks::{self, Marks};
use crate::delivery::dead_letter::read::{Item, LetterFile, ReadLetter, Reader};
use crate::mapping::STACK_BYTES;
use crate::outcome::{Outcome, OutcomeKind, ReasonCode};
use crate::sink::Rules;
use crate::source::Batch;
use crate::stage::{Fill, Stage, Walked};

/// Letters of one portion; as many events are stored with one commit.
const LETTERS: usize = 500;
/// Bytes of events of one portion, beyond the last one.
const BYTES: usize = 4 << 20;
/// Lines that are looked at before progress is told.
const LINES: usize = 20_000;

type Job = Box<dyn FnOnce(&mut Result<State, String>) + Send>;

/// The engine's end of the thread; the thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Bench {
    jobs: mpsc::Sender<Job>,
}

/// Letters of one file and one source, in order, with what was seen on the way.
#[derive(Debug, Default)]
pub(super) struct Portion {
    pub(super) file: PathBuf,
    pub(super) letters: Vec<ReadLetter>,
    pub(super) notices: Vec<String>,
    /// Letters that were read.
    pub(super) read: u64,
    pub(super) done_before: u64,
    pub(super) unreadable: u64,
    /// Bytes read so far.
    pub(super) bytes: u64,
    pub(super) end: bool,
}

/// What would become of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ready,
    /// Ends before delivery, by a rule.
    KeptBack(String),
    /// Fails again.
    Fails(String),
}

struct State {
    shelf: Shelf,
    marks: Option<Marks>,
    stage: Option<(Arc<Rules>, Stage)>,
}

struct Shelf {
    /// In reverse order.
    files: Vec<LetterFile>,
    open: Option<(PathBuf, Reader)>,
    /// A letter that belongs to the next portion.
    ahead: Option<ReadLetter>,
    /// Bytes of files that are done.
    bytes: u64,
    selection: Selection,
    marked: HashSet<LetterId>,
    limit: usize,
}

impl Bench {
    /// Starts the thread, which begins by reading the marks.
    pub(super) fn start(
        dir: PathBuf,
        mut files: Vec<LetterFile>,
        selection: Selection,
    ) -> io::Result<Self> {
        files.reverse();
        let opened = move |mut shelf: Shelf| {
            shelf.marked = marks::read(&dir)?;
            let marks = if shelf.selection.dry_run { None } else { Some(Marks::open(&dir)?) };
            io::Result::Ok(State { shelf, marks, stage: None })
        };
        let rate = selection.rate.map_or(LETTERS, |rate| usize::try_from(rate).unwrap_or(LETTERS));
        let limit = LETTERS.min(rate.max(1));
        let marked = HashSet::new();
        let shelf = Shelf { files, open: None, ahead: None, bytes: 0, selection, marked, limit };
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new().name("replay".to_owned()).stack_size(STACK_BYTES).spawn(
            move || {
                let mut state = opened(shelf)
                    .map_err(|error| format!("the marks of what was replayed: {error}"));
                while let Ok(job) = queue.recv() {
                    job(&mut state);
                }
            },
        )?;
        Ok(Self { jobs })
    }

    async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, String> {
        let (done, answer) = oneshot::channel();
        let job = Box::new(move |state: &mut Result<State, String>| {
            let answer = state.as_mut().map_err(|error| error.clone()).map(job);
            // Nobody waits any more if the receiver is gone.
            drop(done.send(answer));
        });
        let ended = || "reading dead letters ended in a defect".to_owned();
        self.jobs.send(job).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Reads on, up to a portion of selected letters that are not marked.
    pub(super) async fn next(&self) -> Result<Portion, String> {
        self.ask(|state| state.shelf.next()).await
    }

    /// Walks the elements as a test.
    pub(super) async fn walk(
        &self,
        rules: Arc<Rules>,
        batch: Arc<Batch>,
    ) -> Result<Vec<Verdict>, String> {
        self.ask(move |state| {
            let walk = |element| walk(&mut state.stage, &rules, element, &batch);
            batch.elements.iter().map(walk).collect()
        })
        .await
    }

    /// Marks letters of a file.
    pub(super) async fn mark(&self, file: PathBuf, letters: Vec<LetterId>) -> Result<(), String> {
        if letters.is_empty() {
            return Ok(());
        }
        let marked = self.ask(move |state| match &mut state.marks {
            Some(marks) => marks.add(&file, &letters),
            None => Ok(()),
        });
        marked.await?.map_err(|error| format!("cannot mark what was replayed: {error}"))
    }
}

fn walk(
    stage: &mut Option<(Arc<Rules>, Stage)>,
    rules: &Arc<Rules>,
    element: &crate::source::Incoming,
    batch: &Batch,
) -> Verdict {
    let walked = catch_unwind(AssertUnwindSafe(|| {
        let mut current = match stage.take() {
            Some((of, stage)) if Arc::ptr_eq(&of, rules) => stage,
            _ => Stage::new(Arc::clone(&rules.filter), Arc::clone(&rules.mapping), Fill::Gateway),
        };
        let walked = current.walk(element, batch);
        *stage = Some((Arc::clone(rules), current));
        walked
    }));
    match walked {
        Ok(Walked::Ready(_)) => Verdict::Ready,
        Ok(Walked::Ended(outcome)) => match outcome.kind() {
            OutcomeKind::Withheld | OutcomeKind::Filtered => Verdict::KeptBack(name(&outcome)),
            _ => Verdict::Fails(name(&outcome)),
        },
        Ok(Walked::Failed(outcome, _)) => Verdict::Fails(name(&outcome)),
        Err(_panic) => Verdict::Fails(name(&Outcome::Failed(ReasonCode::ScriptPanic.into()))),
    }
}

fn name(outcome: &Outcome) -> String {
    match outcome.reason() {
        Some(reason) => format!("{} {}", outcome.kind(), reason.code),
        None => outcome.kind().to_string(),
    }
}

impl Shelf {
    fn next(&mut self) -> Portion {
        let file = self.open.as_ref().map(|(path, _)| path.clone());
        let mut portion = Portion { file: file.unwrap_or_default(), ..Portion::default() };
        let mut weight = 0;
        if let Some(letter) = self.ahead.take() {
            weight += letter.event.len();
            portion.letters.push(letter);
        }
        for _ in 0..LINES {
            if portion.letters.len() >= self.limit || weight >= BYTES {
                break;
            }
            let Some((path, reader)) = &mut self.open else {
                if !portion.letters.is_empty() {
                    break;
                }
                match self.files.pop() {
                    Some(file) => self.open(file, &mut portion),
                    None => {
                        portion.end = true;
                        break;
                    }
                }
                continue;
            };
            portion.file.clone_from(path);
            let place = |line: u64| format!("{}:{line}", path.display());
            match reader.next() {
                Ok(Some(Item::Letter(letter))) => {
                    portion.read += 1;
                    if !selects(&self.selection, &letter) {
                        continue;
                    }
                    if !self.marked.insert(letter.id) {
                        portion.done_before += 1;
                        continue;
                    }
                    if portion.letters.last().is_some_and(|last| last.source != letter.source) {
                        self.ahead = Some(*letter);
                        break;
                    }
                    weight += letter.event.len();
                    portion.letters.push(*letter);
                }
                Ok(Some(Item::Unreadable { line, why })) => {
                    portion.unreadable += 1;
                    portion.notices.push(format!("{}: {why}", place(line)));
                }
                Ok(Some(Item::Torn { line })) => {
                    portion.notices.push(format!(
                        "{}: the last line is cut off and passed over; its event was not lost",
                        place(line)
                    ));
                }
                Ok(None) => self.close(),
                Err(error) => {
                    portion.unreadable += 1;
                    portion.notices.push(format!("{}: {error}", path.display()));
                    self.close();
                }
            }
        }
        portion.bytes = self.bytes + self.open.as_ref().map_or(0, |(_, reader)| reader.bytes());
        portion
    }

    fn open(&mut self, file: LetterFile, portion: &mut Portion) {
        match Reader::open(&file) {
            Ok(reader) => self.open = Some((file.path, reader)),
            Err(error) => {
                // One that the bounds of size and age removed meanwhile is no fault.
                let gone = error.kind() == io::ErrorKind::NotFound;
                portion.unreadable += u64::from(!gone);
                portion.notices.push(format!("{}: {error}", file.path.display()));
            }
        }
    }

    fn close(&mut self) {
        if let Some((_, reader)) = self.open.take() {
            self.bytes += reader.bytes();
        }
    }
}

fn selects(selection: &Selection, letter: &ReadLetter) -> bool {
    let Selection { reasons, since, .. } = selection;
    let reason = reasons.is_empty() || reasons.iter().any(|reason| **reason == *letter.reason);
    reason && since.is_none_or(|since| letter.at.is_some_and(|at| at >= since))
}
