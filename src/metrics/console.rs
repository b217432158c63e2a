//! The progress display of a run, on stderr. In a terminal it is a bar with the latest numbers and the time left; elsewhere (log files,
//! batch jobs) it prints a line after every tenth of the run. Results go to stdout and are printed elsewhere.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::phases::PhaseTimes;
use crate::output::{Stderr, escape_controls};

/// The numbers of a step to display.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepLine {
    /// The step, from 1 to the total number of steps.
    pub step: u32,
    /// Share of the step's responses that are correct, 0 to 1.
    pub train_accuracy: f32,
    /// Mean reward of the step's responses.
    pub reward: f32,
    /// Mean entropy of the policy in nats per token.
    pub entropy: f32,
    /// Mean response length in tokens.
    pub response_length: f32,
    /// The loss that the step minimized.
    pub loss: f32,
    /// Number of groups in the step.
    pub groups: usize,
    /// Number of groups whose rewards differ; the others give no policy gradient. `None` if rewards are not compared within groups.
    pub groups_with_signal: Option<usize>,
    /// Times by phase, accumulated since the display started.
    pub times: PhaseTimes,
}

/// The progress display of one run. Threads may share it by reference.
pub struct Console {
    total_steps: u32,
    /// True if lines end with the times by phase.
    shows_times: bool,
    screen: Screen,
    clock: Mutex<Clock>,
}

enum Screen {
    Bar(ProgressBar),
    Lines(Mutex<Box<dyn Write + Send>>),
}

impl Console {
    /// Makes a display for the steps after `start_step` (0 for a new run) up to `total_steps`: a bar if stderr is a terminal, else lines.
    /// With `shows_times`, each line also has the times by phase since the previous one.
    pub fn new(total_steps: u32, start_step: u32, shows_times: bool) -> Self {
        let target = ProgressDrawTarget::stderr();
        if target.is_hidden() {
            return Self::plain(total_steps, start_step, shows_times, Box::new(Stderr));
        }
        let bar = ProgressBar::with_draw_target(Some(u64::from(total_steps)), target).with_position(u64::from(start_step));
        let template = "{bar:24.cyan/black.bright} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸━"));
        }
        bar.set_message(format!("{start_step}/{total_steps}"));
        Self::on(total_steps, start_step, shows_times, Screen::Bar(bar))
    }

    /// Makes a display that prints plain lines to `sink`.
    pub fn plain(total_steps: u32, start_step: u32, shows_times: bool, sink: Box<dyn Write + Send>) -> Self {
        Self::on(total_steps, start_step, shows_times, Screen::Lines(Mutex::new(sink)))
    }

    /// Shows a finished step. Without a bar, prints a line only after each tenth of the run.
    pub fn step(&self, line: &StepLine) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let left = clock.time_left(line.step, self.total_steps, Instant::now());
        let starts_tenth = tenth(line.step, self.total_steps) > tenth(clock.last_step, self.total_steps);
        clock.last_step = line.step;
        let is_shown = starts_tenth || matches!(self.screen, Screen::Bar(_));
        let mut text = format!("{}/{}  {}", line.step, self.total_steps, numbers(line));
        if let Some(left) = left {
            text += &format!("  {} left", short(left));
        }
        if self.shows_times && is_shown {
            text += &format!("  {}", line.times.since(&clock.times).summary());
            clock.times = line.times;
        }
        drop(clock);
        match &self.screen {
            Screen::Bar(bar) => {
                // The step count is part of the message, so that count and numbers always change together.
                bar.set_position(u64::from(line.step));
                bar.set_message(text);
            }
            Screen::Lines(_) if is_shown => self.note(&format!("step {text}")),
            Screen::Lines(_) => {}
        }
    }

    /// Prints a permanent message, such as an evaluation or a checkpoint. In a terminal it appears above the bar.
    pub fn note(&self, text: &str) {
        let text = &*escape_controls(text);
        match &self.screen {
            Screen::Bar(bar) => bar.println(text),
            Screen::Lines(sink) => {
                let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
                // A closed stderr must not stop the run, which is recorded in files.
                let _ = writeln!(sink, "{text}").and_then(|()| sink.flush());
            }
        }
    }

    /// Removes the bar, so that final tables can follow.
    pub fn finish(&self) {
        if let Screen::Bar(bar) = &self.screen {
            bar.finish_and_clear();
        }
    }

    /// Hides the bar while `print` writes to the terminal, for example from a log subscriber. Returns its result.
    pub fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        match &self.screen {
            Screen::Bar(bar) => bar.suspend(print),
            Screen::Lines(_) => print(),
        }
    }

    fn on(total_steps: u32, start_step: u32, shows_times: bool, screen: Screen) -> Self {
        let clock = Mutex::new(Clock { first: None, last_step: start_step, times: PhaseTimes::default() });
        Self { total_steps, shows_times, screen, clock }
    }
}

/// Removes an unfinished bar, also after an error, so that the error message starts on a clean line.
impl Drop for Console {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Estimates the time left. Starts at the first finished step, because the base model's evaluation before it does not repeat. Evaluations
/// between steps do repeat, and count.
struct Clock {
    /// The first finished step, and its time.
    first: Option<(u32, Instant)>,
    /// The last step that was passed to the display.
    last_step: u32,
    /// The times at the last line that printed them.
    times: PhaseTimes,
}

impl Clock {
    /// Estimates the time left after a step; `None` for the first step and the last.
    fn time_left(&mut self, step: u32, total: u32, now: Instant) -> Option<Duration> {
        let (first_step, first_time) = *self.first.get_or_insert((step, now));
        let done = step.checked_sub(first_step).filter(|&done| done > 0)?;
        let remaining = total.checked_sub(step).filter(|&steps| steps > 0)?;
        let per_step = now.saturating_duration_since(first_time).div_f64(f64::from(done));
        Some(per_step * remaining)
    }
}

/// Returns the number of completed tenths of the run.
fn tenth(step: u32, total: u32) -> u64 {
    u64::from(step) * 10 / u64::from(total.max(1))
}

/// Formats a duration as `45s`, `1m 40s` or `2h 05m`.
fn short(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m {s:02}s"),
        (h, m, _) => format!("{h}h {m:02}m"),
    }
}

/// Formats the numbers of a step.
fn numbers(line: &StepLine) -> String {
    let signal = line.groups_with_signal.map_or_else(String::new, |groups| format!("  signal in {groups} of {} groups", line.groups));
    format!(
        "train {:.1}%  reward {:.3}  entropy {:.3}  {:.0} tokens  loss {:+.4}{signal}",
        100.0 * line.train_accuracy,
        line.reward,
        line.entropy,
        line.response_length,
        line.loss,
    )
}

#[cfg(test)]
mod tests;
