//! Letters portion by portion: which files come next, and which letters of them are selected.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

use super::Selection;
use crate::buffer::LetterId;
use crate::delivery::dead_letter::read::{Item, LetterFile, ReadLetter, Reader};

/// Letters of one portion; as many events are stored with one commit.
const LETTERS: usize = 500;
/// Bytes of events of one portion, beyond the last one.
const BYTES: usize = 4 << 20;
/// Lines that are looked at before progress is told.
const LINES: usize = 20_000;

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

/// The files, and how far they were read.
pub(super) struct Shelf {
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

impl Shelf {
    pub(super) fn new(mut files: Vec<LetterFile>, selection: Selection) -> Self {
        files.reverse();
        let rate = selection.rate.map_or(LETTERS, |rate| usize::try_from(rate).unwrap_or(LETTERS));
        let limit = LETTERS.min(rate.max(1));
        let marked = HashSet::new();
        Self { files, open: None, ahead: None, bytes: 0, selection, marked, limit }
    }

    /// Counts these letters as replayed before.
    pub(super) fn pass_over(&mut self, letters: HashSet<LetterId>) {
        self.marked = letters;
    }

    /// Reads on, up to a portion of selected letters that come for the first time.
    pub(super) fn next(&mut self) -> Portion {
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
