//! Reading dead letters again, one line at a time.
//!
//! The files are plain text that people may look through, edit, and copy: blank lines, CRLF, and
//! members in another order do no harm. A line that cannot be read is told with its place, and the
//! rest goes on.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Take};
#[cfg(feature = "pipeline")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

#[cfg(feature = "pipeline")]
use super::folder;
use crate::buffer::LetterId;
use crate::event::identity::IdInput;

/// Lines above this are none of ours: an event and its operations are far below.
pub const MAX_LINE: u64 = 64 << 20;

/// A dead letter as far as a replay needs it.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(feature = "pipeline"),
    expect(dead_code, reason = "what else is read is for replays")
)]
pub struct ReadLetter {
    /// Its name.
    pub id: LetterId,
    /// Its line in the file, from 1.
    pub line: u64,
    /// When it was written.
    pub at: Option<DateTime<Utc>>,
    /// `failed` or `rejected`.
    pub outcome: Box<str>,
    /// The reason's code; empty if there is none.
    pub reason: Box<str>,
    /// Whether Customer.io may have applied it all the same.
    pub unknown: bool,
    /// The source event as JSON, with the members that were assigned to it.
    pub event: Bytes,
    /// Input of the event ids.
    pub id_input: IdInput,
    /// When the event was received.
    pub received_at: DateTime<Utc>,
    /// Label of its source.
    pub source: Arc<str>,
}

/// What a file holds, one after another.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "pipeline"),
    expect(dead_code, reason = "what else is read is for replays")
)]
pub enum Item {
    /// A letter.
    Letter(Box<ReadLetter>),
    /// A line that is no letter, and why; the text shows nothing of the line.
    Unreadable {
        /// The line in the file, from 1.
        line: u64,
        /// Why.
        why: Cow<'static, str>,
    },
    /// The last line is cut off: the process ended while it wrote it, and its event was not settled.
    Torn {
        /// The line in the file, from 1.
        line: u64,
    },
}

/// A file of dead letters in the order in which it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterFile {
    /// Where it is.
    pub path: PathBuf,
    /// How many bytes are to be read: what is written later is not.
    pub bytes: u64,
}

/// Lists the files of a folder in the order in which they were written.
///
/// # Errors
///
/// I/O errors, with the path; a folder that is not there is empty.
#[cfg(feature = "pipeline")]
pub fn list(dir: &Path) -> io::Result<Vec<LetterFile>> {
    let files = folder::list(dir)?;
    Ok(files.into_iter().map(|(path, bytes)| LetterFile { path, bytes }).collect())
}

/// Reads one file.
#[derive(Debug)]
pub struct Reader {
    input: Lines<BufReader<Take<File>>>,
}

impl Reader {
    /// Opens a file; what is behind `file.bytes` is not read.
    ///
    /// # Errors
    ///
    /// I/O errors.
    pub fn open(file: &LetterFile) -> io::Result<Self> {
        let input = File::open(&file.path)?.take(file.bytes);
        Ok(Self { input: Lines::new(BufReader::with_capacity(1 << 16, input)) })
    }

    /// Returns how many bytes were read.
    #[must_use]
    #[cfg(feature = "pipeline")]
    pub fn bytes(&self) -> u64 {
        self.input.bytes
    }

    /// Returns the next item; `None` at the end.
    ///
    /// # Errors
    ///
    /// I/O errors.
    pub fn next(&mut self) -> io::Result<Option<Item>> {
        self.input.next()
    }
}

/// Cuts input into lines and reads them.
#[derive(Debug)]
struct Lines<R> {
    input: R,
    text: Vec<u8>,
    line: u64,
    bytes: u64,
}

impl<R: BufRead> Lines<R> {
    fn new(input: R) -> Self {
        Self { input, text: Vec::new(), line: 0, bytes: 0 }
    }

    fn next(&mut self) -> io::Result<Option<Item>> {
        loop {
            self.text.clear();
            let read = self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.text)?;
            if read == 0 {
                return Ok(None);
            }
            self.bytes += read as u64;
            self.line += 1;
            let line = self.line;
            let ended = self.text.last() == Some(&b'\n');
            if !ended && read as u64 == MAX_LINE {
                self.skip()?;
                return Ok(Some(Item::Unreadable { line, why: "the line is too long".into() }));
            }
            let text = match self.text.strip_prefix(b"\xef\xbb\xbf") {
                Some(rest) if line == 1 => rest,
                _ => &self.text,
            }
            .trim_ascii();
            if text.is_empty() {
                continue;
            }
            return Ok(Some(match parse(text, line) {
                Ok(letter) => Item::Letter(Box::new(letter)),
                Err(_) if !ended => Item::Torn { line },
                Err(why) => Item::Unreadable { line, why },
            }));
        }
    }

    /// Passes over the rest of a line.
    fn skip(&mut self) -> io::Result<()> {
        loop {
            let (found, used) = match self.input.fill_buf()? {
                [] => return Ok(()),
                buffer => match memchr::memchr(b'\n', buffer) {
                    Some(at) => (true, at + 1),
                    None => (false, buffer.len()),
                },
            };
            self.input.consume(used);
            self.bytes += used as u64;
            if found {
                return Ok(());
            }
        }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    at: Option<Box<str>>,
    outcome: Option<Box<str>>,
    reason: Option<Box<str>>,
    #[serde(default)]
    unknown: bool,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    id_input: Option<IdInput>,
    received_at: Option<Box<str>>,
    source: Option<Box<str>>,
}

/// Reads a line without white space around it.
fn parse(text: &[u8], line: u64) -> Result<ReadLetter, Cow<'static, str>> {
    let read: Line<'_> = serde_json::from_slice(text).map_err(|error| {
        // Its text may quote the line.
        let what = if error.is_data() { "not a dead letter" } else { "not JSON" };
        format!("{what} (column {})", error.column())
    })?;
    let event = read.event.ok_or("no dead letter: `event` is missing")?.get();
    if !event.starts_with('{') {
        return Err("no dead letter: `event` is no object".into());
    }
    let id_input = read.id_input.ok_or(
        "no `id_input`: without it the event would get other ids; `map` and the source can take \
         events that were written by hand",
    )?;
    let at = read.at.as_deref().and_then(instant);
    let received_at = read.received_at.as_deref().and_then(instant).or(at);
    Ok(ReadLetter {
        id: LetterId::of(text),
        line,
        at,
        outcome: read.outcome.unwrap_or_default(),
        reason: read.reason.unwrap_or_default(),
        unknown: read.unknown,
        event: Bytes::copy_from_slice(event.as_bytes()),
        id_input,
        received_at: received_at.ok_or("no dead letter: `received_at` is no time")?,
        source: read.source.unwrap_or_default().into(),
    })
}

fn instant(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(Into::into)
}

impl LetterId {
    /// Names a line; line feed and white space around it do not count.
    #[must_use]
    pub fn of(line: &[u8]) -> Self {
        let digest = Sha256::digest(line.trim_ascii());
        Self(digest.iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn items(text: &[u8]) -> Vec<String> {
        let mut lines = Lines::new(text);
        let mut seen = Vec::new();
        while let Some(item) = lines.next().unwrap() {
            seen.push(match item {
                Item::Letter(letter) => format!("{} {}", letter.line, letter.id_input.message_id),
                Item::Unreadable { line, why } => format!("{line} unreadable: {why}"),
                Item::Torn { line } => format!("{line} torn"),
            });
        }
        assert_eq!(lines.bytes, text.len() as u64);
        seen
    }

    fn letter(id: &str) -> Value {
        json!({
            "at": "2026-01-02T03:04:05.678Z", "outcome": "rejected", "reason": "refused",
            "unknown": true, "event": {"type": "track", "n": 1.50},
            "id_input": {"message_id": id, "type": "track", "name": "", "user_id": "",
                "anonymous_id": "", "ms": 0},
            "operations": [], "received_at": "2026-01-02T03:04:04Z", "source": "web"
        })
    }

    #[test]
    fn blank_lines_crlf_and_a_byte_order_mark_do_no_harm() {
        let text = format!("\u{feff}{}\r\n\r\n  \n {}\n", letter("a"), letter("b"));
        assert_eq!(items(text.as_bytes()), ["1 a", "4 b"]);
        let crlf = format!("{}\r\n", letter("a"));
        assert_eq!(LetterId::of(crlf.as_bytes()), LetterId::of(letter("a").to_string().as_bytes()));
    }

    #[test]
    fn a_torn_last_line_is_told_and_a_whole_one_without_line_feed_is_read() {
        let whole = letter("a").to_string();
        let torn = [whole.as_bytes(), b"\n", &whole.as_bytes()[..whole.len() / 2]].concat();
        assert_eq!(items(&torn), ["1 a", "2 torn"]);
        assert_eq!(items(whole.as_bytes()), ["1 a"]);
    }

    #[test]
    fn a_line_that_is_no_letter_has_its_place_and_the_rest_goes_on() {
        let mut without = letter("x");
        without.as_object_mut().unwrap().remove("id_input");
        let text = format!("secret\n{{\"event\":7}}\n{without}\n{}\n", letter("a"));
        let items = items(text.as_bytes());
        assert!(items[0].starts_with("1 unreadable: not JSON"), "{items:?}");
        assert!(!items[0].contains("secret"));
        assert!(items[1].contains("`event` is no object"), "{items:?}");
        assert!(items[2].contains("`id_input`"), "{items:?}");
        assert_eq!(items[3], "4 a");
    }

    #[test]
    fn the_event_is_read_byte_for_byte_whatever_the_order_of_the_members() {
        let text = r#"{"source":"s","received_at":"2026-01-02T03:04:04Z","id_input":{"ms":7,"type":"","message_id":"m","name":"","user_id":"","anonymous_id":""},"event":{"n": 1.50,"big":12345678901234567890},"more":{}}"#;
        let read = parse(text.as_bytes(), 1).unwrap();
        assert_eq!(&read.event[..], br#"{"n": 1.50,"big":12345678901234567890}"#);
        assert_eq!((read.at, &*read.source, read.id_input.ms), (None, "s", 7));
    }

    mod fuzz {
        use super::*;

        proptest! {
            #![proptest_config(crate::fuzz::config())]

            #[test]
            fn no_bytes_make_the_reader_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
                items(&text);
            }

            #[test]
            fn no_change_of_a_letter_makes_the_reader_panic(
                changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..8),
                cut in any::<u16>(),
            ) {
                let mut text = format!("{}\n{}\n", letter("a"), letter("b")).into_bytes();
                for (at, byte) in changes {
                    let at = usize::from(at) % text.len();
                    text[at] = byte;
                }
                text.truncate(usize::from(cut) % (text.len() * 2));
                items(&text);
            }
        }
    }
}
