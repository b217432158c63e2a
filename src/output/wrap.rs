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
}
