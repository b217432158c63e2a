//! Wraps text at words.

use console::measure_text_width;

/// The indentation of continued lines.
const INDENT: &str = "  ";

/// Wraps each line of a text at words to at most `columns` columns; `None` leaves it as it is. Continued lines are indented. A word that is
/// longer than a line, such as a path, stays whole. Indented lines stay whole too: commands to copy, and rows of tables.
pub(super) fn wrapped(text: &str, columns: Option<usize>) -> String {
    let Some(columns) = columns else { return text.to_owned() };
    text.split('\n').map(|line| wrapped_line(line, columns)).collect::<Vec<_>>().join("\n")
}

/// Wraps each line of a text between words to at most `columns` columns; `None` leaves it as it is. Unlike [`wrapped`], also wraps indented
/// lines, and keeps the spaces between words, which align the first columns of a table. Continued lines are indented by two more columns.
pub(super) fn folded(text: &str, columns: Option<usize>) -> String {
    let Some(columns) = columns else { return text.to_owned() };
    text.split('\n').map(|line| folded_line(line, columns)).collect::<Vec<_>>().join("\n")
}

fn folded_line(line: &str, columns: usize) -> String {
    let indent = " ".repeat(line.len() - line.trim_start_matches(' ').len()) + INDENT;
    let (mut out, mut rest) = (String::new(), line.to_owned());
    while measure_text_width(&rest) > columns {
        let byte = |char: usize| rest.char_indices().nth(char).map_or(rest.len(), |(at, _)| at);
        let (start, end) = (byte(indent.len()), byte(columns + 1));
        // A word that is longer than a line stays whole.
        let space = rest[start..end.max(start)].rfind(' ').or_else(|| rest[start..].find(' '));
        let Some(at) = space.map(|at| start + at) else { break };
        out += rest[..at].trim_end();
        out.push('\n');
        rest = format!("{indent}{}", rest[at..].trim_start());
    }
    out + &rest
}

fn wrapped_line(line: &str, columns: usize) -> String {
    if measure_text_width(line) <= columns || line.starts_with(' ') {
        return line.to_owned();
    }
    let (mut out, mut column) = (String::new(), 0);
    for (number, word) in line.split_whitespace().enumerate() {
        let width = measure_text_width(word);
        if number > 0 && column + 1 + width > columns {
            out += "\n";
            out += INDENT;
            column = INDENT.len();
        } else if number > 0 {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += width;
    }
    out
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
