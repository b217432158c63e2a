//! Shows what the program is doing while it works. In a terminal, a few lines at the bottom move several times per second. Elsewhere nothing
//! is drawn: work that goes on for minutes prints a line per minute, and counted work a line after every tenth if the caller wants it.
//!
//! The work reports by atomic counters. A thread of its own reads them, so reports cost a few nanoseconds.

mod display;
mod state;

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::activity::Headline;
use super::mode;
use state::{State, locked};

/// The progress of one command. Clones share it; the display disappears with the last one.
#[derive(Clone)]
pub struct Progress(Arc<Shared>);

struct Shared {
    state: Arc<State>,
    bar: Option<ProgressBar>,
    prints_tenths: bool,
}

impl Progress {
    /// Creates the progress of a command, or shares the one that is shown already, as for a download within other work. Draws it if stderr is
    /// a terminal that shows messages. Elsewhere, prints a line per minute about work that goes on.
    pub fn new() -> Self {
        Self::shown(false)
    }

    /// Like [`new`](Self::new), but without a terminal also prints a line after every tenth of the counted work.
    pub fn with_lines() -> Self {
        Self::shown(true)
    }

    /// Creates a progress that is never shown, for library code and tests.
    pub fn hidden() -> Self {
        Self(Arc::new(Shared { state: Arc::new(State::new(Instant::now())), bar: None, prints_tenths: false }))
    }

    fn shown(prints_tenths: bool) -> Self {
        let mut current = locked(&SHOWN);
        if let Some(shared) = current.as_ref().and_then(Weak::upgrade) {
            return Self(shared);
        }
        let state = Arc::new(State::new(Instant::now()));
        let bar = mode::can_draw().then(|| display::draw(&state));
        if bar.is_none() && mode::shows_messages() {
            display::log(&state);
        }
        let prints_tenths = prints_tenths && bar.is_none();
        let shared = Arc::new(Shared { state, bar, prints_tenths });
        *current = Some(Arc::downgrade(&shared));
        Self(shared)
    }

    /// True if a display is drawn.
    pub fn is_drawn(&self) -> bool {
        self.0.bar.is_some()
    }

    /// Starts some work, such as "rollouts", and ends the previous one. The number of its parts is unknown until
    /// [`expect`](Self::expect).
    pub fn begin(&self, what: impl Into<String>) {
        self.0.state.begin(what.into(), Instant::now());
    }

    /// Starts or continues a transfer of a file, of which `done` of `total` bytes are complete; 0 if the size is unknown.
    pub fn transfer(&self, what: &str, done: u64, total: u64) {
        self.0.state.transfer(what, done, total, Instant::now());
    }

    /// Returns the name of the work in progress.
    pub fn work(&self) -> String {
        self.0.state.what()
    }

    /// Returns the number of finished parts of the work, and of all parts.
    pub fn counts(&self) -> (u64, u64) {
        self.0.state.counts()
    }

    /// Sets the number of parts of the work, and forgets the finished ones.
    pub fn expect(&self, parts: usize) {
        self.0.state.expect(parts as u64, false, Instant::now());
    }

    /// Sets the number of bytes that the work reads, which are its parts, and forgets those that were read.
    pub fn expect_bytes(&self, bytes: u64) {
        self.0.state.expect(bytes, true, Instant::now());
    }

    /// Counts one finished part of the work. Threads may call it concurrently.
    pub fn add(&self) {
        self.add_parts(1);
    }

    /// Counts finished parts of the work. Threads may call it concurrently.
    pub fn add_parts(&self, parts: usize) {
        let before = self.0.state.add(parts as u64);
        if self.0.prints_tenths
            && let Some(line) = self.0.state.tenth(before, before + parts as u64, Instant::now())
        {
            display::print(&line);
        }
    }

    /// Counts one computed token. Threads may call it concurrently.
    pub fn add_token(&self) {
        self.0.state.add_token();
    }

    /// Shows the steps of a run and their latest numbers above the work, with the time left.
    pub fn set_headline(&self, headline: Headline, left: Option<Duration>) {
        self.0.state.set_headline(headline, left.map(|left| Instant::now() + left));
    }

    /// Shows the parts of the work that run in parallel, a line each, below the headline.
    pub fn set_parts(&self, parts: Vec<String>) {
        self.0.state.set_parts(parts);
    }

    /// Ends the work and removes the display, so that final tables can follow.
    pub fn finish(&self) {
        self.0.finish();
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn finish(&self) {
        self.state.begin(String::new(), Instant::now());
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        locked(&SHOWN).take_if(|shown| std::ptr::eq(shown.as_ptr(), self));
    }
}

/// Removes the display also after an error, so that the error message starts on a clean line.
impl Drop for Shared {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The progress that is shown. Messages appear above its display, whichever part of the program prints them.
static SHOWN: Mutex<Option<Weak<Shared>>> = Mutex::new(None);

/// Runs `print`, which writes to the terminal, while the display is removed. Returns its result.
pub fn aside<R>(print: impl FnOnce() -> R) -> R {
    let shown = locked(&SHOWN).as_ref().and_then(Weak::upgrade);
    match shown.as_ref().and_then(|shown| shown.bar.as_ref()) {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}
