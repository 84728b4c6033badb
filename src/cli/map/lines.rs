//! Splits the input into lines with a bound on their length.

use std::io::{self, BufRead, BufReader, Read};

use bytes::Bytes;

use crate::outcome::{Reason, ReasonCode};
use crate::source::Incoming;

/// Longest line in bytes: as much as RudderStack's gateway takes in one request.
pub const MAX_LINE_BYTES: usize = 4_096_000;

/// Most lines that are handed on together.
const MAX_TOGETHER: usize = 512;

/// Bytes after which no further line is added.
const ENOUGH_BYTES: usize = 1 << 20;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The lines of an input that are not blank, each with its number.
pub struct Lines<R> {
    input: BufReader<R>,
    number: u64,
}

impl<R: Read> Lines<R> {
    /// Reads lines from `input`; a byte order mark at its beginning is skipped.
    pub fn new(input: BufReader<R>) -> Self {
        Self { input, number: 0 }
    }

    /// Reads what has arrived, at least one line; an empty list is the end of the input.
    pub fn together(&mut self) -> io::Result<Vec<Incoming>> {
        let mut lines = Vec::new();
        let mut bytes = 0;
        while lines.len() < MAX_TOGETHER && bytes < ENOUGH_BYTES {
            match self.line()? {
                None => break,
                Some(None) => {}
                Some(Some(line)) => {
                    bytes += line.json.as_ref().map_or(0, Bytes::len);
                    lines.push(line);
                }
            }
            // Whoever types events wants to see them mapped before typing more.
            if self.input.buffer().is_empty() && !lines.is_empty() {
                break;
            }
        }
        Ok(lines)
    }

    /// Reads one line: `None` at the end of the input, `Some(None)` for a blank line.
    fn line(&mut self) -> io::Result<Option<Option<Incoming>>> {
        let mut line = Vec::new();
        let mut length = 0_usize;
        let mut ended = false;
        while !ended {
            let seen = match self.input.fill_buf() {
                Ok(seen) => seen,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if seen.is_empty() {
                break;
            }
            let (part, used) = match memchr::memchr(b'\n', seen) {
                Some(at) => (seen.get(..at).unwrap_or_default(), at + 1),
                None => (seen, seen.len()),
            };
            ended = used > part.len();
            length += part.len();
            if length <= MAX_LINE_BYTES {
                line.extend_from_slice(part);
            }
            self.input.consume(used);
        }
        if length == 0 && !ended {
            return Ok(None);
        }
        self.number += 1;
        let json = if length > MAX_LINE_BYTES {
            let text = format!("a line may have {MAX_LINE_BYTES} bytes");
            Err(Reason::new(ReasonCode::TooLarge, text))
        } else {
            let mut line = Bytes::from(line);
            if self.number == 1 && line.starts_with(BOM) {
                line = line.slice(BOM.len()..);
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(None));
            }
            Ok(line)
        };
        Ok(Some(Some(Incoming::new(json, self.number))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8], capacity: usize) -> Vec<(u64, Result<Bytes, ReasonCode>)> {
        let mut lines = Lines::new(BufReader::with_capacity(capacity, input));
        let mut all = Vec::new();
        loop {
            let together = lines.together().unwrap();
            if together.is_empty() {
                return all;
            }
            all.extend(together.into_iter().map(|l| (l.position, l.json.map_err(|r| r.code))));
        }
    }

    #[test]
    fn blank_lines_are_counted_and_left_out() {
        for capacity in [1, 3, 100] {
            let lines = read(b"\xef\xbb\xbf{\"a\":1}\r\n\n \t\r\n{}\n\n7", capacity);
            let expected: Vec<(u64, Result<Bytes, _>)> = vec![
                (1, Ok(Bytes::from_static(b"{\"a\":1}\r"))),
                (4, Ok(Bytes::from_static(b"{}"))),
                (6, Ok(Bytes::from_static(b"7"))),
            ];
            assert_eq!(lines, expected);
        }
        assert_eq!(read(b"", 8), vec![]);
        assert_eq!(read(b"\n\n", 8), vec![]);
        assert_eq!(read(b"\xef\xbb\xbf", 8), vec![]);
    }

    #[test]
    fn a_line_that_is_too_long_is_alone_malformed() {
        let mut input = vec![b'x'; MAX_LINE_BYTES];
        input.extend_from_slice(b"\n");
        input.resize(input.len() + MAX_LINE_BYTES + 1, b'y');
        input.extend_from_slice(b"\n{}\n");
        let lines = read(&input, 1 << 16);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].1.as_ref().unwrap().len(), MAX_LINE_BYTES);
        assert_eq!(lines[1], (2, Err(ReasonCode::TooLarge)));
        assert_eq!(lines[2], (3, Ok(Bytes::from_static(b"{}"))));
    }

    #[test]
    fn many_lines_come_in_several_parts() {
        let input = "{}\n".repeat(MAX_TOGETHER + 1);
        assert_eq!(read(input.as_bytes(), 1 << 16).len(), MAX_TOGETHER + 1);
    }
}
