//! How far a study is while its runs go on: their steps, read from the last lines of their metrics, and the time left. Estimates the time
//! from the steps of all runs, so that it knows nothing about what a step does.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::metrics::{jsonl, with_current_names};

/// The state of a study.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StudyStatus {
    /// The number of finished runs, also those of earlier processes.
    pub finished: usize,
    /// The number of runs that failed in this process.
    pub failed: usize,
    /// The number of all runs.
    pub count: usize,
    /// The runs in progress.
    pub running: Vec<RunStatus>,
    /// True if a run waits for another process that is working on it.
    pub is_waiting: bool,
    /// The time left; `None` before the first step.
    pub left: Option<Duration>,
}

/// The state of a run in progress.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStatus {
    /// Its arm and seed.
    pub name: String,
    /// The last finished step; that of the checkpoint if it was resumed.
    pub step: u64,
    /// The number of all steps.
    pub steps: u64,
    /// The share of correct responses in the last step.
    pub train_accuracy: Option<f64>,
    /// The time since this process started it.
    pub elapsed: Duration,
}

/// The steps of a run in progress, and the time that they took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RunPace {
    from: u64,
    /// The last step of an earlier process, if the run repeats it. Its line is still in the file.
    stale: Option<u64>,
    /// The last finished step.
    pub step: u64,
    /// The time from the start of the process to this step.
    elapsed: Duration,
    /// The share of correct responses in this step.
    pub train_accuracy: Option<f64>,
}

/// The steps of a study's runs in this process, and the time that they took, added over runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pace {
    steps: u64,
    seconds: f64,
}

impl RunPace {
    /// Starts after step `from`; 0 for a new run. `recorded` is the last step in its metrics before its process starts.
    pub(super) fn new(from: u64, recorded: Option<u64>) -> Self {
        Self { from, step: from, stale: recorded.filter(|step| *step > from), ..Self::default() }
    }

    /// Reads the last line of a run's metrics. `elapsed` is the time since the start of the process.
    pub(super) fn observe(&mut self, metrics: &Path, elapsed: Duration) {
        // A run that has not recorded a step yet has no such file.
        let Some(line) = last_line(metrics) else { return };
        let step = step_of(&line);
        if self.stale == Some(step) {
            return;
        }
        self.stale = None;
        if step > self.step {
            *self = Self { step, elapsed, train_accuracy: line.get("train/accuracy").and_then(Value::as_f64), ..*self };
        }
    }
}

/// Returns the last step in a run's metrics; `None` without such a file.
pub(super) fn last_step(metrics: &Path) -> Option<u64> {
    last_line(metrics).map(|line| step_of(&line))
}

fn last_line(metrics: &Path) -> Option<Map<String, Value>> {
    jsonl::last(metrics).map(with_current_names)
}

fn step_of(line: &Map<String, Value>) -> u64 {
    line.get("step").and_then(Value::as_u64).unwrap_or(0)
}

impl Pace {
    /// Adds the steps of a run.
    pub(super) fn add(&mut self, run: &RunPace) {
        self.steps += run.step - run.from;
        self.seconds += run.elapsed.as_secs_f64();
    }

    /// Returns the time until all runs have ended, of which at most `jobs` run at once. `running` and `pending` are the steps that remain in
    /// each run. A pending run starts when the first of the others ends. `None` before the first step.
    pub(super) fn left(self, running: &[u64], pending: &[u64], jobs: usize) -> Option<Duration> {
        if self.steps == 0 {
            return None;
        }
        let mut ends = running.to_vec();
        ends.resize(jobs.min(running.len() + pending.len()).max(running.len()), 0);
        for steps in pending {
            let first = ends.iter_mut().min()?;
            *first += steps;
        }
        let steps = ends.into_iter().max()?;
        Some(Duration::from_secs_f64(steps as f64 * self.seconds / self.steps as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_adds_the_steps_of_the_job_that_ends_last() {
        let pace = |steps: u64, seconds: f64| Pace { steps, seconds };
        let check = |pace: Pace, running: &[u64], pending: &[u64], jobs: usize, expected: Option<u64>| {
            assert_eq!(pace.left(running, pending, jobs), expected.map(Duration::from_secs), "{running:?} {pending:?} {jobs}");
        };
        check(pace(0, 30.0), &[100], &[], 1, None);
        check(pace(50, 100.0), &[100], &[], 1, Some(200));
        check(pace(50, 100.0), &[100], &[300, 300], 1, Some(1400));
        check(pace(50, 100.0), &[100, 20], &[300], 2, Some(640));
        check(pace(50, 100.0), &[100, 20], &[300, 300], 4, Some(600));
        check(pace(50, 100.0), &[], &[300, 300], 1, Some(1200));
        check(pace(50, 100.0), &[], &[], 3, None);
    }

    #[test]
    fn observe_reads_the_last_step_and_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = folder.path().join("metrics.jsonl");
        let seconds = Duration::from_secs;
        let mut run = RunPace::new(4, None);
        run.observe(&metrics, seconds(3));
        assert_eq!(run, RunPace::new(4, None));
        let lines = "{\"step\":5,\"train/accuracy\":0.25}\n{\"step\":6,\"train/accuracy\":0.5}\n{\"step\":7,\"tra";
        std::fs::write(&metrics, lines).unwrap();
        run.observe(&metrics, seconds(10));
        run.observe(&metrics, seconds(90));
        assert_eq!(run, RunPace { from: 4, step: 6, elapsed: seconds(10), train_accuracy: Some(0.5), stale: None });
        let mut pace = Pace::default();
        pace.add(&run);
        pace.add(&RunPace::new(0, None));
        assert_eq!(pace, Pace { steps: 2, seconds: 10.0 });
    }

    #[test]
    fn observe_ignores_steps_of_an_earlier_process() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = folder.path().join("metrics.jsonl");
        let write = |steps: &[u64]| {
            std::fs::write(&metrics, steps.iter().map(|step| format!("{{\"step\":{step}}}\n")).collect::<String>()).unwrap()
        };
        let mut run = RunPace::new(4, Some(6));
        let mut check = |steps: &[u64], expected: u64| {
            write(steps);
            run.observe(&metrics, Duration::from_secs(1));
            assert_eq!(run.step, expected, "{steps:?}");
        };
        check(&[4, 5, 6], 4);
        check(&[4], 4);
        check(&[4, 5], 5);
        check(&[4, 5, 6], 6);
    }
}
