//! Cuts a stream of bytes into lines without copying them, within a bound.

use std::io;

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes that are asked for at once.
const READ: usize = 256 * 1024;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Number, from 1.
    pub number: u64,
    /// The line without its end, or `None` if it is longer than the bound.
    pub text: Option<Bytes>,
}

/// Lines of an input, as they become ready.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    max: usize,
    buffer: BytesMut,
    /// Bytes of `buffer` in which there is no line end.
    searched: usize,
    /// The line at the front is too long; its rest is thrown away.
    oversized: bool,
    number: u64,
    ended: bool,
    bytes: u64,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Starts to read lines of at most `max` bytes.
    pub fn new(input: R, max: usize) -> Self {
        Self {
            input,
            max,
            buffer: BytesMut::new(),
            searched: 0,
            oversized: false,
            number: 0,
            ended: false,
            bytes: 0,
        }
    }

    /// Returns how many bytes were read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits for more input; `false` at its end.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn fill(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        // Lines that are under way hold their block: a new one only when this one is nearly full.
        if self.buffer.capacity() - self.buffer.len() < READ / 8 {
            self.buffer.reserve(READ);
        }
        let n = self.input.read_buf(&mut self.buffer).await?;
        self.bytes += n as u64;
        self.ended = n == 0;
        Ok(!self.ended)
    }

    /// Takes the next line that is ready; at the end of input also one without a line end.
    pub fn next(&mut self) -> Option<Line> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let text = match memchr(b'\n', unsearched) {
            Some(at) => {
                let mut line = self.buffer.split_to(self.searched + at + 1);
                line.truncate(line.len() - 1);
                line
            }
            None if self.ended && (self.oversized || !self.buffer.is_empty()) => {
                std::mem::take(&mut self.buffer)
            }
            None => {
                // One byte more than allowed is kept for a carriage return.
                if self.buffer.len() > self.max + 1 {
                    self.oversized = true;
                }
                if self.oversized {
                    self.buffer.clear();
                }
                self.searched = self.buffer.len();
                return None;
            }
        };
        self.searched = 0;
        self.number += 1;
        let mut text = text.freeze();
        if text.last() == Some(&b'\r') {
            text.truncate(text.len() - 1);
        }
        if self.number == 1 && text.starts_with(b"\xEF\xBB\xBF") {
            text = text.slice(3..);
        }
        let fits = !std::mem::take(&mut self.oversized) && text.len() <= self.max;
        Some(Line { number: self.number, text: fits.then_some(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(parts: &[&[u8]], max: usize) -> Vec<(u64, Option<String>)> {
        let mut mock = in_parts(parts);
        let mut lines = Lines::new(&mut mock, max);
        let mut out = Vec::new();
        loop {
            let more = lines.fill().await.unwrap();
            while let Some(line) = lines.next() {
                let text = line.text.map(|text| String::from_utf8(text.to_vec()).unwrap());
                out.push((line.number, text));
            }
            if !more {
                return out;
            }
        }
    }

    /// An input that gives the parts one read at a time.
    fn in_parts<'a>(parts: &'a [&'a [u8]]) -> Box<dyn AsyncRead + Unpin + 'a> {
        let mut all: Box<dyn AsyncRead + Unpin + 'a> = Box::new(tokio::io::empty());
        for part in parts.iter().rev() {
            all = Box::new((*part).chain(all));
        }
        all
    }

    fn texts(expected: &[&str]) -> Vec<(u64, Option<String>)> {
        (1..).zip(expected.iter().map(|&text| Some(text.to_owned()))).collect()
    }

    #[tokio::test]
    async fn lines_are_cut_wherever_the_reads_end() {
        let expected = texts(&["a", "", "bc", "d"]);
        assert_eq!(lines(&[b"a\n\nbc\r\nd"], 10).await, expected);
        assert_eq!(lines(&[b"a", b"\n\nb", b"c\r", b"\nd\n"], 10).await, expected);
        assert_eq!(lines(&[], 10).await, []);
    }

    #[tokio::test]
    async fn a_byte_order_mark_counts_only_at_the_beginning() {
        let expected = texts(&["a", "\u{feff}b"]);
        assert_eq!(lines(&["\u{feff}a\n\u{feff}b".as_bytes()], 10).await, expected);
    }

    #[tokio::test]
    async fn a_line_above_the_bound_is_thrown_away_alone() {
        let expected = [(1, Some("1234".into())), (2, None), (3, Some("ok".into())), (4, None)];
        assert_eq!(lines(&[b"1234\r\n12345\nok\n12345"], 4).await, expected);
        let parts: [&[u8]; 6] = [b"1234\r", b"\n123456", b"789", b"\nok\n1234", b"56", b"7"];
        assert_eq!(lines(&parts, 4).await, expected);
    }
}
