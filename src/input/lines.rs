//! Reads text line by line in bounded memory. Independent of what lines contain.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{BYTE_ORDER_MARK, text};

/// The maximum length of a line in bytes. A recorded response with a million tokens has about 40 MB.
pub const LINE_BYTES: usize = 64 << 20;

/// Iterates over the lines of a text. Skips blank lines, and trims white space, byte order marks and the separators U+2028 and U+2029 from
/// each line. An item is an error if the text cannot be read, is not UTF-8, or has a line longer than [`LINE_BYTES`].
pub struct Lines<R> {
    reader: R,
    /// The text's name, for errors.
    name: String,
    max_line_bytes: usize,
    number: usize,
    line: Vec<u8>,
}

/// A line with its location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The trimmed text, never empty.
    pub text: String,
    /// The line's number in the text, from 1; blank lines count.
    pub number: usize,
    /// The line's location, for error messages, such as `FILE, line 3`.
    pub location: String,
}

impl Lines<Box<dyn BufRead>> {
    /// Opens a file. Decompresses a `.gz` file on the fly.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let is_gzip = path.extension().is_some_and(|extension| extension == "gz");
        let reader: Box<dyn BufRead> = match is_gzip {
            true => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file))),
            false => Box::new(BufReader::new(file)),
        };
        Ok(Self::over(reader, path.display().to_string()))
    }
}

impl<R: BufRead> Lines<R> {
    /// Reads lines from `reader`. `name` is the text's name, for errors.
    pub fn over(reader: R, name: String) -> Self {
        Self { reader, name, max_line_bytes: LINE_BYTES, number: 0, line: Vec::new() }
    }

    /// Returns the next line that is not blank, or `None` at the end.
    fn next_line(&mut self) -> Result<Option<Line>> {
        loop {
            self.number += 1;
            let location = format!("{}, line {}", self.name, self.number);
            if !self.read_line().with_context(|| format!("cannot read {location}"))? {
                return Ok(None);
            }
            ensure!(
                self.line.len() <= self.max_line_bytes,
                "{location} is longer than the limit of {} bytes; expected one record per line",
                self.max_line_bytes
            );
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            let line = text(&location, &self.line)?;
            let line = line.trim_matches(|c: char| c.is_whitespace() || c == BYTE_ORDER_MARK);
            if !line.is_empty() {
                return Ok(Some(Line { text: line.to_owned(), number: self.number, location }));
            }
        }
    }

    /// Reads up to the next line feed, but at most one byte more than the limit. Returns false at the end of the text.
    fn read_line(&mut self) -> std::io::Result<bool> {
        self.line.clear();
        let mut has_bytes = false;
        loop {
            let bytes = match self.reader.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                bytes => bytes?,
            };
            if bytes.is_empty() {
                return Ok(has_bytes);
            }
            has_bytes = true;
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let room = self.max_line_bytes + 1 - self.line.len();
            let taken = end.unwrap_or(bytes.len());
            self.line.extend_from_slice(&bytes[..taken.min(room)]);
            let used = end.map_or(taken, |end| end + 1);
            self.reader.consume(used);
            if end.is_some() || self.line.len() > self.max_line_bytes {
                return Ok(true);
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Result<Line>> {
        self.next_line().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8], max_line_bytes: usize) -> Vec<Result<Line>> {
        Lines { max_line_bytes, ..Lines::over(bytes, "it".to_owned()) }.collect()
    }

    #[test]
    fn lines_skip_byte_order_marks_and_separators() {
        let text = "\u{FEFF}{1}\r\n\r\n \u{2028}\n{\"a\": \"\u{2028}b\"}\u{2029}\n\u{FEFF}{2}";
        let found: Vec<(String, usize)> =
            lines(text.as_bytes(), 100).into_iter().map(|line| line.map(|line| (line.text, line.number)).unwrap()).collect();
        assert_eq!(found, [("{1}".to_owned(), 1), ("{\"a\": \"\u{2028}b\"}".to_owned(), 4), ("{2}".to_owned(), 5)]);
        assert!(lines("\u{FEFF}\n\u{2028}".as_bytes(), 100).is_empty());
    }

    #[test]
    fn lines_reject_a_line_that_is_too_long() {
        let found = lines(b"12345\n123456\n1", 5);
        assert_eq!(found[0].as_ref().unwrap().text, "12345");
        let error = found[1].as_ref().unwrap_err().to_string();
        assert_eq!(error, "it, line 2 is longer than the limit of 5 bytes; expected one record per line");
        // The limit also applies to a blank line, which is read only up to the limit.
        let mut endless = Lines { max_line_bytes: 1000, ..Lines::over(BufReader::new(std::io::repeat(b' ')), "it".to_owned()) };
        assert!(endless.next().unwrap().unwrap_err().to_string().contains("line 1 is longer than the limit of 1000 bytes"));
        assert!(endless.line.capacity() < 20_000);
    }

    #[test]
    fn lines_open_decompresses_gzip() {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl.gz");
        let mut encoder = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        encoder.write_all("\u{FEFF}1\n\n2\n".as_bytes()).unwrap();
        encoder.finish().unwrap();
        let places: Vec<String> = Lines::open(&path).unwrap().map(|line| line.unwrap().location).collect();
        assert!(places[0].ends_with("a.jsonl.gz, line 1") && places[1].ends_with("line 3") && places.len() == 2, "{places:?}");
        assert!(Lines::open(&folder.path().join("none")).is_err());
    }
}
