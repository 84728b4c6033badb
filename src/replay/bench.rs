//! The thread that reads letters, walks their events as a test, and writes marks.
//!
//! It has the stack that scripts need, and may block on files. The engine asks it for one thing at
//! a time.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::sync::oneshot;

use super::Selection;
use super::shelf::{Portion, Shelf};
use crate::buffer::LetterId;
use crate::delivery::dead_letter::marks::{self, Marks};
use crate::delivery::dead_letter::read::LetterFile;
use crate::mapping::STACK_BYTES;
use crate::outcome::{Outcome, OutcomeKind, ReasonCode};
use crate::sink::Rules;
use crate::source::EventBatch;
use crate::stage::{Fill, Stage, Walked};

type Job = Box<dyn FnOnce(&mut Result<State, String>) + Send>;

/// The engine's end of the thread; the thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Bench {
    jobs: mpsc::Sender<Job>,
}

/// What would become of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ready,
    /// Ends before delivery, by a rule.
    KeptBack(String),
    /// Fails again, with what the script or the check says.
    Fails(String, Option<Box<str>>),
}

struct State {
    shelf: Shelf,
    marks: Option<Marks>,
    stage: Option<(Arc<Rules>, Stage)>,
}

impl Bench {
    /// Starts the thread, which begins by reading the marks.
    pub(super) fn start(
        dir: PathBuf,
        files: Vec<LetterFile>,
        selection: Selection,
    ) -> io::Result<Self> {
        let dry_run = selection.dry_run;
        let opened = move |mut shelf: Shelf| {
            shelf.pass_over(marks::read(&dir)?);
            let marks = if dry_run { None } else { Some(Marks::open(&dir)?) };
            io::Result::Ok(State { shelf, marks, stage: None })
        };
        let shelf = Shelf::new(files, selection);
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
        batch: Arc<EventBatch>,
    ) -> Result<Vec<Verdict>, String> {
        self.ask(move |state| {
            let walk = |element| walk(&mut state.stage, &rules, element, &batch);
            batch.elements.iter().map(walk).collect()
        })
        .await
    }

    /// Marks letters of a file.
    pub(super) async fn mark(&self, file: PathBuf, letters: Vec<LetterId>) -> Result<bool, String> {
        if letters.is_empty() {
            return Ok(false);
        }
        let marked = self.ask(move |state| match &mut state.marks {
            Some(marks) => marks.add(&file, &letters).map(|()| true),
            None => Ok(false),
        });
        marked.await?.map_err(|error| format!("cannot mark what was replayed: {error}"))
    }
}

fn walk(
    stage: &mut Option<(Arc<Rules>, Stage)>,
    rules: &Arc<Rules>,
    element: &crate::source::Incoming,
    batch: &EventBatch,
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
            _ => fails(&outcome),
        },
        Ok(Walked::Failed(outcome, _)) => fails(&outcome),
        Err(_panic) => fails(&Outcome::Failed(ReasonCode::ScriptPanic.into())),
    }
}

fn fails(outcome: &Outcome) -> Verdict {
    let detail = outcome.reason().and_then(|reason| reason.detail.as_deref());
    Verdict::Fails(name(outcome), detail.map(Box::from))
}

fn name(outcome: &Outcome) -> String {
    match outcome.reason() {
        Some(reason) => format!("{} {}", outcome.kind(), reason.code),
        None => outcome.kind().to_string(),
    }
}
