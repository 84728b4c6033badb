//! Writing dead letters: rotation, bounds, durability.

mod retention;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};

use super::folder::{self, list, named, place};
use crate::config::{DeadLettersConfig, DeadLettersFull};

/// A file is full at this size.
const FULL: u64 = 64 << 20;
/// With a small bound, files are so much smaller that dropping the oldest loses at most an eighth.
const FILES: u64 = 8;

#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    max_size: u64,
    max_age: Duration,
    when_full: DeadLettersFull,
    /// Closed files, the oldest first, with their sizes.
    closed: Vec<(PathBuf, u64)>,
    open: Option<Open>,
    aged: Option<SystemTime>,
    /// Size of the marks when they were last searched for files that are replayed whole.
    marks_searched: Option<u64>,
}

#[derive(Debug)]
struct Open {
    file: File,
    path: PathBuf,
    date: String,
    size: u64,
    /// Whether a failed write may have left bytes behind `size`.
    torn: bool,
}

impl Files {
    pub fn open(dir: PathBuf, config: &DeadLettersConfig) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|e| named(&dir, &e))?;
        if let Some(parent) = dir.parent() {
            folder::sync(parent)?;
        }
        // A folder that cannot be written shows now, not at the first letter.
        let probe = dir.join(format!(".writable-{}", std::process::id()));
        let written = File::create(&probe).and_then(|_| fs::remove_file(&probe));
        written.map_err(|e| named(&dir, &e))?;
        let closed = list(&dir)?;
        Ok(Self {
            dir,
            max_size: config.max_size,
            max_age: config.max_age,
            when_full: config.when_full,
            closed,
            open: None,
            aged: None,
            marks_searched: None,
        })
    }

    /// Takes other bounds, which hold from the next write.
    pub fn set_bounds(&mut self, max_size: u64, max_age: Duration) {
        (self.max_size, self.max_age) = (max_size, max_age);
    }

    /// Appends durably as many of these lines as fit, at least the first, and returns their bytes.
    pub fn append(&mut self, lines: &[u8], now: DateTime<Utc>) -> io::Result<usize> {
        if lines.is_empty() {
            return Ok(0);
        }
        self.drop_aged_now_and_then(now.into());
        self.let_go_if_touched();
        // No write larger than a file: so the bounds of the files hold, and a portion that is larger
        // than all the room goes as far as there is some.
        let lines = head(lines, self.full()).unwrap_or(first_line(lines));
        self.rotate(lines.len() as u64, now);
        let lines = self.make_room(lines)?;
        self.write(lines, now)?;
        if self.is_removed() {
            // Taken away by hand while it was written: no name leads to these letters any more.
            self.open = None;
            self.write(lines, now)?;
        }
        Ok(lines.len())
    }

    fn write(&mut self, lines: &[u8], now: DateTime<Utc>) -> io::Result<()> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.begin(now)?,
        };
        let open = self.open.insert(open);
        if open.torn {
            open.file.set_len(open.size).map_err(|e| named(&open.path, &e))?;
            open.torn = false;
        }
        let written = open.file.write_all(lines).and_then(|()| open.file.sync_data());
        if let Err(error) = written {
            // A part of the lines must not stand before the next ones.
            open.torn = open.file.set_len(open.size).is_err();
            return Err(named(&open.path, &error));
        }
        open.size += lines.len() as u64;
        Ok(())
    }

    /// Goes on in another file if somebody moved, removed, or edited the open one: letters must not
    /// go where no name leads to, nor stand behind half a line.
    fn let_go_if_touched(&mut self) {
        let Some(open) = &self.open else { return };
        let same = fs::metadata(&open.path).and_then(|named| {
            let held = open.file.metadata()?;
            let same_file = named.ino() == held.ino() && named.dev() == held.dev();
            Ok(same_file && (open.torn || held.len() == open.size))
        });
        match same {
            Ok(true) => {}
            Ok(false) => self.close(),
            Err(_) => self.open = None,
        }
    }

    fn is_removed(&self) -> bool {
        let held = self.open.as_ref().map(|open| open.file.metadata());
        held.is_some_and(|held| held.is_ok_and(|held| held.nlink() == 0))
    }

    fn total(&self) -> u64 {
        let closed: u64 = self.closed.iter().map(|(_, size)| size).sum();
        closed + self.open.as_ref().map_or(0, |open| open.size)
    }

    fn full(&self) -> u64 {
        FULL.min(self.max_size / FILES)
    }

    /// Closes the open file when it is full or of an earlier day.
    fn rotate(&mut self, added: u64, now: DateTime<Utc>) {
        let full = self.full();
        let date = date(now);
        // A clock that is set back opens no file that would sort before this one.
        if let Some(open) = &self.open
            && (open.date < date || (open.size > 0 && open.size + added > full))
        {
            self.close();
        }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.marks_searched = None;
            self.closed.push((open.path, open.size));
        }
    }

    fn begin(&self, now: DateTime<Utc>) -> io::Result<Open> {
        let places = || self.closed.iter().filter_map(|(path, _)| place(path));
        let latest = places().map(|(date, _)| date).max().unwrap_or_default();
        let date = date(now).max(latest);
        let mut n = places().filter(|(d, _)| *d == date).map(|(_, n)| n + 1).max().unwrap_or(1);
        loop {
            let path = self.dir.join(format!("{date}-{n}.ndjson"));
            match OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    // The name must be durable, too.
                    if let Err(error) = folder::sync(&self.dir) {
                        // It is empty; if it stays, it does no harm.
                        fs::remove_file(&path).ok();
                        return Err(error);
                    }
                    return Ok(Open { file, path, date, size: 0, torn: false });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => n += 1,
                Err(error) => return Err(named(&path, &error)),
            }
        }
    }
}

/// Returns those of the lines that together have at most so many bytes, if any.
fn head(lines: &[u8], most: u64) -> Option<&[u8]> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let fitting = lines.get(..most).unwrap_or(lines);
    lines.get(..=memchr::memrchr(b'\n', fitting)?)
}

fn first_line(lines: &[u8]) -> &[u8] {
    memchr::memchr(b'\n', lines).and_then(|end| lines.get(..=end)).unwrap_or(lines)
}

fn date(now: DateTime<Utc>) -> String {
    now.format("%Y-%m-%d").to_string()
}
