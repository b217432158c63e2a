//! The records that a checkpoint depends on, outside its own folder: a run that goes on from it computes its headline from them, so they must
//! be all there. `state/records.json` says which they are; for a checkpoint of an older version the metrics themselves say it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::{manifest, write_file};
use crate::train::folder::RunFolder;
use crate::train::history::Evaluation;

const FILE: &str = "records.json";

/// What a checkpoint depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// The first lines of `metrics.jsonl`; none before the first step.
    pub metrics: Option<Lines>,
    /// Steps whose evaluation is recorded.
    pub evaluations: Vec<u64>,
    /// What was missing already when the run was made to go on without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// The first lines of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// The step of the last of them.
    pub through: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The hash of those.
    pub blake3: String,
}

impl Records {
    /// Those of a run as they are now: all of `metrics.jsonl`, and these evaluations.
    pub fn of(folder: &RunFolder, through: u64, evaluations: Vec<u64>, missing: Vec<String>) -> Result<Self> {
        let path = folder.metrics();
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let metrics = (through > 0).then(|| Lines { through, bytes: text.len() as u64, blake3: hash(&text) });
        Ok(Self { metrics, evaluations, missing })
    }

    /// Writes them into a state's folder.
    pub fn save(&self, state: &Path) -> Result<()> {
        write_file(&state.join(FILE), serde_json::to_string_pretty(self)?.as_bytes())
    }

    /// Reads what `save` wrote; none where an older version wrote the state.
    pub fn read(state: &Path) -> Result<Option<Self>> {
        let path = state.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).map(Some).with_context(|| format!("{} is broken", path.display()))
    }
}

/// The records of a run as they are found.
pub struct Found<'a> {
    folder: &'a RunFolder,
    metrics: Metrics,
    /// What is wrong with an evaluation, by step, as far as anyone has asked.
    evaluations: BTreeMap<u64, Option<String>>,
}

/// What is missing of the records that a checkpoint depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// What is wrong with the metrics.
    pub metrics: Option<String>,
    /// What is wrong with evaluations, by step.
    pub evaluations: BTreeMap<u64, String>,
    /// What the checkpoint itself did without.
    pub accepted: Vec<String>,
}

impl Gaps {
    /// Each gap in words.
    pub fn words(&self) -> Vec<String> {
        self.metrics.iter().chain(self.evaluations.values()).cloned().collect()
    }
}

impl<'a> Found<'a> {
    /// Looks at a run's metrics.
    pub fn open(folder: &'a RunFolder) -> Result<Self> {
        Ok(Self { folder, metrics: Metrics::read(folder)?, evaluations: BTreeMap::new() })
    }

    /// Steps that `metrics.jsonl` has from the first on, without a gap.
    pub fn steps(&self) -> u64 {
        self.metrics.ends.len() as u64
    }

    /// What a checkpoint depends on and is not there.
    pub fn gaps(&mut self, step: u64) -> Result<Gaps> {
        let recorded = Records::read(&self.folder.checkpoint(step).join("state"))?;
        let (metrics, evaluations) = match &recorded {
            Some(records) => (records.metrics.as_ref().and_then(|lines| self.metrics.differ(lines)), records.evaluations.clone()),
            None => (self.metrics.lack(step), self.metrics.evaluations_until(step)),
        };
        let mut gaps = Gaps { metrics, accepted: recorded.map(|records| records.missing).unwrap_or_default(), ..Gaps::default() };
        for evaluated in evaluations {
            gaps.evaluations.extend(self.evaluation(evaluated)?.map(|fault| (evaluated, fault)));
        }
        Ok(gaps)
    }

    fn evaluation(&mut self, step: u64) -> Result<Option<String>> {
        if let Some(known) = self.evaluations.get(&step) {
            return Ok(known.clone());
        }
        let fault = evaluation_fault(&self.folder.eval(step), step)?;
        self.evaluations.insert(step, fault.clone());
        Ok(fault)
    }
}

/// What is wrong with an evaluation's folder: by its manifest, or, where an older version wrote it, by its number of lines.
fn evaluation_fault(folder: &Path, step: u64) -> Result<Option<String>> {
    if !folder.exists() {
        return Ok(Some(format!("{} is missing", folder.display())));
    }
    if let Some(fault) = manifest::fault(folder)? {
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

/// `metrics.jsonl` as far as it has steps 1, 2, 3, ... once and in order.
struct Metrics {
    place: String,
    text: Vec<u8>,
    /// Where the line of each step ends, from step 1 on.
    ends: Vec<usize>,
    /// Steps whose line has an evaluation's figures.
    evaluated: Vec<u64>,
    /// Why no more steps were read, where the file does not simply end.
    stopped: Option<String>,
}

impl Metrics {
    fn read(folder: &RunFolder) -> Result<Self> {
        let path = folder.metrics();
        let mut metrics =
            Self { place: path.display().to_string(), text: Vec::new(), ends: Vec::new(), evaluated: Vec::new(), stopped: None };
        if !path.exists() {
            metrics.stopped = Some(format!("{} is missing", metrics.place));
            return Ok(metrics);
        }
        metrics.text = std::fs::read(&path).with_context(|| format!("cannot read {}", metrics.place))?;
        let mut end = 0;
        for line in metrics.text.split_inclusive(|byte| *byte == b'\n') {
            end += line.len();
            let step = metrics.ends.len() as u64 + 1;
            let found = serde_json::from_slice::<Value>(line).ok().filter(|_| line.ends_with(b"\n"));
            match found.as_ref().map(|line| line.get("step").and_then(Value::as_u64)) {
                Some(Some(found)) if found == step => metrics.ends.push(end),
                Some(found) => {
                    let found = found.map_or_else(|| "no step".to_owned(), |step| format!("step {step}"));
                    metrics.stopped = Some(format!("{}, line {step}, has {found}, expected step {step}", metrics.place));
                    break;
                }
                None => {
                    metrics.stopped = Some(format!("{}, line {step}, is broken", metrics.place));
                    break;
                }
            }
            let has_scores = |line: Value| line.as_object().is_some_and(|line| line.keys().any(|key| key.starts_with("val/")));
            metrics.evaluated.extend(found.is_some_and(has_scores).then_some(step));
        }
        Ok(metrics)
    }

    /// What is wrong where steps 1 to `step` are expected.
    fn lack(&self, step: u64) -> Option<String> {
        let has = self.ends.len() as u64;
        let ends = || format!("{} ends after step {has}, and {step} were recorded", self.place);
        (has < step).then(|| self.stopped.clone().unwrap_or_else(ends))
    }

    /// What is wrong where these lines are expected.
    fn differ(&self, lines: &Lines) -> Option<String> {
        let found = hash(&self.text[..self.text.len().min(lines.bytes as usize)]);
        let changed = || {
            let (place, through, expected) = (&self.place, lines.through, &lines.blake3);
            format!("{place} has changed in the lines up to step {through}: their blake3 is {found}, expected {expected}")
        };
        (found != lines.blake3).then(|| self.lack(lines.through).unwrap_or_else(changed))
    }

    /// Steps up to `step` that were evaluated: by their lines, and the base where any was.
    fn evaluations_until(&self, step: u64) -> Vec<u64> {
        let steps = self.evaluated.iter().copied().filter(|evaluated| *evaluated <= step);
        let base = (!self.evaluated.is_empty()).then_some(0);
        base.into_iter().chain(steps).collect()
    }
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
