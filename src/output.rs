//! Text for people: on stderr, one line after the other. A stream that is closed ends nothing, and control characters of foreign text (a server's
//! message, a model's response, a file's name) are shown as escapes, so that they never steer the terminal. Everything that people read passes
//! through here; clippy denies `println!` and `eprintln!` in the library.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// Writes a line for people to stderr.
macro_rules! tell {
    ($($text:tt)*) => {
        $crate::output::line(&format!($($text)*))
    };
}

/// Writes a line for people to stderr.
pub fn line(text: &str) {
    let mut out = shown(text).into_owned();
    out.push('\n');
    // One write a line, so that lines of several processes do not mix.
    let _ = Stderr.write_all(out.as_bytes());
}

/// Writes a line of results to stdout, as it is; only a terminal gets it with escapes. A reader who has gone, as `head` does, ends neither the
/// command nor what it has still to save.
pub fn result(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{}", for_stdout(text)).and_then(|()| stdout.flush());
}

/// Text on its way to stdout: with escapes where that is a terminal, as it is elsewhere.
pub fn for_stdout(text: &str) -> Cow<'_, str> {
    if io::stdout().is_terminal() { shown(text) } else { Cow::Borrowed(text) }
}

/// Text that cannot steer a terminal: control characters and those that turn the direction of writing become escapes such as `\u{1b}`; line
/// ends and tabs stay.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if steers(char) { out.extend(char.escape_default()) } else { out.push(char) }
    }
    Cow::Owned(out)
}

fn steers(char: char) -> bool {
    let turns = matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (char.is_control() && !matches!(char, '\n' | '\t'))
}

/// Stderr for writers of others (logs, the progress display): every write succeeds, also where nobody reads any more.
#[derive(Clone, Copy, Debug)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A closed stream (EPIPE) or a terminal that is gone (EIO).
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
    fn text_cannot_steer_a_terminal() {
        let check = |text: &str, expected: &str| assert_eq!(shown(text), expected);
        check("a\tb\nc é 漢 \\boxed{1}", "a\tb\nc é 漢 \\boxed{1}");
        check("\u{1b}]0;title\u{7}\u{1b}[2J", "\\u{1b}]0;title\\u{7}\\u{1b}[2J");
        check("50%\rgone\u{8}\u{7f}", "50%\\rgone\\u{8}\\u{7f}");
        check("\u{9b}31m", "\\u{9b}31m");
        check("abc\u{202e}fed", "abc\\u{202e}fed");
    }
}
