//! Prints all text meant for people: messages to stderr, results to stdout. A closed stream does not end the program, and control
//! characters in foreign text (a server's message, a model's response, a file name) are escaped so that they cannot control the terminal.
//! Clippy denies `println!` and `eprintln!` in the library.
//!
//! [`mode`] decides what stderr shows and in which format; [`progress`] draws what the program is doing. A message appears above the
//! progress, its lines wrap at words in a terminal, and each is a JSON object if stderr has the JSON format.

mod activity;
pub mod mode;
pub mod progress;
pub mod shell;
mod wrap;

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use console::Style;
use serde_json::{Map, Value, json};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

pub use activity::{Headline, duration};
use mode::Format;
pub use mode::{Level, Mode, stdout_columns};
pub use progress::Progress;

/// Formats its arguments and prints them with [`print_message`].
macro_rules! message {
    ($($text:tt)*) => {
        $crate::output::print_message(&format!($($text)*))
    };
}

/// Prints a message to stderr, escaped and followed by a line feed. `--quiet` hides it.
pub fn print_message(text: &str) {
    print(Level::Info, text, &[]);
}

/// Prints a warning to stderr: `warning: ` and the text.
pub fn print_warning(text: &str) {
    print(Level::Warning, text, &[]);
}

/// Prints an error to stderr: `error: ` and the text.
pub fn print_error(text: &str) {
    print(Level::Error, text, &[]);
}

/// Prints a message of a level to stderr unless the mode hides it. `fields` are its numbers and names by key, which only the JSON format
/// shows.
pub fn print(level: Level, text: &str, fields: &[(&str, Value)]) {
    let mode = mode::current();
    if level < mode.least {
        return;
    }
    let mut out = match mode.format {
        Format::Json => json_line(level, text.trim_matches('\n'), fields),
        Format::Text => text_lines(level, text, mode::stderr_columns()),
    };
    out.push('\n');
    // One write per message, so that messages of several processes do not mix.
    let _ = Stderr.write_all(out.as_bytes());
}

/// Formats a message as text: escaped, with the name of its level if it is a warning or an error, and wrapped at words to `columns`.
fn text_lines(level: Level, text: &str, columns: Option<usize>) -> String {
    let (name, style) = match level {
        Level::Detail | Level::Info => ("", Style::new()),
        Level::Warning => ("warning:", Style::new().yellow().bold()),
        Level::Error => ("error:", Style::new().red().bold()),
    };
    let gap = if name.is_empty() { "" } else { " " };
    let text = wrap::wrapped(&format!("{name}{gap}{}", escape_controls(text)), columns);
    format!("{}{}", style.for_stderr().apply_to(name), &text[name.len()..])
}

/// Formats a message as a JSON object in one line.
fn json_line(level: Level, text: &str, fields: &[(&str, Value)]) -> String {
    let mut line = Map::new();
    line.insert("timestamp".to_owned(), json!(timestamp()));
    line.insert("level".to_owned(), json!(level.name()));
    line.insert("message".to_owned(), json!(text));
    line.extend(fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    Value::Object(line).to_string()
}

/// Returns the time in the format of the log's time stamps.
fn timestamp() -> String {
    let mut text = String::new();
    // Formatting into a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// Prints a line of results to stdout: escaped on a terminal, unchanged elsewhere. Ignores a closed pipe (as after `| head`), so that the
/// command can finish saving.
pub fn print_result(text: &str) {
    if !mode::shows_results() {
        return;
    }
    progress::aside(|| {
        let mut stdout = io::stdout().lock();
        let _ = writeln!(stdout, "{}", for_stdout(text)).and_then(|()| stdout.flush());
    });
}

/// Like [`print_result`], and wraps lines between words to the width of the terminal on stdout. Elsewhere the text stays as it is.
pub fn print_folded_result(text: &str) {
    print_result(&wrap::folded(text, mode::stdout_columns()));
}

/// Returns text for stdout: escaped if stdout is a terminal, unchanged otherwise.
pub fn for_stdout(text: &str) -> Cow<'_, str> {
    if io::stdout().is_terminal() { escape_controls(text) } else { Cow::Borrowed(text) }
}

/// Escapes text so that it cannot control a terminal: replaces control characters, and those that change the text direction, with escapes
/// such as `\u{1b}`. Line feeds and tabs stay.
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    if !text.contains(controls_terminal) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if controls_terminal(char) { out.extend(char.escape_default()) } else { out.push(char) }
    }
    Cow::Owned(out)
}

fn controls_terminal(char: char) -> bool {
    let is_directional =
        matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    is_directional || (char.is_control() && !matches!(char, '\n' | '\t'))
}

/// Stderr for third-party writers, such as logs. Every write succeeds, even after the reader has closed the stream, and appears above the
/// progress.
#[derive(Clone, Copy, Debug)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The stream may be closed (EPIPE), or the terminal may be gone (EIO).
        let _ = progress::aside(|| io::stderr().lock().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = io::stderr().lock().flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_controls_escapes_control_and_direction_characters() {
        let check = |text: &str, expected: &str| assert_eq!(escape_controls(text), expected);
        check("a\tb\nc é 漢 \\boxed{1}", "a\tb\nc é 漢 \\boxed{1}");
        check("\u{1b}]0;title\u{7}\u{1b}[2J", "\\u{1b}]0;title\\u{7}\\u{1b}[2J");
        check("50%\rgone\u{8}\u{7f}", "50%\\rgone\\u{8}\\u{7f}");
        check("\u{9b}31m", "\\u{9b}31m");
        check("abc\u{202e}fed\u{61c}", "abc\\u{202e}fed\\u{61c}");
    }

    #[test]
    fn text_lines_name_warnings_and_errors_and_wrap() {
        let check =
            |level: Level, text: &str, columns: Option<usize>, expected: &str| assert_eq!(text_lines(level, text, columns), expected);
        check(Level::Info, "saved", None, "saved");
        check(Level::Error, "\u{1b}[2J", None, "error: \\u{1b}[2J");
        check(Level::Warning, "the disk is nearly full", Some(20), "warning: the disk is\n  nearly full");
    }

    #[test]
    fn json_line_has_the_time_the_level_the_message_and_the_fields() {
        let line: Value = serde_json::from_str(&json_line(Level::Warning, "two\nlines \u{1b}", &[("step", json!(3))])).unwrap();
        assert_eq!((&line["level"], &line["message"], &line["step"]), (&json!("WARN"), &json!("two\nlines \u{1b}"), &json!(3)));
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z') && time.contains('T'), "{time}");
    }
}
