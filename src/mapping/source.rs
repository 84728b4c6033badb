//! One program's text, joined from its files, and the way back from an offset to file and line.
//!
//! Files are joined with a line feed, as stock Vector joins the `files:` of its `remap` transform.

use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Place};

/// Largest joined source in bytes.
pub(super) const MAX_SOURCE_BYTES: usize = 256 * 1024;

/// The joined text of one program.
#[derive(Debug)]
pub(super) struct Source {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    start: usize,
    end: usize,
    file: Arc<str>,
}

/// A place in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Location<'a> {
    /// The file's name.
    pub(super) file: &'a str,
    /// Line, from 1.
    pub(super) line: u32,
    /// Column in characters, from 1.
    pub(super) column: u32,
}

impl Source {
    /// Joins the files.
    ///
    /// # Errors
    ///
    /// `script_too_large` if the whole is longer than [`MAX_SOURCE_BYTES`].
    pub(super) fn join<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Box<Diagnostic>> {
        let mut text = String::new();
        let mut pieces = Vec::new();
        for (file, content) in files {
            if !pieces.is_empty() {
                text.push('\n');
            }
            let start = text.len();
            text.push_str(content);
            pieces.push(Piece { start, end: text.len(), file: Arc::from(file) });
            if text.len() > MAX_SOURCE_BYTES {
                return Err(Box::new(too_large(file)));
            }
        }
        Ok(Self { text, pieces })
    }

    /// Returns the joined text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the text to compile for running.
    ///
    /// An assignment that is the last expression clones what it assigns, because its value is the
    /// program's; nobody reads that value, so `null` follows. Offsets stay as they are.
    pub(super) fn runnable(&self) -> String {
        format!("{}\nnull", self.text)
    }

    /// Finds the place of a byte offset; offsets outside are moved to the nearest end.
    pub(super) fn locate(&self, offset: usize) -> Location<'_> {
        let Some((piece, offset)) = self.piece(offset) else {
            return Location { file: "", line: 0, column: 0 };
        };
        let before = self.text.get(piece.start..offset).unwrap_or_default();
        let line = before.bytes().filter(|b| *b == b'\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        Location { file: &piece.file, line: number(line + 1), column: number(column + 1) }
    }

    /// Describes a range for a diagnostic: its place, the line's text, and the length to underline.
    pub(super) fn place(&self, start: usize, end: usize) -> Place {
        let Some((piece, start)) = self.piece(start) else { return Place::default() };
        let location = self.locate(start);
        let content = self.text.get(piece.start..piece.end).unwrap_or_default();
        let index = usize::try_from(location.line).unwrap_or(1).saturating_sub(1);
        let line = content.split('\n').nth(index).unwrap_or_default().trim_end_matches('\r');
        let rest = self.text.get(start..piece.end).unwrap_or_default();
        let rest = rest.split(['\n', '\r']).next().unwrap_or_default();
        let wanted = end.saturating_sub(start);
        let marked = rest.char_indices().take_while(|(at, _)| *at < wanted).count();
        Place {
            file: location.file.to_owned(),
            line: location.line,
            column: location.column,
            key: None,
            source: Some((line.to_owned(), number(marked.max(1)))),
        }
    }

    /// Returns the text of a range, or nothing if it is no range of the text.
    pub(super) fn slice(&self, start: usize, end: usize) -> &str {
        self.text.get(start..end).unwrap_or_default()
    }

    fn piece(&self, offset: usize) -> Option<(&Piece, usize)> {
        let index = self.pieces.partition_point(|piece| piece.start <= offset).saturating_sub(1);
        let piece = self.pieces.get(index)?;
        let mut offset = offset.clamp(piece.start, piece.end);
        if offset == piece.end {
            // The end of a file is shown behind its last line that has a text.
            let content = self.text.get(piece.start..piece.end).unwrap_or_default();
            offset = piece.start + content.trim_end().len();
        }
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        Some((piece, offset))
    }
}

/// Says that a script is too large.
pub(super) fn too_large(file: &str) -> Diagnostic {
    Diagnostic::error(
        "script_too_large",
        format!("the script is larger than {} KiB", MAX_SOURCE_BYTES / 1024),
    )
    .at(Place { file: file.to_owned(), ..Place::default() })
    .help("move what this type does not need to another file")
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Source {
        Source::join([("a.vrl", "x = 1\ny = \"é\" + z\n"), ("b.vrl", ".a = 1\r\n.b = 2")]).unwrap()
    }

    fn at(source: &Source, needle: &str) -> (String, u32, u32) {
        let location = source.locate(source.text().find(needle).unwrap());
        (location.file.to_owned(), location.line, location.column)
    }

    #[test]
    fn offsets_are_found_in_their_file_counted_in_characters() {
        let source = two();
        assert_eq!(at(&source, "x ="), ("a.vrl".into(), 1, 1));
        assert_eq!(at(&source, "z"), ("a.vrl".into(), 2, 11));
        assert_eq!(at(&source, ".a"), ("b.vrl".into(), 1, 1));
        assert_eq!(at(&source, ".b"), ("b.vrl".into(), 2, 1));
    }

    #[test]
    fn an_offset_inside_a_character_or_behind_the_end_is_no_panic() {
        let source = two();
        let inside = source.text().find('é').unwrap() + 1;
        assert_eq!(source.locate(inside).column, 6);
        let behind = source.locate(usize::MAX);
        assert_eq!((behind.file, behind.line, behind.column), ("b.vrl", 2, 7));
        assert_eq!(Source::join([]).unwrap().locate(3).file, "");
    }

    #[test]
    fn the_end_of_a_file_is_behind_its_last_text() {
        let source = Source::join([("a.vrl", "x = (\n\n")]).unwrap();
        let end = source.locate(source.text().len());
        assert_eq!((end.line, end.column), (1, 6));
    }

    #[test]
    fn a_place_holds_the_line_and_the_length_in_characters() {
        let source = two();
        let start = source.text().find("\"é\"").unwrap();
        let place = source.place(start, start + "\"é\"".len());
        assert_eq!(place.source, Some(("y = \"é\" + z".into(), 3)));
        let start = source.text().find(".a").unwrap();
        let place = source.place(start, source.text().len());
        assert_eq!(place.source, Some((".a = 1".into(), 6)));
    }

    #[test]
    fn a_large_source_is_refused() {
        let text = " ".repeat(MAX_SOURCE_BYTES + 1);
        let diagnostic = Source::join([("big.vrl", text.as_str())]).unwrap_err();
        assert_eq!(diagnostic.code, "script_too_large");
    }
}
