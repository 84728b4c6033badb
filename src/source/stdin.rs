//! NDJSON on standard input, or on any other stream of bytes: one event per line.
//!
//! The input waits when the pipeline has no room. Blank lines and a byte order mark are skipped;
//! lines keep their numbers.

mod lines;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use tokio::io::AsyncRead;
use tokio::sync::watch;
use tracing::warn;

use self::lines::{Line, Lines};
use super::submit::Acknowledged;
use super::{EventBatch, Incoming, Origin, Refused, Submit, Summary};
use crate::config::{Ack, StdinConfig};
use crate::event::at_path::at_path;
use crate::outcome::{Reason, ReasonCode};

/// Largest line in bytes.
pub const MAX_LINE: usize = 4_096_000;

/// Most lines of one batch.
const MAX_BATCH: usize = 1000;

/// Batches that may be under way before the input waits.
const MAX_UNDER_WAY: usize = 16;

/// How far the input was read.
#[derive(Debug, Default)]
pub struct Progress {
    lines: AtomicU64,
    bytes: AtomicU64,
    events: AtomicU64,
}

impl Progress {
    /// Returns how many lines were read, blank ones included.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Returns how many bytes were read.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns how many events the pipeline took.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

/// Why reading ended before the input did.
#[derive(Debug)]
pub enum StdinError {
    /// The input could not be read.
    Read(io::Error),
    /// The pipeline took no more events.
    Refused(Refused),
}

impl fmt::Display for StdinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(_) => f.write_str("standard input could not be read"),
            Self::Refused(_) => f.write_str("events of standard input were not taken"),
        }
    }
}

impl std::error::Error for StdinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Refused(refused) => Some(refused),
        }
    }
}

/// Reads events from lines.
#[derive(Debug, Default)]
pub struct StdinSource {
    config: StdinConfig,
    progress: Arc<Progress>,
}

impl StdinSource {
    /// Makes a source.
    #[must_use]
    pub fn new(config: StdinConfig) -> Self {
        Self { config, progress: Arc::default() }
    }

    /// Returns counters that move while the source runs.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Reads `input` to its end and waits until all its events are in the buffer or have ended.
    /// When `stop` becomes true, or its sender is dropped, it returns at once; lines that were not
    /// taken are then left out.
    ///
    /// The sum counts what became of the events until they were in the buffer.
    ///
    /// # Errors
    ///
    /// [`StdinError`] says why not all of the input was taken.
    pub async fn run<S: Submit>(
        self,
        input: impl AsyncRead + Unpin,
        intake: S,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Summary, StdinError> {
        let mut reading = Reading {
            lines: Lines::new(input, MAX_LINE),
            event_path: self.config.event_path,
            progress: self.progress,
            under_way: VecDeque::new(),
            sum: Summary::default(),
            reached: 0,
        };
        let stopped = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => true,
            ended = reading.read_all(&intake) => {
                ended?;
                false
            }
        };
        if stopped {
            warn!(
                line = reading.reached,
                "Standard input was left; this is the last line that is safe."
            );
        }
        Ok(reading.sum)
    }
}

struct Reading<R> {
    lines: Lines<R>,
    event_path: Option<Vec<String>>,
    progress: Arc<Progress>,
    /// Answers that are still to come, in order.
    under_way: VecDeque<UnderWay>,
    sum: Summary,
    /// The last line that is safe.
    reached: u64,
}

/// A batch that the pipeline took and has not answered yet.
struct UnderWay {
    events: u64,
    last_line: u64,
    answer: Acknowledged,
}

impl<R: AsyncRead + Unpin> Reading<R> {
    async fn read_all<S: Submit>(&mut self, intake: &S) -> Result<(), StdinError> {
        loop {
            let more = self.lines.fill().await.map_err(StdinError::Read)?;
            loop {
                let elements = self.ready();
                if elements.is_empty() {
                    break;
                }
                self.hand_in(elements, intake).await?;
            }
            self.progress.bytes.store(self.lines.bytes(), Ordering::Relaxed);
            if !more {
                break;
            }
        }
        while !self.under_way.is_empty() {
            self.wait_for_one().await?;
        }
        Ok(())
    }

    /// Takes the lines that are ready, up to a batch.
    fn ready(&mut self) -> Vec<Incoming> {
        let mut elements = Vec::new();
        while elements.len() < MAX_BATCH
            && let Some(Line { number, text }) = self.lines.next()
        {
            self.progress.lines.store(number, Ordering::Relaxed);
            let json = match text {
                Some(text) if text.iter().all(u8::is_ascii_whitespace) => continue,
                Some(text) => self.event(text),
                None => {
                    let detail = format!("the line is longer than {MAX_LINE} bytes");
                    Err(Reason::new(ReasonCode::TooLarge, detail))
                }
            };
            elements.push(Incoming::new(json, number));
        }
        elements
    }

    fn event(&self, line: Bytes) -> Result<Bytes, Reason> {
        match &self.event_path {
            Some(path) => at_path(&line, path),
            None => Ok(line),
        }
    }

    async fn hand_in<S: Submit>(
        &mut self,
        elements: Vec<Incoming>,
        intake: &S,
    ) -> Result<(), StdinError> {
        let events = elements.len() as u64;
        let last_line = elements.last().map_or(0, |element| element.position);
        let batch = EventBatch {
            elements,
            set_type: None,
            origin: Origin { source: "stdin".into(), source_type: "".into() },
            received_at: Utc::now(),
            client_ip: None,
        };
        let submitted = intake.submit(batch, "stdin", Duration::MAX, Ack::Buffered).await;
        let answer = submitted.map_err(StdinError::Refused)?;
        self.under_way.push_back(UnderWay { events, last_line, answer });
        while self.under_way.len() >= MAX_UNDER_WAY {
            self.wait_for_one().await?;
        }
        Ok(())
    }

    async fn wait_for_one(&mut self) -> Result<(), StdinError> {
        // Taken out only when it is done, so that a stop in between loses nothing.
        let Some(next) = self.under_way.front_mut() else { return Ok(()) };
        let (events, last_line) = (next.events, next.last_line);
        let answer = (&mut next.answer).await;
        self.under_way.pop_front();
        let summary = answer.map_err(StdinError::Refused)?;
        self.reached = last_line;
        self.progress.events.fetch_add(events, Ordering::Relaxed);
        self.sum += summary;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::sync::Semaphore;

    use super::*;

    /// Keeps what was submitted; takes a batch only when there is a permit for it.
    #[derive(Clone)]
    struct Recorder {
        batches: Arc<Mutex<Vec<EventBatch>>>,
        room: Arc<Semaphore>,
        refuse: Option<Refused>,
    }

    impl Submit for Recorder {
        async fn submit(
            &self,
            batch: EventBatch,
            _by: &'static str,
            wait: Duration,
            ack: Ack,
        ) -> Result<Acknowledged, Refused> {
            assert_eq!((wait, ack), (Duration::MAX, Ack::Buffered));
            self.room.acquire().await.unwrap().forget();
            let received = batch.elements.len() as u64;
            self.batches.lock().unwrap().push(batch);
            let answer = match &self.refuse {
                Some(refused) => Err(refused.clone()),
                None => Ok(Summary { received, ..Summary::default() }),
            };
            Ok(async move { answer }.boxed())
        }
    }

    fn recorder(room: usize) -> Recorder {
        Recorder { batches: Arc::default(), room: Arc::new(Semaphore::new(room)), refuse: None }
    }

    type Element = (u64, Result<String, ReasonCode>);

    impl Recorder {
        fn elements(&self) -> Vec<Element> {
            let batches = self.batches.lock().unwrap();
            let elements = batches.iter().flat_map(|batch| &batch.elements);
            let text = |json: &Bytes| String::from_utf8(json.to_vec()).unwrap();
            elements
                .map(|e| (e.position, e.json.as_ref().map(text).map_err(|reason| reason.code)))
                .collect()
        }
    }

    async fn read(input: &[u8], event_path: Option<&str>) -> (Vec<Element>, Summary) {
        let recorder = recorder(1000);
        let path = event_path.map(|path| path.split('.').map(str::to_owned).collect());
        let source = StdinSource::new(StdinConfig { event_path: path });
        let (_stop, stopped) = watch::channel(false);
        let summary = source.run(input, recorder.clone(), stopped).await.unwrap();
        (recorder.elements(), summary)
    }

    /// Takes everything, and answers once there is a permit for it.
    #[derive(Clone)]
    struct Slow(Arc<Semaphore>);

    impl Submit for Slow {
        async fn submit(
            &self,
            batch: EventBatch,
            _by: &'static str,
            _wait: Duration,
            _ack: Ack,
        ) -> Result<Acknowledged, Refused> {
            let (answers, received) = (Arc::clone(&self.0), batch.elements.len() as u64);
            let answer = async move {
                answers.acquire().await.unwrap().forget();
                Ok(Summary { received, ..Summary::default() })
            };
            Ok(answer.boxed())
        }
    }

    #[tokio::test]
    async fn a_line_is_safe_once_its_batch_is_answered_and_not_before() {
        let slow = Slow(Arc::new(Semaphore::new(0)));
        let mut reading = Reading {
            lines: Lines::new(&b""[..], MAX_LINE),
            event_path: None,
            progress: Arc::default(),
            under_way: VecDeque::new(),
            sum: Summary::default(),
            reached: 0,
        };
        for position in [4, 9] {
            let json = Ok(Bytes::from_static(b"{}"));
            reading.hand_in(vec![Incoming::new(json, position)], &slow).await.unwrap();
        }
        assert_eq!(reading.reached, 0);
        slow.0.add_permits(1);
        reading.wait_for_one().await.unwrap();
        assert_eq!((reading.reached, reading.sum.received), (4, 1));
    }

    #[tokio::test]
    async fn lines_are_events_with_their_numbers() {
        let (elements, summary) =
            read("\u{feff}{\"a\":1}\n\n  \t\nno json\r\n{}".as_bytes(), None).await;
        let text = |text: &str| Ok(text.to_owned());
        assert_eq!(elements, [(1, text("{\"a\":1}")), (4, text("no json")), (5, text("{}"))]);
        assert_eq!(summary.received, 3);
    }

    #[tokio::test]
    async fn a_line_that_is_too_large_is_malformed_alone() {
        let input = [&b"{}\n"[..], &vec![b' '; MAX_LINE + 1], b"\n", &vec![b'1'; MAX_LINE], b"\n"];
        let (elements, _) = read(&input.concat(), None).await;
        assert_eq!(elements[0], (1, Ok("{}".into())));
        assert_eq!(elements[1], (2, Err(ReasonCode::TooLarge)));
        assert_eq!(elements[2].1.as_ref().unwrap().len(), MAX_LINE);
    }

    #[tokio::test]
    async fn events_are_found_at_their_path() {
        let input =
            b"{\"message\":\"{\\\"type\\\":\\\"track\\\"}\"}\n{\"message\":{\"x\":1}}\n{}\n{";
        let (elements, _) = read(input, Some("message")).await;
        let expected = [
            (1, Ok("{\"type\":\"track\"}".into())),
            (2, Ok("{\"x\":1}".into())),
            (3, Err(ReasonCode::NoEventAtPath)),
            (4, Err(ReasonCode::InvalidJson)),
        ];
        assert_eq!(elements, expected);
    }

    #[tokio::test]
    async fn batches_are_bounded() {
        let recorder = recorder(1000);
        let (_stop, stopped) = watch::channel(false);
        let source = StdinSource::default();
        let progress = source.progress();
        let input = b"{}\n".repeat(2500);
        let summary = source.run(&*input, recorder.clone(), stopped).await.unwrap();
        let sizes: Vec<_> =
            recorder.batches.lock().unwrap().iter().map(|batch| batch.elements.len()).collect();
        assert_eq!(sizes, [1000, 1000, 500]);
        assert_eq!(summary.received, 2500);
        assert_eq!((progress.lines(), progress.events(), progress.bytes()), (2500, 2500, 7500));
    }

    #[tokio::test]
    async fn lines_do_not_wait_for_a_batch_to_fill() {
        let recorder = recorder(1000);
        let (mut writer, reader) = tokio::io::duplex(1000);
        let (_stop, stopped) = watch::channel(false);
        let task = tokio::spawn(StdinSource::default().run(reader, recorder.clone(), stopped));
        writer.write_all(b"{}\n{\"half\"").await.unwrap();
        while recorder.elements().is_empty() {
            tokio::task::yield_now().await;
        }
        writer.write_all(b":1}\n").await.unwrap();
        drop(writer);
        task.await.unwrap().unwrap();
        assert_eq!(recorder.elements(), [(1, Ok("{}".into())), (2, Ok("{\"half\":1}".into()))]);
    }

    #[tokio::test]
    async fn the_input_waits_for_room_and_a_stop_ends_the_waiting() {
        let recorder = recorder(1);
        let (mut writer, reader) = tokio::io::duplex(16);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(StdinSource::default().run(reader, recorder.clone(), stopped));
        let mut written = 0;
        let endless = async {
            loop {
                writer.write_all(b"{}\n").await.unwrap();
                written += 1;
            }
        };
        let waited = tokio::time::timeout(Duration::from_millis(50), endless).await;
        assert!(waited.is_err() && written < 20, "{written} lines were read without room");
        stop.send(true).unwrap();
        task.await.unwrap().unwrap();
        assert_eq!(recorder.batches.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_was_not_taken_is_an_error() {
        let refusing = Recorder { refuse: Some(Refused::Closed), ..recorder(10) };
        let (_stop, stopped) = watch::channel(false);
        let ended = StdinSource::default().run(&b"{}\n"[..], refusing, stopped).await;
        assert!(matches!(ended, Err(StdinError::Refused(Refused::Closed))));
    }
}
