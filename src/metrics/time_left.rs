//! Estimates the time left in a run. Steps, evaluations and checkpoints differ in length and in number, so each kind has its own average.
//! Plain arithmetic on durations that the caller measures.

use std::collections::VecDeque;

/// The number of recent steps that the estimate is based on.
const STEPS: usize = 15;
/// The number of recent evaluations, and of recent checkpoints.
const OTHERS: usize = 3;

/// When a run evaluates and saves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// The number of all steps.
    pub steps: u64,
    /// An evaluation follows every such number of steps, and the last step; 0 for the last step only, `None` for no evaluation.
    pub evaluation_every: Option<u64>,
    /// A checkpoint follows every such number of steps, and the last step; 0 for the last step only.
    pub checkpoint_every: u64,
}

/// The durations so far, and the work that remains.
#[derive(Clone, Debug, Default)]
pub struct TimeLeft {
    schedule: Schedule,
    /// The last finished step.
    step: u64,
    /// The last steps with a finished evaluation and a finished checkpoint.
    evaluated: u64,
    saved: u64,
    step_s: Recent<STEPS>,
    evaluation_s: Recent<OTHERS>,
    checkpoint_s: Recent<OTHERS>,
}

/// The last `N` durations in seconds.
#[derive(Clone, Debug, Default)]
struct Recent<const N: usize>(VecDeque<f64>);

impl TimeLeft {
    /// Starts after a step; 0 for a new run.
    pub fn new(schedule: Schedule, step: u64) -> Self {
        Self { schedule, step, evaluated: step, saved: step, ..Self::default() }
    }

    /// Records a finished step and its duration, without the evaluation and the checkpoint that follow.
    pub fn add_step(&mut self, step: u64, seconds: f64) {
        self.step = step;
        self.step_s.push(seconds);
    }

    /// Records the evaluation of the last finished step. The base model's is the first estimate of later ones.
    pub fn add_evaluation(&mut self, seconds: f64) {
        self.evaluated = self.step;
        self.evaluation_s.push(seconds);
    }

    /// Sets the first estimate of an evaluation, as known from the records of a resumed run.
    pub fn expect_evaluation(&mut self, seconds: f64) {
        self.evaluation_s.push(seconds);
    }

    /// Records the checkpoint of the last finished step.
    pub fn add_checkpoint(&mut self, seconds: f64) {
        self.saved = self.step;
        self.checkpoint_s.push(seconds);
    }

    /// Returns the number of seconds left; `None` before the first step and after the last one.
    pub fn seconds(&self) -> Option<f64> {
        let Schedule { steps, evaluation_every, checkpoint_every } = self.schedule;
        let evaluations = evaluation_every.map_or(0, |every| due(self.evaluated, steps, every));
        let checkpoints = due(self.saved, steps, checkpoint_every);
        let left = steps.saturating_sub(self.step);
        if left + evaluations + checkpoints == 0 {
            return None;
        }
        let of = |count: u64, each: Option<f64>| count as f64 * each.unwrap_or(0.0);
        Some(
            self.step_s.median().map(|each| left as f64 * each)?
                + of(evaluations, self.evaluation_s.median())
                + of(checkpoints, self.checkpoint_s.median()),
        )
    }
}

impl<const N: usize> Recent<N> {
    fn push(&mut self, seconds: f64) {
        if self.0.len() == N {
            self.0.pop_front();
        }
        self.0.push_back(seconds);
    }

    /// Returns the median: one slow step, such as the first one, does not change it much.
    fn median(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.0.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            count if count % 2 == 1 => Some(sorted[middle]),
            _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        }
    }
}

/// Returns the number of steps after `done`, up to `steps`, that are a multiple of `every` or the last.
fn due(done: u64, steps: u64, every: u64) -> u64 {
    if done >= steps {
        return 0;
    }
    let multiples = |step: u64| step.checked_div(every).unwrap_or(0);
    let ends_with_multiple = every > 0 && steps.is_multiple_of(every);
    multiples(steps) - multiples(done) + u64::from(!ends_with_multiple)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_counts_multiples_and_the_last_step() {
        let check =
            |done: u64, steps: u64, every: u64, expected: u64| assert_eq!(due(done, steps, every), expected, "{done} {steps} {every}");
        check(0, 300, 15, 20);
        check(15, 300, 15, 19);
        check(16, 300, 15, 19);
        check(300, 300, 15, 0);
        check(0, 20, 15, 2);
        check(0, 20, 0, 1);
        check(4, 20, 30, 1);
    }

    #[test]
    fn time_left_counts_steps_evaluations_and_checkpoints_apart() {
        let schedule = Schedule { steps: 100, evaluation_every: Some(25), checkpoint_every: 50 };
        let mut time = TimeLeft::new(schedule, 0);
        assert_eq!(time.seconds(), None);
        time.add_evaluation(60.0);
        assert_eq!(time.seconds(), None, "the length of a step is unknown");
        time.add_step(1, 5.0);
        assert_eq!(time.seconds(), Some(99.0 * 5.0 + 4.0 * 60.0));
        for step in 2..=25 {
            time.add_step(step, 2.0);
        }
        assert_eq!(time.seconds(), Some(75.0 * 2.0 + 4.0 * 60.0), "the slow first step is forgotten");
        time.add_evaluation(40.0);
        assert_eq!(time.seconds(), Some(75.0 * 2.0 + 3.0 * 50.0), "an evaluation does not change the length of a step");
        (26..=50).for_each(|step| time.add_step(step, 2.0));
        time.add_checkpoint(8.0);
        assert_eq!(time.seconds(), Some(50.0 * 2.0 + 3.0 * 50.0 + 8.0), "the evaluation of step 50 is still due");
        time.add_evaluation(50.0);
        (51..=100).for_each(|step| time.add_step(step, 2.0));
        time.add_evaluation(50.0);
        assert_eq!(time.seconds(), Some(8.0), "the last checkpoint");
    }

    #[test]
    fn time_left_of_a_resumed_run_starts_at_its_step() {
        let mut time = TimeLeft::new(Schedule { steps: 20, evaluation_every: Some(0), checkpoint_every: 0 }, 10);
        time.expect_evaluation(7.0);
        time.add_step(11, 3.0);
        assert_eq!(time.seconds(), Some(27.0 + 7.0));
        (12..=20).for_each(|step| time.add_step(step, 3.0));
        time.add_evaluation(7.0);
        time.add_checkpoint(1.0);
        assert_eq!(time.seconds(), None);
    }
}
