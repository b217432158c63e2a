//! Draws the state of a progress at the bottom of the terminal, or prints lines about it to a log file. A thread of its own reads the state.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::state::{LogLine, State};
use crate::output::mode::Level;

/// The time between two drawings.
const DRAWN_EVERY: Duration = Duration::from_millis(150);
/// The time between two checks whether a line is due.
const CHECKED_EVERY: Duration = Duration::from_secs(1);

/// Draws a state at the bottom of the terminal from now on.
pub(super) fn draw(state: &Arc<State>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let shown = state.clone();
    let lines = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
        // The last column stays free, because some terminals wrap when it is written.
        let columns = Term::stderr().size_checked().map_or(80, |(_, columns)| usize::from(columns)).saturating_sub(1);
        let _ = out.write_str(&shown.drawing(columns, Instant::now()));
    };
    if let Ok(style) = ProgressStyle::with_template("{lines}") {
        bar.set_style(style.with_key("lines", lines));
    }
    bar.enable_steady_tick(DRAWN_EVERY);
    bar
}

/// Prints a line about work that goes on, from now on until the state is dropped.
pub(super) fn log(state: &Arc<State>) {
    let state: Weak<State> = Arc::downgrade(state);
    let watch = move || {
        while let Some(state) = state.upgrade() {
            if let Some(line) = state.due_line(Instant::now()) {
                print(&line);
            }
            drop(state);
            std::thread::sleep(CHECKED_EVERY);
        }
    };
    // Without the thread, these lines are missing, which is no reason to stop the work.
    let _ = std::thread::Builder::new().name("progress".to_owned()).spawn(watch);
}

/// Prints a line about the work.
pub(super) fn print((text, fields): &LogLine) {
    crate::output::print(Level::Info, text, fields);
}
