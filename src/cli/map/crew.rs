//! Several threads at one input, the output in its order.
//!
//! One thread reads, the crew maps, the caller writes. Parts go to the crew in a fixed turn, so that
//! the caller knows whose turn it is and nothing is sorted. Every queue is short: an input of any
//! length takes the same memory.

use std::io::{self, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rudder_customerio::source::Incoming;

use super::STACK_BYTES;
use super::lines::Lines;
use super::page::{Job, Page};

/// The first parts all go to one thread: a short input is not worth compiling the scripts again.
const ALONE: usize = 8;

/// Parts that may wait before and behind each thread.
const QUEUE: usize = 2;

/// Why the work ended early.
#[derive(Debug)]
pub enum End {
    /// The input failed.
    Read(io::Error),
    /// The output failed.
    Write(io::Error),
    /// A thread of the crew died or could not be started.
    Panic,
}

type Part = io::Result<Vec<Incoming>>;

/// Maps all lines of `input`; `write` gets the pages in order.
pub fn work(
    input: BufReader<Box<dyn Read + Send>>,
    job: Job,
    threads: usize,
    mut write: impl FnMut(&Page) -> io::Result<()>,
) -> Result<(), End> {
    let (mut to_crew, mut from_crew) = (Vec::new(), Vec::new());
    for _ in 0..threads {
        let (parts, inbox) = sync_channel::<Part>(QUEUE);
        let (outbox, pages) = sync_channel(QUEUE);
        let job = job.clone();
        start(STACK_BYTES, move || man(&job, &inbox, &outbox))?;
        to_crew.push(parts);
        from_crew.push(pages);
    }
    let (count, total) = sync_channel(1);
    // Not joined: when the output is gone it may still hang in a read, until the process ends.
    start(1 << 20, move || {
        let sent = read(Lines::new(input), &to_crew);
        drop(to_crew);
        let _gone = count.send(sent);
    })?;
    let mut written = 0;
    while let Some(Ok(page)) = from_crew.get(turn(written, threads)).map(Receiver::recv) {
        write(&page.map_err(End::Read)?).map_err(End::Write)?;
        written += 1;
    }
    // A thread that died leaves its turn open, and the reader has sent more than was written.
    if total.recv() == Ok(written) { Ok(()) } else { Err(End::Panic) }
}

fn start(stack: usize, work: impl FnOnce() + Send + 'static) -> Result<(), End> {
    thread::Builder::new().stack_size(stack).spawn(work).map(drop).map_err(|_| End::Panic)
}

/// Says whose turn the part is.
fn turn(part: usize, threads: usize) -> usize {
    if part < ALONE { 0 } else { part % threads }
}

/// Reads to the end and returns how many parts were sent.
fn read<R: Read>(mut lines: Lines<R>, to_crew: &[SyncSender<Part>]) -> usize {
    let mut sent = 0;
    loop {
        let part = lines.together();
        let last = part.as_ref().map_or(true, Vec::is_empty);
        if matches!(&part, Ok(lines) if lines.is_empty()) {
            return sent;
        }
        let Some(Ok(())) = to_crew.get(turn(sent, to_crew.len())).map(|crew| crew.send(part))
        else {
            return sent;
        };
        sent += 1;
        if last {
            return sent;
        }
    }
}

/// The work of one of the crew.
fn man(job: &Job, inbox: &Receiver<Part>, outbox: &SyncSender<io::Result<Page>>) {
    let mut press = None;
    for part in inbox {
        let page = part.map(|lines| press.get_or_insert_with(|| job.press()).print(&lines));
        if outbox.send(page).is_err() {
            return;
        }
    }
}
