//! Several threads at one input, the output in its order.
//!
//! One thread reads, the crew maps, the caller writes. Parts go to the crew in a fixed turn, so that
//! the caller knows whose turn it is and nothing is sorted. Every queue is short: an input of any
//! length takes the same memory.

use std::io::{self, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::source::Incoming;

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::config::Config;
    use crate::filter::Filter;
    use crate::mapping::{Mapping, Mappings, Settings};
    use crate::source::Origin;

    use super::super::page::Format;
    use super::*;

    fn job() -> Job {
        let script =
            r#". = { "type": "person", "action": "delete", "identifiers": { "id": .userId } }"#;
        let scripts = Mappings {
            list_text: String::new(),
            list: vec![("track".into(), vec!["track.vrl".into()])],
            files: vec![("track.vrl".into(), script.into())],
            tests: vec![],
            dir: None,
        };
        let config = Config::default();
        Job {
            filter: Arc::new(Filter::new(&config.filter, &config.consent)),
            mapping: Arc::new(Mapping::load(&scripts, &Settings::default()).unwrap()),
            event_path: None,
            origin: Origin { source: Arc::from("map"), source_type: Arc::from("") },
            format: Format::Lines { api: None, explain: false },
        }
    }

    /// A small buffer makes many parts.
    fn input(text: impl Read + Send + 'static) -> BufReader<Box<dyn Read + Send>> {
        BufReader::with_capacity(256, Box::new(text))
    }

    #[test]
    fn several_threads_keep_the_order_of_the_input() {
        let text: String =
            (1..=2000).map(|i| format!("{{\"type\":\"track\",\"userId\":\"u{i}\"}}\n")).collect();
        let mut data = Vec::new();
        work(input(io::Cursor::new(text)), job(), 3, |page| {
            data.extend_from_slice(&page.data);
            Ok(())
        })
        .unwrap();
        let text = String::from_utf8(data).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2000);
        for (i, line) in (1..).zip(lines) {
            assert!(line.starts_with(&format!("{{\"line\":{i},\"outcome\":\"mapped\"")), "{line}");
            assert!(line.contains(&format!("\"u{i}\"")), "{line}");
        }
    }

    #[test]
    fn the_event_is_what_stands_at_the_path_and_refused_as_a_source_refuses_it() {
        let path: Arc<[String]> = Arc::from(["a".to_owned(), "b.c".to_owned()]);
        let job = Job { event_path: Some(path), ..job() };
        let text = r#"{"a":{"b.c":{"type":"track","userId":"u1"}}}
{"a":{"b.c":"{\"type\":\"track\",\"userId\":\"u2\"}"}}
{"type":"track","userId":"u3"}
{"a":{"b.c":[1]}}
"#;
        let (mut data, mut unwell) = (Vec::new(), 0);
        work(input(io::Cursor::new(text)), job, 1, |page| {
            data.extend_from_slice(&page.data);
            unwell += page.unwell;
            Ok(())
        })
        .unwrap();
        let text = String::from_utf8(data).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains("\"mapped\"") && lines[0].contains("\"u1\""), "{text}");
        assert!(lines[1].contains("\"mapped\"") && lines[1].contains("\"u2\""), "{text}");
        let refused = |line: u8, what: &str| {
            format!(
                r#"{{"line":{line},"outcome":"malformed","reason":"no_event_at_path","detail":"{what} at `.a.\"b.c\"`"}}"#
            )
        };
        assert_eq!(lines[2], refused(3, "nothing"));
        assert_eq!(lines[3], refused(4, "neither an object nor a text"));
        assert_eq!(unwell, 2);
    }

    #[test]
    fn input_and_output_that_fail_end_the_work() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("torn"))
            }
        }
        let mut lines = 0;
        let ended = work(input(io::Cursor::new("[]\n").chain(Broken)), job(), 2, |page| {
            lines += page.unwell;
            Ok(())
        });
        assert!(matches!(ended, Err(End::Read(_))), "{ended:?}");
        assert_eq!(lines, 1);
        let text = io::Cursor::new("{}\n".repeat(5000));
        let gone = || Err(io::ErrorKind::BrokenPipe.into());
        let ended = work(input(text), job(), 2, |_| gone());
        assert!(matches!(ended, Err(End::Write(_))), "{ended:?}");
    }

    #[test]
    fn an_empty_input_gives_nothing() {
        work(input(io::empty()), job(), 2, |_| panic!("no page")).unwrap();
    }
}
