//! Prints all text meant for people: messages to stderr, results to stdout. A closed stream does not end the program, and control
//! characters in foreign text (a server's message, a model's response, a file name) are escaped so that they cannot control the terminal.
//! Clippy denies `println!` and `eprintln!` in the library.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// Formats its arguments and prints them with [`print_message`].
macro_rules! message {
    ($($text:tt)*) => {
        $crate::output::print_message(&format!($($text)*))
    };
}

/// Prints a message to stderr, escaped and followed by a line feed.
pub fn print_message(text: &str) {
    let mut out = escape_controls(text).into_owned();
    out.push('\n');
    // One write per line, so that lines from several processes do not mix.
    let _ = Stderr.write_all(out.as_bytes());
}

/// Prints a line of results to stdout: escaped on a terminal, unchanged elsewhere. Ignores a closed pipe (as after `| head`), so that the
/// command can finish saving.
pub fn print_result(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{}", for_stdout(text)).and_then(|()| stdout.flush());
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

/// Stderr for third-party writers (logs, the progress display). Every write succeeds, even after the reader has closed the stream.
#[derive(Clone, Copy, Debug)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The stream may be closed (EPIPE), or the terminal may be gone (EIO).
        let _ = io::stderr().lock().write_all(bytes);
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
}
