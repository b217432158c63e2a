//! What stderr shows and in which format. The command line sets the mode once, at start-up; library code and tests use the default.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressDrawTarget;

/// The importance of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Shown with `-v` only.
    Detail,
    /// Shown unless `--quiet` is given.
    Info,
    /// Something that may be wrong; always shown.
    Warning,
    /// Why the program failed; always shown.
    Error,
}

impl Level {
    /// Returns the name in JSON lines, as in those of the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Detail => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// The format of stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text for people, with a progress display in a terminal.
    Text,
    /// One JSON object per line, without a progress display.
    Json,
}

/// What stderr shows, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// The format of all lines.
    pub format: Format,
    /// The least important messages to show.
    pub least: Level,
}

impl Default for Mode {
    fn default() -> Self {
        Self { format: Format::Text, least: Level::Info }
    }
}

static MODE: OnceLock<Mode> = OnceLock::new();

/// Sets the mode of this process. Later calls have no effect.
pub fn set(mode: Mode) {
    let _ = MODE.set(mode);
}

/// Hides everything but errors from now on, results too: another process speaks for this one.
pub fn hide_all_but_errors() {
    IS_HIDDEN.store(true, Ordering::Relaxed);
}

static IS_HIDDEN: AtomicBool = AtomicBool::new(false);

/// Returns the mode of this process.
pub fn current() -> Mode {
    let mode = MODE.get().copied().unwrap_or_default();
    if shows_results() { mode } else { Mode { least: Level::Error, ..mode } }
}

/// True unless another process prints the results, see [`hide_all_but_errors`].
pub fn shows_results() -> bool {
    !IS_HIDDEN.load(Ordering::Relaxed)
}

/// True if stderr shows messages: without `--quiet`.
pub fn shows_messages() -> bool {
    current().least <= Level::Info
}

/// True if a progress display may be drawn: stderr shows text and messages, and is a terminal that can move its cursor.
pub fn can_draw() -> bool {
    current().format == Format::Text && shows_messages() && !ProgressDrawTarget::stderr().is_hidden()
}

/// Returns the width of the terminal on stderr; `None` if stderr is not a terminal.
pub fn stderr_columns() -> Option<usize> {
    std::io::stderr().is_terminal().then(|| columns(&console::Term::stderr())).flatten()
}

/// Returns the width of the terminal on stdout; `None` if stdout is not a terminal.
pub fn stdout_columns() -> Option<usize> {
    std::io::stdout().is_terminal().then(|| columns(&console::Term::stdout())).flatten()
}

fn columns(term: &console::Term) -> Option<usize> {
    term.size_checked().map(|(_, columns)| usize::from(columns)).filter(|columns| *columns > 0)
}
