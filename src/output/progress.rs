//! Shows what the program is doing while it works. In a terminal, one or two lines at the bottom move several times per second. Elsewhere
//! nothing is drawn, and a line after every tenth of the work is printed if the caller wants it.
//!
//! The work reports by atomic counters. A thread of its own reads them and draws, so reports cost a few nanoseconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde_json::json;

use super::activity::{Activity, Headline, activity_line, headline_line};
use super::mode::{self, Level};

/// The time between two drawings.
const TICK: Duration = Duration::from_millis(150);
/// Nothing is drawn before, so that short commands do not flicker.
const FIRST_DRAWN_AFTER: Duration = Duration::from_millis(300);

/// The progress of one command. Clones share it; the display disappears with the last one.
#[derive(Clone)]
pub struct Progress(Arc<Shared>);

struct Shared {
    state: Arc<State>,
    bar: Option<ProgressBar>,
    prints_tenths: bool,
}

/// What the display shows.
struct State {
    started: Instant,
    headline: Mutex<Option<(Headline, Option<Instant>)>>,
    work: Mutex<Work>,
    done: AtomicU64,
    total: AtomicU64,
    tokens: AtomicU64,
}

/// The work in progress.
#[derive(Clone)]
struct Work {
    what: String,
    began: Instant,
    /// True if its parts are the bytes of a file.
    is_bytes: bool,
}

impl Progress {
    /// Creates the progress of a command. Draws it if stderr is a terminal that shows messages.
    pub fn new() -> Self {
        Self::create(mode::can_draw(), false)
    }

    /// Like [`new`](Self::new), but without a terminal prints a message after every tenth of the counted work.
    pub fn with_lines() -> Self {
        let draws = mode::can_draw();
        Self::create(draws, !draws)
    }

    /// Creates a progress that is never shown, for library code and tests.
    pub fn hidden() -> Self {
        Self::create(false, false)
    }

    /// Creates a progress, or shares the one that is drawn already, as for a download within other work.
    fn create(draws: bool, prints_tenths: bool) -> Self {
        if let Some(shared) = draws.then(displayed).flatten() {
            return Self(shared);
        }
        let now = Instant::now();
        let state = Arc::new(State {
            started: now,
            headline: Mutex::new(None),
            work: Mutex::new(Work { what: String::new(), began: now, is_bytes: false }),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
        });
        let bar = draws.then(|| display(&state));
        let shared = Arc::new(Shared { state, bar, prints_tenths });
        if draws {
            *locked(&DISPLAYED) = Some(Arc::downgrade(&shared));
        }
        Self(shared)
    }

    /// True if a display is drawn.
    pub fn is_drawn(&self) -> bool {
        self.0.bar.is_some()
    }

    /// Starts some work, such as "rollouts", and ends the previous one. The number of its parts is unknown until
    /// [`expect`](Self::expect).
    pub fn begin(&self, what: impl Into<String>) {
        let state = &self.0.state;
        let mut work = locked(&state.work);
        *work = Work { what: what.into(), began: Instant::now(), is_bytes: false };
        state.reset(0);
        state.tokens.store(0, Ordering::Relaxed);
    }

    /// Starts or continues a transfer of a file, of which `done` of `total` bytes are complete; 0 if the size is unknown.
    pub fn transfer(&self, what: &str, done: u64, total: u64) {
        let state = &self.0.state;
        let mut work = locked(&state.work);
        if work.what != what {
            *work = Work { what: what.to_owned(), began: Instant::now(), is_bytes: true };
            state.tokens.store(0, Ordering::Relaxed);
        }
        state.total.store(total, Ordering::Relaxed);
        state.done.store(done, Ordering::Relaxed);
    }

    /// Returns the name of the work in progress.
    pub fn work(&self) -> String {
        locked(&self.0.state.work).what.clone()
    }

    /// Sets the number of parts of the work, and forgets the finished ones.
    pub fn expect(&self, parts: usize) {
        self.0.state.reset(parts as u64);
    }

    /// Counts one finished part of the work. Threads may call it concurrently.
    pub fn add(&self) {
        self.add_parts(1);
    }

    /// Counts finished parts of the work. Threads may call it concurrently.
    pub fn add_parts(&self, parts: usize) {
        let before = self.0.state.done.fetch_add(parts as u64, Ordering::Relaxed);
        if self.0.prints_tenths {
            self.0.state.print_tenth(before, before + parts as u64);
        }
    }

    /// Counts one computed token. Threads may call it concurrently.
    pub fn add_token(&self) {
        self.0.state.tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// Shows the steps of a run and their latest numbers above the work, with the time left.
    pub fn set_headline(&self, headline: Headline, left: Option<Duration>) {
        *locked(&self.0.state.headline) = Some((headline, left.map(|left| Instant::now() + left)));
    }

    /// Removes the display, so that final tables can follow.
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
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            locked(&DISPLAYED).take_if(|shown| std::ptr::eq(shown.as_ptr(), self));
        }
    }
}

/// Removes the display also after an error, so that the error message starts on a clean line.
impl Drop for Shared {
    fn drop(&mut self) {
        self.finish();
    }
}

impl State {
    fn reset(&self, parts: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(parts, Ordering::Relaxed);
    }

    /// Returns at most two lines of at most `columns` columns.
    fn lines(&self, columns: usize) -> String {
        let clock = self.started.elapsed();
        let headline = locked(&self.headline).clone();
        if headline.is_none() && clock < FIRST_DRAWN_AFTER {
            return String::new();
        }
        let Work { what, began, is_bytes } = locked(&self.work).clone();
        let activity = Activity {
            what,
            is_bytes,
            done: self.done.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
            tokens: self.tokens.load(Ordering::Relaxed),
            elapsed: began.elapsed(),
        };
        match headline {
            Some((headline, end)) => {
                let left = end.map(|end| end.saturating_duration_since(Instant::now()));
                format!("{}\n{}", headline_line(&headline, left, columns), activity_line(&activity, Some(&headline), clock, columns))
            }
            None => activity_line(&activity, None, clock, columns),
        }
    }

    /// Prints the number of finished parts if a tenth of the work ended between `before` and `after`.
    fn print_tenth(&self, before: u64, after: u64) {
        let total = self.total.load(Ordering::Relaxed);
        if total == 0 || before * 10 / total == after * 10 / total {
            return;
        }
        let what = locked(&self.work).what.clone();
        let fields = [("work", json!(what)), ("done", json!(after)), ("total", json!(total))];
        super::print(Level::Info, &format!("{what} {after}/{total}"), &fields);
    }
}

/// The progress that is drawn. Messages appear above it, whichever part of the program prints them.
static DISPLAYED: Mutex<Option<Weak<Shared>>> = Mutex::new(None);

fn displayed() -> Option<Arc<Shared>> {
    locked(&DISPLAYED).as_ref().and_then(Weak::upgrade)
}

/// Runs `print`, which writes to the terminal, while the display is removed. Returns its result.
pub fn aside<R>(print: impl FnOnce() -> R) -> R {
    match displayed().as_ref().and_then(|shown| shown.bar.as_ref()) {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

/// Draws a state at the bottom of the terminal from now on.
fn display(state: &Arc<State>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let shown = state.clone();
    let lines = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
        // The last column stays free, because some terminals wrap when it is written.
        let columns = Term::stderr().size_checked().map_or(80, |(_, columns)| usize::from(columns)).saturating_sub(1);
        let _ = out.write_str(&shown.lines(columns));
    };
    if let Ok(style) = ProgressStyle::with_template("{lines}") {
        bar.set_style(style.with_key("lines", lines));
    }
    bar.enable_steady_tick(TICK);
    bar
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
