//! Wraps text between words.

use console::measure_text_width;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

/// The indentation of continued lines.
const INDENT: &str = "  ";

/// Wraps each line of a text between words to at most `columns` columns; `None` leaves it as it is. Keeps the spaces between words, which
/// align the first columns of a table. Continued lines are indented by two more columns. A word that is longer than a line, such as a path,
/// stays whole.
pub(super) fn folded(text: &str, columns: Option<usize>) -> String {
    mapped(text, columns, folded_line)
}

/// Like [`folded`], but leaves indented lines as they are: commands to copy, and rows of tables.
pub(super) fn wrapped(text: &str, columns: Option<usize>) -> String {
    mapped(text, columns, |line, columns| if line.starts_with(' ') { line.to_owned() } else { folded_line(line, columns) })
}

fn mapped(text: &str, columns: Option<usize>, wrap: impl Fn(&str, usize) -> String) -> String {
    let Some(columns) = columns else { return text.to_owned() };
    text.split('\n').map(|line| wrap(line, columns)).collect::<Vec<_>>().join("\n")
}

fn folded_line(line: &str, columns: usize) -> String {
    if measure_text_width(line) <= columns {
        return line.to_owned();
    }
    let text = line.trim_start_matches(' ');
    let indent = &line[..line.len() - text.len()];
    let continued = format!("{indent}{INDENT}");
    let options = Options::new(columns).initial_indent(indent).subsequent_indent(&continued);
    let options = options.word_separator(WordSeparator::AsciiSpace).word_splitter(WordSplitter::NoHyphenation);
    textwrap::fill(text, options.wrap_algorithm(WrapAlgorithm::FirstFit).break_words(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_breaks_lines_between_words() {
        let check = |text: &str, columns: usize, expected: &str| assert_eq!(wrapped(text, Some(columns)), expected);
        check("all of this fits", 16, "all of this fits");
        check("all of this fits", 15, "all of this\n  fits");
        check("a\nsecond line is long", 12, "a\nsecond line\n  is long");
        check("see /a/very/long/path/to/a/file now", 10, "see\n  /a/very/long/path/to/a/file\n  now");
        check("────────────", 5, "────────────");
        check("  an indented line", 12, "  an indented line");
        assert_eq!(wrapped("all of this  fits", None), "all of this  fits");
    }

    #[test]
    fn folded_keeps_columns_and_indents_what_continues() {
        let check = |text: &str, columns: usize, expected: &str| assert_eq!(folded(text, Some(columns)), expected);
        check("all of  this fits", 17, "all of  this fits");
        check("all of  this fits", 16, "all of  this\n  fits");
        check("  rows    1.5 MB  key/value cache, logits\nshort", 20, "  rows    1.5 MB\n    key/value cache,\n    logits\nshort");
        check("  rows    1.5 MB", 15, "  rows    1.5\n    MB");
        check("see /a/very/long/path/to/a/file now", 10, "see\n  /a/very/long/path/to/a/file\n  now");
        check("────────────", 5, "────────────");
        check("läßt größere", 6, "läßt\n  größere");
        assert_eq!(folded("  all of this  fits", None), "  all of this  fits");
    }
}
