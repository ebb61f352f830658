//! The bytes of a file, in order, never more of them in memory than a few rows can be long.

use std::io::{self, Read};

/// The longest row, in bytes: a hundred times what a request needs.
pub(super) const LONGEST: usize = 64 * 1024;

/// Read at a time: rows are looked at in place, so the rest is moved once in three rows of the longest.
const HELD: usize = 4 * LONGEST;

/// A file under way.
pub(super) struct Source<R> {
    input: R,
    held: Vec<u8>,
    /// Where in `held` the next byte is.
    at: usize,
    /// Nothing comes after what is held.
    ended: bool,
    /// The physical line of the next byte, from 1.
    line: u64,
}

/// The next bytes.
#[derive(Clone, Copy)]
pub(super) struct Ahead<'a> {
    /// More than the longest row, or all that is left.
    pub(super) bytes: &'a [u8],
    /// They are all that is left.
    pub(super) last: bool,
}

impl<R: Read> Source<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            held: Vec::with_capacity(HELD),
            at: 0,
            ended: false,
            line: 1,
        }
    }

    pub(super) fn line(&self) -> u64 {
        self.line
    }

    pub(super) fn ahead(&mut self) -> io::Result<Ahead<'_>> {
        if !self.ended && self.held.len() - self.at <= LONGEST {
            self.held.drain(..self.at);
            self.at = 0;
            let room = HELD - self.held.len();
            let read = (&mut self.input)
                .take(room as u64)
                .read_to_end(&mut self.held)?;
            self.ended = read < room;
        }
        Ok(Ahead {
            bytes: &self.held[self.at..],
            last: self.ended,
        })
    }

    /// Passes over so many of the bytes ahead, and over the second half of a line end that they cut.
    pub(super) fn pass(&mut self, count: usize) {
        let ahead = &self.held[self.at..];
        let cut = count > 0 && ahead[count - 1] == b'\r' && ahead.get(count) == Some(&b'\n');
        let count = count + usize::from(cut);
        self.line += line_ends(&ahead[..count]);
        self.at += count;
    }

    /// Passes over the rest of this line, however long it is.
    pub(super) fn pass_line(&mut self) -> io::Result<()> {
        loop {
            let ahead = self.ahead()?;
            let length = ahead.bytes.len();
            match line_end(ahead.bytes) {
                // Its second half may not be there yet.
                Some(at) if at + 1 < length || ahead.last => {
                    self.pass(at + 1);
                    return Ok(());
                }
                Some(at) => self.pass(at),
                None if ahead.last => {
                    self.pass(length);
                    return Ok(());
                }
                None => self.pass(length),
            }
        }
    }

    /// Passes over lines with nothing on them, or blanks alone.
    pub(super) fn pass_blank_lines(&mut self, blanks: &[u8]) -> io::Result<()> {
        loop {
            let ahead = self.ahead()?;
            let is_blank = |byte: &u8| blanks.contains(byte);
            let blank = ahead.bytes.iter().take_while(|byte| is_blank(byte)).count();
            match ahead.bytes.get(blank) {
                Some(b'\n' | b'\r') => self.pass(blank + 1),
                None if ahead.last && blank > 0 => self.pass(blank),
                Some(_) | None => return Ok(()),
            }
        }
    }
}

/// Where a line ends: at `\n`, or at `\r`.
pub(super) fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'))
}

fn line_ends(bytes: &[u8]) -> u64 {
    let ends = |pair: &[u8]| pair[0] == b'\r' && pair[1] != b'\n';
    let feeds = bytes.iter().filter(|byte| **byte == b'\n').count();
    let lone = bytes.windows(2).filter(|pair| ends(pair)).count();
    (feeds + lone + usize::from(bytes.last() == Some(&b'\r'))) as u64
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(b"", 0)]
    #[case(b"a\nb\r\nc\rd", 3)]
    #[case(b"\r\r\n\n\r", 4)]
    fn a_line_ends_in_three_ways(#[case] bytes: &[u8], #[case] count: u64) {
        assert_eq!(line_ends(bytes), count);
    }

    #[test]
    fn a_line_longer_than_memory_is_passed_over_and_counted_once() {
        for length in [HELD - 1, HELD, HELD + 1, 3 * HELD] {
            let text = [vec![b'x'; length].as_slice(), b"\r\nnext"].concat();
            let mut source = Source::new(text.as_slice());
            source.pass_line().expect("memory can be read");
            let ahead = source.ahead().expect("memory can be read");
            assert_eq!((ahead.bytes, ahead.last), (&b"next"[..], true));
            assert_eq!(source.line(), 2);
            assert!(source.held.capacity() <= HELD + 64);
        }
    }
}
