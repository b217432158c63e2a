//! What a person sees while a run goes on, all of it on stderr: a bar with the latest numbers and the time left in a terminal, and lines every
//! tenth of the run where there is none (a log file, a job). Results are not this module's: they go to stdout.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::phases::PhaseTimes;
use crate::output::{Stderr, shown};

/// The numbers of a step that are worth watching.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepLine {
    /// Counted from 1; equal to the total at the end.
    pub step: u32,
    /// Share of the step's responses that are right, 0 to 1.
    pub train_accuracy: f32,
    /// Mean reward of the step's responses.
    pub reward: f32,
    /// Mean entropy of the policy, nats a token.
    pub entropy: f32,
    /// Mean response length in tokens.
    pub response_length: f32,
    /// The loss that was minimised.
    pub loss: f32,
    /// Groups of the step.
    pub groups: usize,
    /// Those among them whose rewards differ: the others teach the policy loss nothing. None where rewards are not compared within groups.
    pub groups_with_signal: Option<usize>,
    /// Where the time went since the display began.
    pub times: PhaseTimes,
}

/// The display of one run. Shared by reference; any thread may note.
pub struct Console {
    total_steps: u32,
    /// Whether steps say where their time went.
    tells_times: bool,
    screen: Screen,
    clock: Mutex<Clock>,
}

enum Screen {
    Bar(ProgressBar),
    Lines(Mutex<Box<dyn Write + Send>>),
}

impl Console {
    /// A display for the steps after `start_step` (0 for a new run) up to `total_steps`: a bar when stderr is a terminal, lines otherwise. Each says
    /// where the time went since the one before it if `tells_times`.
    pub fn new(total_steps: u32, start_step: u32, tells_times: bool) -> Self {
        let target = ProgressDrawTarget::stderr();
        if target.is_hidden() {
            return Self::plain(total_steps, start_step, tells_times, Box::new(Stderr));
        }
        let bar = ProgressBar::with_draw_target(Some(u64::from(total_steps)), target).with_position(u64::from(start_step));
        let template = "{bar:24.cyan/black.bright} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸━"));
        }
        bar.set_message(format!("{start_step}/{total_steps}"));
        Self::on(total_steps, start_step, tells_times, Screen::Bar(bar))
    }

    /// A display of plain lines on any writer.
    pub fn plain(total_steps: u32, start_step: u32, tells_times: bool, sink: Box<dyn Write + Send>) -> Self {
        Self::on(total_steps, start_step, tells_times, Screen::Lines(Mutex::new(sink)))
    }

    /// Shows a finished step. Without a bar, every tenth of the run and the last step give a line.
    pub fn step(&self, line: &StepLine) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let left = clock.left_after(line.step, self.total_steps, Instant::now());
        let tenth_begins = tenth(line.step, self.total_steps) > tenth(clock.shown, self.total_steps);
        clock.shown = line.step;
        let is_shown = tenth_begins || matches!(self.screen, Screen::Bar(_));
        let mut text = format!("{}/{}  {}", line.step, self.total_steps, numbers(line));
        if let Some(left) = left {
            text += &format!("  {} left", short(left));
        }
        if self.tells_times && is_shown {
            text += &format!("  {}", line.times.since(&clock.times).words());
            clock.times = line.times;
        }
        drop(clock);
        match &self.screen {
            Screen::Bar(bar) => {
                // The count is part of the message, or the bar would for a moment show the one with the other's step.
                bar.set_position(u64::from(line.step));
                bar.set_message(text);
            }
            Screen::Lines(_) if is_shown => self.note(&format!("step {text}")),
            Screen::Lines(_) => {}
        }
    }

    /// Says something that stays: an evaluation, a checkpoint, an event. In a terminal it is printed above the bar.
    pub fn note(&self, text: &str) {
        let text = &*shown(text);
        match &self.screen {
            Screen::Bar(bar) => bar.println(text),
            Screen::Lines(sink) => {
                let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
                // A closed stderr must not end a run that is recorded elsewhere.
                let _ = writeln!(sink, "{text}").and_then(|()| sink.flush());
            }
        }
    }

    /// Takes the bar away, so that the last table stands alone.
    pub fn finish(&self) {
        if let Screen::Bar(bar) = &self.screen {
            bar.finish_and_clear();
        }
    }

    /// Runs `print` with the bar out of the way, for those who write to the terminal themselves (a log subscriber).
    pub fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        match &self.screen {
            Screen::Bar(bar) => bar.suspend(print),
            Screen::Lines(_) => print(),
        }
    }

    fn on(total_steps: u32, start_step: u32, tells_times: bool, screen: Screen) -> Self {
        let clock = Mutex::new(Clock { first: None, shown: start_step, times: PhaseTimes::default() });
        Self { total_steps, tells_times, screen, clock }
    }
}

/// An unfinished bar is taken away on an error too: its message follows on a clean line.
impl Drop for Console {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Knows how fast the run goes. It starts at the first finished step, because what comes before (the base model's evaluation) does not come again;
/// evaluations between steps do, and count.
struct Clock {
    first: Option<(u32, Instant)>,
    shown: u32,
    /// The times of the last line that said where they went.
    times: PhaseTimes,
}

impl Clock {
    fn left_after(&mut self, step: u32, total: u32, now: Instant) -> Option<Duration> {
        let (first_step, first_time) = *self.first.get_or_insert((step, now));
        let done = step.checked_sub(first_step).filter(|&done| done > 0)?;
        let remaining = total.checked_sub(step).filter(|&steps| steps > 0)?;
        let each = now.saturating_duration_since(first_time).div_f64(f64::from(done));
        Some(each * remaining)
    }
}

/// Which tenth of the run a step completes.
fn tenth(step: u32, total: u32) -> u64 {
    u64::from(step) * 10 / u64::from(total.max(1))
}

/// `45s`, `1m 40s`, `2h 05m`: to the second as long as seconds matter.
fn short(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m {s:02}s"),
        (h, m, _) => format!("{h}h {m:02}m"),
    }
}

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
