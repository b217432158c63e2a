//! The progress display of a run, on stderr. In a terminal it has a bar with the latest numbers and the time left, and a line with the work
//! in progress; elsewhere (log files, batch jobs) it prints a line after every tenth of the run. Results go to stdout and are printed
//! elsewhere.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::phases::PhaseTimes;
use super::time_left::{Schedule, TimeLeft};
use crate::output::{self, Headline, Level, Progress, duration};

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
    progress: Progress,
    print: Print,
    total_steps: u64,
    /// True if lines end with the times by phase.
    shows_times: bool,
    clock: Mutex<Clock>,
}

/// Prints a message with its fields, as [`output::print`] does.
type Print = Box<dyn Fn(Level, &str, &[(&str, Value)]) + Send + Sync>;

struct Clock {
    time_left: TimeLeft,
    /// The last step that was passed to the display.
    last_step: u64,
    /// The times at the last step, and the seconds of evaluations and checkpoints since then.
    last_times: PhaseTimes,
    other_s: f64,
    /// The times at the last line that printed them.
    printed_times: PhaseTimes,
}

impl Console {
    /// Makes a display for the steps after `start_step` (0 for a new run). `progress` shows the steps if it is drawn, and the work in progress.
    /// With `shows_times`, lines also have the times by phase since the previous one.
    pub fn new(progress: Progress, schedule: Schedule, start_step: u64, shows_times: bool) -> Self {
        Self::printing(progress, schedule, start_step, shows_times, Box::new(output::print))
    }

    /// Makes a display that shows nothing, for a process whose run another one shows.
    pub fn hidden(schedule: Schedule, start_step: u64) -> Self {
        Self::printing(Progress::hidden(), schedule, start_step, false, Box::new(|_, _, _| ()))
    }

    fn printing(progress: Progress, schedule: Schedule, start_step: u64, shows_times: bool, print: Print) -> Self {
        let clock = Clock {
            time_left: TimeLeft::new(schedule, start_step),
            last_step: start_step,
            last_times: PhaseTimes::default(),
            other_s: 0.0,
            printed_times: PhaseTimes::default(),
        };
        progress.set_headline(Headline { done: start_step, total: schedule.steps, fields: Vec::new() }, None);
        Self { progress, print, total_steps: schedule.steps, shows_times, clock: Mutex::new(clock) }
    }

    /// Returns the display of the work in progress.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Shows a finished step. Without a bar, prints a line only after each tenth of the run.
    pub fn step(&self, line: &StepLine) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let step = u64::from(line.step);
        let seconds = line.times.since(&clock.last_times).sum() - std::mem::take(&mut clock.other_s);
        clock.last_times = line.times;
        clock.time_left.add_step(step, seconds.max(0.0));
        let left = clock.time_left.seconds();
        let starts_tenth = tenth(step, self.total_steps) > tenth(clock.last_step, self.total_steps);
        clock.last_step = step;
        let times = (self.shows_times && (starts_tenth || self.progress.is_drawn())).then(|| {
            let since = std::mem::replace(&mut clock.printed_times, line.times);
            line.times.since(&since).summary()
        });
        drop(clock);
        let shown = fields(line).into_iter().chain(times.clone()).collect();
        self.progress.set_headline(Headline { done: step, total: self.total_steps, fields: shown }, left.map(Duration::from_secs_f64));
        if starts_tenth && !self.progress.is_drawn() {
            self.print_step(line, left, times);
        }
    }

    /// Records the duration of an evaluation of the last step.
    pub fn evaluated(&self, seconds: f64) {
        self.add_other(seconds, TimeLeft::add_evaluation);
    }

    /// Sets the first estimate of an evaluation's duration.
    pub fn expect_evaluation(&self, seconds: f64) {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).time_left.expect_evaluation(seconds);
    }

    /// Records the duration of a checkpoint of the last step.
    pub fn saved(&self, seconds: f64) {
        self.add_other(seconds, TimeLeft::add_checkpoint);
    }

    fn add_other(&self, seconds: f64, add: fn(&mut TimeLeft, f64)) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut clock.time_left, seconds);
        clock.other_s += seconds;
    }

    /// Prints a message, such as an evaluation or a checkpoint. In a terminal it appears above the bar.
    pub fn note(&self, text: &str) {
        (self.print)(Level::Info, text, &self.step_field());
    }

    /// Prints a warning.
    pub fn warn(&self, text: &str) {
        (self.print)(Level::Warning, text, &self.step_field());
    }

    /// Removes the bar, so that final tables can follow.
    pub fn finish(&self) {
        self.progress.finish();
    }

    fn step_field(&self) -> [(&'static str, Value); 1] {
        [("step", json!(self.clock.lock().unwrap_or_else(PoisonError::into_inner).last_step))]
    }

    fn print_step(&self, line: &StepLine, left_s: Option<f64>, times: Option<String>) {
        let left = left_s.map(|left| format!("{} left", duration(Duration::from_secs_f64(left))));
        let texts: Vec<String> = fields(line).into_iter().chain(left).chain(times).collect();
        let text = format!("step {}/{}  {}", line.step, self.total_steps, texts.join("  "));
        let mut numbers = vec![
            ("step", json!(line.step)),
            ("steps", json!(self.total_steps)),
            ("train_accuracy", json!(line.train_accuracy)),
            ("reward", json!(line.reward)),
            ("entropy", json!(line.entropy)),
            ("response_tokens", json!(line.response_length)),
            ("loss", json!(line.loss)),
        ];
        numbers.extend(line.groups_with_signal.map(|groups| ("groups_with_signal", json!(groups))));
        numbers.extend(left_s.map(|left| ("left_s", json!(left))));
        (self.print)(Level::Info, &text, &numbers);
    }
}

/// Removes an unfinished bar, also after an error, so that the error message starts on a clean line.
impl Drop for Console {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Returns the number of completed tenths of the run.
fn tenth(step: u64, total: u64) -> u64 {
    step * 10 / total.max(1)
}

/// Formats the numbers of a step, the most important first.
fn fields(line: &StepLine) -> Vec<String> {
    let mut fields = vec![
        format!("train {:.1}%", 100.0 * line.train_accuracy),
        format!("reward {:.3}", line.reward),
        format!("entropy {:.3}", line.entropy),
        format!("{:.0} tokens", line.response_length),
        format!("loss {:+.4}", line.loss),
    ];
    fields.extend(line.groups_with_signal.map(|groups| format!("signal in {groups} of {} groups", line.groups)));
    fields
}

#[cfg(test)]
mod tests;
