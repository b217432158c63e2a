//! Reads everything that a run's folder records, and collects what is missing instead of failing: a run may be in progress, may have been
//! killed while it wrote a line, or may come from an older version. Scores and metrics are read at once; responses on request, because
//! they are large.

mod metric_columns;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::checkpoint::lock::{FolderLock, Holder};
use crate::eval::store::read_conditions;
use crate::eval::{Answer, Conditions, Score};
use crate::input::{self, Line, Lines, TEXT_BYTES};
use crate::train::history::{Evaluation, History, Summary};
use crate::train::invocation::Invocation;
use crate::train::{RunFolder, RunSettings};

pub use metric_columns::MetricColumns;

/// The records of one run.
#[derive(Debug)]
pub struct RunRecord {
    /// The run's folder.
    pub folder: RunFolder,
    /// A short name: the last component of the folder's path.
    pub name: String,
    /// The settings.
    pub settings: RunSettings,
    /// The text of `config.toml`.
    pub config_text: String,
    /// How the run was started; `None` if `launch.json` is missing.
    pub invocation: Option<Invocation>,
    /// The numbers of `metrics.jsonl` by step.
    pub metrics: MetricColumns,
    /// The evaluations in order of steps.
    pub evaluations: Vec<EvaluationScores>,
    /// `summary.json`; `None` if it is missing.
    pub summary: Option<Summary>,
    /// Whether the run is in progress, finished or stopped.
    pub state: RunState,
    /// What is missing or cannot be read, one sentence each.
    pub missing: Vec<String>,
}

/// The scores of one evaluation.
#[derive(Clone, Debug)]
pub struct EvaluationScores {
    /// The step that was evaluated; 0 is the base model.
    pub step: u64,
    /// The score of each pass, by the pass's name.
    pub scores: BTreeMap<String, Score>,
}

/// How far a run got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// A process is writing to the folder.
    Running {
        /// The process; `None` if the lock does not name it.
        holder: Option<Holder>,
    },
    /// All steps are done.
    Finished,
    /// No process is writing to the folder, and steps are missing.
    Stopped,
}

impl RunRecord {
    /// Reads a run's folder.
    ///
    /// # Errors
    /// If the folder is not a run folder, or its settings cannot be read. Everything else that is missing or corrupt is listed in
    /// [`missing`](Self::missing).
    pub fn read(root: &Path) -> Result<Self> {
        let (folder, settings) = RunFolder::open(root)?;
        let mut missing = Vec::new();
        let config_text = input::read_text(&folder.config(), TEXT_BYTES)?;
        let invocation = or_missing(&mut missing, Invocation::read(root)).flatten();
        let metrics = MetricColumns::read(&folder.metrics(), &mut missing);
        let evaluations = read_evaluations(&folder, &mut missing);
        let summary = or_missing(&mut missing, read_summary(&folder)).flatten();
        missing.extend(summary.iter().flat_map(|summary| summary.missing.clone()));
        let done = metrics.last_step().unwrap_or(0) >= settings.train.steps;
        let state = match FolderLock::holder(root) {
            Some(in_use) => RunState::Running { holder: in_use.holder },
            None if done => RunState::Finished,
            None => RunState::Stopped,
        };
        let name = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        let name = name.file_name().map_or_else(|| root.display().to_string(), |name| name.to_string_lossy().into_owned());
        Ok(Self { folder, name, settings, config_text, invocation, metrics, evaluations, summary, state, missing })
    }

    /// Returns the results as a [`History`] without the scores of single problems, which would need all responses: train accuracy,
    /// evaluations, saturation and the best step.
    pub fn history(&self) -> History {
        let evaluation = |one: &EvaluationScores| Evaluation { step: one.step, scores: one.scores.clone(), problems: BTreeMap::new() };
        History {
            train_accuracy: self.train_accuracy(),
            evaluations: self.evaluations.iter().map(evaluation).collect(),
            ..History::new(&self.settings.eval)
        }
    }

    /// Returns `(step, share of correct training responses)`, in order of steps.
    pub fn train_accuracy(&self) -> Vec<(u32, f32)> {
        let accuracy = self.metrics.column("train/accuracy");
        let steps = self.metrics.steps.iter().zip(accuracy.unwrap_or_default());
        steps.map(|(step, accuracy)| (*step as u32, *accuracy as f32)).collect()
    }

    /// Returns the first step at which the train accuracy is saturated; `None` if it is not.
    pub fn saturation_step(&self) -> Option<u64> {
        self.history().saturation_step().map(u64::from)
    }

    /// Returns the evaluation of a step.
    pub fn evaluation(&self, step: u64) -> Option<&EvaluationScores> {
        self.evaluations.iter().find(|evaluation| evaluation.step == step)
    }

    /// Returns the evaluation of the base model, the first one at or after saturation, and the last one, without repetitions.
    pub fn milestones(&self) -> Vec<&EvaluationScores> {
        let base = self.evaluations.first().filter(|first| first.step == 0);
        let saturated = self.saturation_step().and_then(|step| self.evaluations.iter().find(|evaluation| evaluation.step >= step));
        let mut found: Vec<&EvaluationScores> = base.into_iter().chain(saturated).chain(self.evaluations.last()).collect();
        found.dedup_by_key(|evaluation| evaluation.step);
        found
    }

    /// Returns the names of all passes, in order.
    pub fn passes(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.evaluations.iter().flat_map(|one| one.scores.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Reads the graded responses of a pass, in order of the problems.
    ///
    /// # Errors
    /// If the file is missing, cannot be read, or has a line that is not a graded response (an incomplete last line is dropped).
    pub fn answers(&self, step: u64, pass: &str) -> Result<Vec<Answer>> {
        crate::metrics::jsonl::read(&self.folder.eval(step).join(format!("{pass}.jsonl")))
    }

    /// Reads the measurement conditions of an evaluation, by pass; empty if they were not recorded.
    ///
    /// # Errors
    /// If the file cannot be read or is corrupt.
    pub fn conditions(&self, step: u64) -> Result<BTreeMap<String, Conditions>> {
        Ok(read_conditions(&self.folder.eval(step))?.unwrap_or_default())
    }

    /// Returns the steps with recorded rollouts, in order.
    pub fn rollout_steps(&self) -> Vec<u64> {
        let step = |path: PathBuf| path.file_name()?.to_str()?.split('.').next()?.parse().ok();
        let mut steps: Vec<u64> = self.folder.rollout_files().unwrap_or_default().into_iter().filter_map(step).collect();
        steps.sort_unstable();
        steps
    }

    /// Reads the rollouts of a step, in order of groups and samples.
    ///
    /// # Errors
    /// If the file is missing, cannot be read, or has a line that is not a rollout.
    pub fn rollouts(&self, step: u64) -> Result<Vec<RolloutRecord>> {
        let path = self.folder.rollouts(step);
        let parse = |line: Result<Line>| {
            let line = line?;
            serde_json::from_str(&line.text).with_context(|| format!("{} is corrupt", line.location))
        };
        Lines::open(&path)?.map(parse).collect()
    }
}

/// One training response, as `rollouts/STEP.jsonl.gz` records it, without tokens and log-probabilities.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub struct RolloutRecord {
    /// The index of its group in the step.
    pub group: usize,
    /// The index in its group.
    pub sample: usize,
    /// The id of the training example; empty in old records.
    pub example: String,
    /// The response's text.
    pub text: String,
    /// The reward.
    pub reward: f64,
    /// True if the grader accepted the answer.
    pub correct: bool,
    /// True if the response has a complete `\boxed{}`.
    pub boxed: bool,
    /// `stop`, or `length` for a response that was cut off.
    pub finish: String,
}

fn read_evaluations(folder: &RunFolder, missing: &mut Vec<String>) -> Vec<EvaluationScores> {
    let steps = or_missing(missing, folder.evaluated_steps()).unwrap_or_default();
    if steps.is_empty() {
        missing.push("The run has no evaluation yet.".to_owned());
    }
    let mut found = Vec::with_capacity(steps.len());
    for step in steps {
        let path = folder.eval(step).join("scores.json");
        let scores = input::read_text(&path, TEXT_BYTES)
            .and_then(|text| serde_json::from_str(&text).with_context(|| format!("{} is corrupt", path.display())));
        found.extend(or_missing(missing, scores).map(|scores| EvaluationScores { step, scores }));
    }
    found
}

fn read_summary(folder: &RunFolder) -> Result<Option<Summary>> {
    let path = folder.summary();
    let Some(bytes) = input::read_if_exists(&path, TEXT_BYTES)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).with_context(|| format!("{} is corrupt", path.display()))
}

/// Returns the value, or notes the error as missing.
fn or_missing<T>(missing: &mut Vec<String>, result: Result<T>) -> Option<T> {
    result.map_err(|error| missing.push(format!("{error:#}"))).ok()
}

#[cfg(test)]
mod tests;
