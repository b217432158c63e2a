//! Lays out text for a terminal: wraps it, colors it, and escapes what responses contain. Knows nothing about runs.

use std::fmt::Display;
use std::io::Write;
use std::ops::Range;

use console::{Style, Term, measure_text_width};

use crate::output::escape_controls;
use crate::verify::{Boxed, last_boxed};

/// Lines of text, printed at once.
pub struct Page {
    /// The number of columns; `None` if lines are not wrapped.
    width: Option<usize>,
    text: String,
}

impl Page {
    /// Creates a page as wide as the terminal. If stdout is not a terminal, lines are not wrapped.
    pub fn new() -> Self {
        let columns = Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
        Self::of_width(columns.filter(|_| console::user_attended()).map(|columns| columns.max(20)))
    }

    fn of_width(width: Option<usize>) -> Self {
        Self { width, text: String::new() }
    }

    /// Adds a line, which may contain styled parts. Foreign text in it must be escaped.
    pub fn line(&mut self, text: impl Display) {
        self.text.push_str(&format!("{text}\n"));
    }

    /// Adds an empty line.
    pub fn space(&mut self) {
        self.text.push('\n');
    }

    /// Adds plain text, wrapped, with `indent` spaces before each line.
    pub fn wrapped(&mut self, indent: usize, style: &Style, text: &str) {
        let text = escape_controls(text);
        self.ranges(indent, &text, |page, range| page.text.push_str(&style.apply_to(&text[range]).to_string()));
    }

    /// Adds a response: wrapped, indented, with its last box marked by `style`.
    pub fn response(&mut self, indent: usize, style: &Style, response: &str) {
        let text = escape_controls(response.trim_start().trim_end_matches('\n'));
        let marked = boxed(&text);
        self.ranges(indent, &text, |page, range| {
            let (start, end) = (marked.start.clamp(range.start, range.end), marked.end.clamp(range.start, range.end));
            let boxed = style.apply_to(&text[start..end]);
            page.text.push_str(&text[range.start..start]);
            page.text.push_str(&if start == end { String::new() } else { boxed.to_string() });
            page.text.push_str(&text[end..range.end]);
        });
    }

    fn ranges(&mut self, indent: usize, text: &str, mut add: impl FnMut(&mut Self, Range<usize>)) {
        for range in wrap(text, self.width.map(|width| width.saturating_sub(indent).max(10))) {
            self.text.push_str(&" ".repeat(if range.is_empty() { 0 } else { indent }));
            add(self, range);
            self.text.push('\n');
        }
    }

    /// Prints the page to stdout. Ignores a closed pipe, as after `head`.
    pub fn print(self) {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(self.text.as_bytes()).and_then(|()| stdout.flush());
    }
}

/// Returns the range of the last complete box of a response with its command; an empty range if there is none.
fn boxed(text: &str) -> Range<usize> {
    let Boxed::Content(content) = last_boxed(text) else { return 0..0 };
    let Some(start) = [r"\boxed", r"\fbox"].iter().filter_map(|command| text.rfind(command)).max() else { return 0..0 };
    let content_end = content.as_ptr() as usize + content.len() - text.as_ptr() as usize;
    let closed = text[content_end..].find('}').filter(|brace| text[content_end..content_end + brace].trim().is_empty());
    start..closed.map_or(content_end, |brace| content_end + brace + 1)
}

/// Breaks a text into lines of at most `width` columns, at spaces where possible. Returns their ranges, without line feeds and without the
/// spaces at which a line is broken.
fn wrap(text: &str, width: Option<usize>) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    for line in text.split('\n') {
        let end = start + line.len();
        match width {
            None => lines.push(start..end),
            Some(width) => wrap_line(text, start..end, width, &mut lines),
        }
        start = end + 1;
    }
    lines
}

fn wrap_line(text: &str, line: Range<usize>, width: usize, lines: &mut Vec<Range<usize>>) {
    let (mut start, mut columns, mut space) = (line.start, 0, None);
    for (offset, character) in text[line.clone()].char_indices() {
        let at = line.start + offset;
        let character_width = measure_text_width(character.encode_utf8(&mut [0; 4]));
        if columns + character_width > width && at > start {
            let (end, next) = match space {
                Some(space) if character != ' ' => (space, space + 1),
                _ => (at, at + usize::from(character == ' ')),
            };
            lines.push(start..end);
            columns = measure_text_width(&text[next.min(at)..at]);
            (start, space) = (next, None);
            if next > at {
                continue;
            }
        }
        if character == ' ' {
            space = Some(at);
        }
        columns += character_width;
    }
    lines.push(start..line.end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrap_breaks_lines_at_spaces() {
        let check = |text: &str, width: usize, expected: &[&str]| {
            let lines: Vec<&str> = wrap(text, Some(width)).into_iter().map(|range| &text[range]).collect();
            assert_eq!(lines, expected, "{text:?}");
        };
        check("one two three", 8, &["one two", "three"]);
        check("one two three", 7, &["one two", "three"]);
        check("one two three", 6, &["one", "two", "three"]);
        check("abcdefgh", 3, &["abc", "def", "gh"]);
        check("a\n\n b", 3, &["a", "", " b"]);
        check("漢字漢字", 4, &["漢字", "漢字"]);
        check("ab cdefgh", 4, &["ab", "cdef", "gh"]);
        check("", 4, &[""]);
        assert_eq!(wrap("one two three", None), vec![0..13]);
    }

    #[test]
    fn boxed_returns_the_range_of_the_box() {
        let check = |text: &str, expected: &str| assert_eq!(&text[boxed(text)], expected);
        check(r"so \boxed{ 3 }.", r"\boxed{ 3 }");
        check(r"\boxed{1} or \fbox{\frac{1}{2}}", r"\fbox{\frac{1}{2}}");
        check(r"\boxed 7.", r"\boxed 7");
        check(r"\boxed{7", "");
        check("none", "");
    }

    #[test]
    fn page_escapes_and_indents_responses() {
        let mut page = Page::of_width(Some(20));
        page.response(2, &Style::new(), "\n\u{1b}[2J it is \\boxed{12} for sure\n\nyes\n");
        assert_eq!(page.text, "  \\u{1b}[2J it is\n  \\boxed{12} for\n  sure\n\n  yes\n");
    }
}
