//! The records outside its own folder that a checkpoint depends on: metrics and evaluations. A resumed run computes its results from them,
//! so all must be intact. `state/records.json` lists them; without this file, as in checkpoints of older versions, the metrics do.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::{manifest, write_file};
use crate::train::folder::RunFolder;
use crate::train::history::Evaluation;

const FILE: &str = "records.json";

/// The records that a checkpoint depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// The first lines of `metrics.jsonl`; `None` before the first step.
    pub metrics: Option<Lines>,
    /// The steps with a recorded evaluation; 0 is the base model.
    pub evaluations: Vec<u64>,
    /// Descriptions of records that were already missing when the run was resumed without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// The first lines of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// The step of the last line.
    pub through: u64,
    /// The size of the lines in bytes.
    pub bytes: u64,
    /// The blake3 hash of the lines, in hexadecimal.
    pub blake3: String,
}

impl Records {
    /// Describes the current records of a run: all of `metrics.jsonl`, whose last line is of step `through`, and the given evaluations.
    ///
    /// # Errors
    /// If `metrics.jsonl` cannot be read.
    pub fn of(folder: &RunFolder, through: u64, evaluations: Vec<u64>, missing: Vec<String>) -> Result<Self> {
        let path = folder.metrics();
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let metrics = (through > 0).then(|| Lines { through, bytes: text.len() as u64, blake3: hash(&text) });
        Ok(Self { metrics, evaluations, missing })
    }

    /// Writes `records.json` to a checkpoint state.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, state: &Path) -> Result<()> {
        write_file(&state.join(FILE), serde_json::to_string_pretty(self)?.as_bytes())
    }

    /// Reads `records.json` from a checkpoint state; `None` if an older version wrote the state.
    ///
    /// # Errors
    /// If the file cannot be read or parsed.
    pub fn read(state: &Path) -> Result<Option<Self>> {
        let path = state.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).map(Some).with_context(|| format!("{} is corrupt", path.display()))
    }
}

/// The records in a run folder. Checks each evaluation at most once.
pub struct RecordIndex<'a> {
    folder: &'a RunFolder,
    metrics: Metrics,
    /// The evaluations that were already checked, by step, each with its fault; `None` if it is intact.
    evaluations: BTreeMap<u64, Option<String>>,
}

/// The missing or corrupt records that a checkpoint depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissingRecords {
    /// The fault of the metrics; `None` if they are intact.
    pub metrics: Option<String>,
    /// The faults of evaluations, by step.
    pub evaluations: BTreeMap<u64, String>,
    /// Descriptions of records that were already missing when the checkpoint was written.
    pub accepted: Vec<String>,
}

impl MissingRecords {
    /// Returns the faults of the metrics and of all evaluations.
    pub fn descriptions(&self) -> Vec<String> {
        self.metrics.iter().chain(self.evaluations.values()).cloned().collect()
    }
}

impl<'a> RecordIndex<'a> {
    /// Reads the metrics of a run.
    ///
    /// # Errors
    /// If `metrics.jsonl` exists but cannot be read.
    pub fn open(folder: &'a RunFolder) -> Result<Self> {
        Ok(Self { folder, metrics: Metrics::read(folder)?, evaluations: BTreeMap::new() })
    }

    /// Returns the number of consecutive steps, from step 1 on, in `metrics.jsonl`.
    pub fn steps(&self) -> u64 {
        self.metrics.ends.len() as u64
    }

    /// Returns the missing or corrupt records that the checkpoint of `step` depends on.
    ///
    /// # Errors
    /// If an existing file cannot be read.
    pub fn missing_records(&mut self, step: u64) -> Result<MissingRecords> {
        let recorded = Records::read(&self.folder.checkpoint(step).join("state"))?;
        let (metrics, evaluations) = match &recorded {
            Some(records) => (records.metrics.as_ref().and_then(|lines| self.metrics.changed_fault(lines)), records.evaluations.clone()),
            None => (self.metrics.missing_fault(step), self.metrics.evaluations_until(step)),
        };
        let mut missing_records =
            MissingRecords { metrics, accepted: recorded.map(|records| records.missing).unwrap_or_default(), ..MissingRecords::default() };
        for evaluated in evaluations {
            missing_records.evaluations.extend(self.evaluation_fault(evaluated)?.map(|fault| (evaluated, fault)));
        }
        Ok(missing_records)
    }

    fn evaluation_fault(&mut self, step: u64) -> Result<Option<String>> {
        if let Some(known) = self.evaluations.get(&step) {
            return Ok(known.clone());
        }
        let fault = folder_fault(&self.folder.eval(step), step)?;
        self.evaluations.insert(step, fault.clone());
        Ok(fault)
    }
}

/// Returns the fault of an evaluation's folder; `None` if it is intact. Checks the manifest, if any, and the number of responses.
fn folder_fault(folder: &Path, step: u64) -> Result<Option<String>> {
    if !folder.exists() {
        return Ok(Some(format!("{} is missing", folder.display())));
    }
    if let Some(fault) = manifest::first_corruption(folder)? {
        return Ok(Some(fault));
    }
    let evaluation = match Evaluation::read(folder, step) {
        Ok(evaluation) => evaluation,
        Err(error) => return Ok(Some(format!("{error:#}"))),
    };
    if evaluation.scores.is_empty() {
        return Ok(Some(format!("{} has no scores", folder.display())));
    }
    for (pass, score) in &evaluation.scores {
        let path = folder.join(format!("{pass}.jsonl"));
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let (found, expected) = (text.iter().filter(|byte| **byte == b'\n').count(), score.problems * score.samples);
        if found != expected {
            return Ok(Some(format!("{} has {found} lines, expected {expected}", path.display())));
        }
    }
    Ok(None)
}

/// `metrics.jsonl`, parsed up to the first line that is not of the next step (1, 2, 3, ...).
struct Metrics {
    path: String,
    /// The whole file.
    text: Vec<u8>,
    /// The byte offset at which the line of each step ends, from step 1 on.
    ends: Vec<usize>,
    /// The steps whose lines have evaluation scores.
    evaluated: Vec<u64>,
    /// Why reading stopped; `None` at the end of the file.
    stopped: Option<String>,
}

impl Metrics {
    fn read(folder: &RunFolder) -> Result<Self> {
        let path = folder.metrics();
        let mut metrics =
            Self { path: path.display().to_string(), text: Vec::new(), ends: Vec::new(), evaluated: Vec::new(), stopped: None };
        if !path.exists() {
            metrics.stopped = Some(format!("{} is missing", metrics.path));
            return Ok(metrics);
        }
        metrics.text = std::fs::read(&path).with_context(|| format!("cannot read {}", metrics.path))?;
        let mut end = 0;
        for line in metrics.text.split_inclusive(|byte| *byte == b'\n') {
            end += line.len();
            let step = metrics.ends.len() as u64 + 1;
            let found = serde_json::from_slice::<Value>(line).ok().filter(|_| line.ends_with(b"\n"));
            match found.as_ref().map(|line| line.get("step").and_then(Value::as_u64)) {
                Some(Some(found)) if found == step => metrics.ends.push(end),
                Some(found) => {
                    let found = found.map_or_else(|| "no step".to_owned(), |step| format!("step {step}"));
                    metrics.stopped = Some(format!("{}, line {step}, has {found}, expected step {step}", metrics.path));
                    break;
                }
                None => {
                    metrics.stopped = Some(format!("{}, line {step}, is not valid JSON", metrics.path));
                    break;
                }
            }
            let has_scores = |line: Value| line.as_object().is_some_and(|line| line.keys().any(|key| key.starts_with("val/")));
            metrics.evaluated.extend(found.is_some_and(has_scores).then_some(step));
        }
        Ok(metrics)
    }

    /// Returns the fault unless steps 1 to `step` are present.
    fn missing_fault(&self, step: u64) -> Option<String> {
        let has = self.ends.len() as u64;
        let ends = || format!("{} ends after step {has}, expected {step} steps", self.path);
        (has < step).then(|| self.stopped.clone().unwrap_or_else(ends))
    }

    /// Returns the fault unless the file starts with these lines.
    fn changed_fault(&self, lines: &Lines) -> Option<String> {
        let found = hash(&self.text[..self.text.len().min(lines.bytes as usize)]);
        let changed = || {
            let (path, through, expected) = (&self.path, lines.through, &lines.blake3);
            format!("the lines of {path} up to step {through} have changed: their blake3 is {found}, expected {expected}")
        };
        (found != lines.blake3).then(|| self.missing_fault(lines.through).unwrap_or_else(changed))
    }

    /// Returns the steps up to `step` whose lines have evaluation scores, and 0 for the base model if any step was evaluated.
    fn evaluations_until(&self, step: u64) -> Vec<u64> {
        let steps = self.evaluated.iter().copied().filter(|evaluated| *evaluated <= step);
        let base = (!self.evaluated.is_empty()).then_some(0);
        base.into_iter().chain(steps).collect()
    }
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
