//! Chooses where to resume a run: the newest checkpoint that is intact together with all records it depends on. Owns the choice and its
//! reasons. Deletes or renames only what a killed process left half done.

pub mod crash_recovery;
pub mod records;

use std::fmt::Write as _;

use anyhow::{Result, bail, ensure};

use super::folder::RunFolder;
use super::history::Summary;
use super::settings::RunSettings;
use crate::checkpoint::manifest;
use crate::checkpoint::state::{Progress, WEIGHTS};
use records::{MissingRecords, RecordIndex};

/// Where to resume a run, and why there.
#[derive(Clone, Debug)]
pub struct ResumePoint {
    /// The run folder.
    pub folder: RunFolder,
    /// The step to resume after; 0 is the initial model.
    pub from: u64,
    /// Newer checkpoints that are skipped, each with its fault; the newest first.
    pub skipped_checkpoints: Vec<(u64, String)>,
    /// Lost or corrupt evaluations that can be repeated, each with its fault.
    pub evaluations_to_repeat: Vec<(u64, String)>,
    /// Records that cannot be recovered; the run continues without them, and `summary.json` lists them.
    pub missing: Vec<String>,
    /// True if the user chose the step with `--at`.
    pub is_explicit: bool,
}

impl ResumePoint {
    /// Chooses the newest checkpoint without checking it, which is enough for a plan.
    ///
    /// # Errors
    /// If the folder `checkpoints` cannot be read.
    pub fn unchecked(folder: RunFolder) -> Result<Self> {
        let from = folder.resumable_steps()?.last().copied().unwrap_or(0);
        Ok(Self {
            folder,
            from,
            skipped_checkpoints: Vec::new(),
            evaluations_to_repeat: Vec::new(),
            missing: Vec::new(),
            is_explicit: false,
        })
    }

    /// Chooses the newest intact checkpoint, or step 0 if there is no checkpoint yet.
    ///
    /// # Errors
    /// If there are checkpoints but none is intact (the message lists each with its fault), if checkpoints were deleted, or if a file
    /// cannot be read.
    pub fn newest(folder: RunFolder, settings: &RunSettings) -> Result<Self> {
        let mut found = RecordIndex::open(&folder)?;
        let (mut unusable, mut chosen) = (Vec::new(), None);
        for step in folder.steps_with_state()?.into_iter().rev() {
            let fault = checkpoint_fault(&folder, settings, step)?;
            let missing_records = if fault.is_none() { found.missing_records(step)? } else { MissingRecords::default() };
            let (evaluations_to_repeat, lost) = repairable(&folder, &missing_records)?;
            if fault.is_none() && lost.is_empty() {
                chosen = Some((step, evaluations_to_repeat, missing_records.accepted));
                break;
            }
            unusable.push(UnusableCheckpoint {
                step,
                is_intact: fault.is_none(),
                what: fault.into_iter().chain(lost).collect::<Vec<_>>().join("; "),
            });
        }
        if let Some((from, evaluations_to_repeat, missing)) = chosen {
            // Only checkpoints older than `checkpoint.keep_last` lose their state.
            let is_stateless = |step: &u64| *step > from && unusable.iter().all(|one| one.step != *step);
            let stateless: Vec<u64> = folder.exported_steps()?.into_iter().filter(is_stateless).collect();
            let stateless =
                stateless.into_iter().map(|step| (step, format!("{} is missing", folder.checkpoint(step).join("state").display())));
            let mut skipped_checkpoints: Vec<(u64, String)> =
                unusable.iter().map(|one| (one.step, one.what.clone())).chain(stateless).collect();
            skipped_checkpoints.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
            return Ok(Self { skipped_checkpoints, folder, from, evaluations_to_repeat, missing, is_explicit: false });
        }
        ensure_usable(&folder, &unusable)?;
        let (every, steps) = (settings.checkpoint.every, found.steps());
        ensure!(
            folder.exported_steps()?.is_empty() && (every == 0 || steps <= every),
            "{root} has records of {steps} steps but no checkpoint with a state: it was deleted. Restore it from a backup, or start over from \
             the initial model with --resume {root} --at 0",
            root = folder.root().display()
        );
        Ok(Self {
            skipped_checkpoints: Vec::new(),
            folder,
            from: 0,
            evaluations_to_repeat: Vec::new(),
            missing: Vec::new(),
            is_explicit: false,
        })
    }

    /// Chooses the checkpoint of a given step; 0 is the initial model. Lost records do not prevent this.
    ///
    /// # Errors
    /// If that step has no state, or its own files are corrupt (the message lists the steps with a state), or if a file cannot be read.
    pub fn at(folder: RunFolder, settings: &RunSettings, at: u64) -> Result<Self> {
        let begin = Self {
            folder,
            from: at,
            skipped_checkpoints: Vec::new(),
            evaluations_to_repeat: Vec::new(),
            missing: Vec::new(),
            is_explicit: true,
        };
        if at == 0 {
            return Ok(begin);
        }
        let mut states = Vec::new();
        for step in begin.folder.steps_with_state()? {
            states.push((step, checkpoint_fault(&begin.folder, settings, step)?));
        }
        if !states.contains(&(at, None)) {
            let listed = states.iter().map(|(step, fault)| format!("{step} ({})", fault.as_deref().unwrap_or("intact")));
            let listed = listed.collect::<Vec<_>>().join(", ");
            let is_broken = states.iter().any(|(step, _)| *step == at);
            bail!(
                "the state of step {at} in {} {}; expected one of: {}0 (the initial model)",
                begin.folder.root().display(),
                if is_broken { "is corrupt" } else { "does not exist" },
                if listed.is_empty() { listed } else { listed + ", " }
            );
        }
        let missing_records = RecordIndex::open(&begin.folder)?.missing_records(at)?;
        let (evaluations_to_repeat, lost) = repairable(&begin.folder, &missing_records)?;
        let missing = missing_records.accepted.into_iter().chain(lost).collect();
        Ok(Self { evaluations_to_repeat, missing, ..begin })
    }

    /// True if the run has all its steps, records and results, so that nothing is left to do.
    pub fn is_done(&self, settings: &RunSettings) -> bool {
        let summary = std::fs::read(self.folder.summary()).ok().and_then(|text| serde_json::from_slice::<Summary>(&text).ok());
        let is_summarized = summary.is_some_and(|summary| summary.steps == self.from && summary.missing == self.missing);
        let is_evaluated = !crash_recovery::has_line(&self.folder.checkpoint(self.from).join("state"));
        self.from >= settings.train.steps
            && is_summarized
            && is_evaluated
            && self.skipped_checkpoints.is_empty()
            && self.evaluations_to_repeat.is_empty()
    }

    /// Returns messages about the choice for the user, one line each.
    ///
    /// # Errors
    /// If the run's records cannot be read.
    pub fn messages(&self) -> Result<Vec<String>> {
        let root = self.folder.root().display();
        let mut lines: Vec<String> =
            self.skipped_checkpoints.iter().map(|(step, what)| format!("skipped the checkpoint of step {step}: {what}")).collect();
        lines.extend(
            self.evaluations_to_repeat.iter().map(|(step, what)| format!("{what}: the evaluation of {} is repeated", model_of(*step))),
        );
        lines.extend(self.missing.iter().map(|what| format!("the run continues without a lost record, which summary.json lists: {what}")));
        if self.is_explicit {
            lines.extend(self.deleted()?);
        } else if self.from == 0 {
            lines.push(format!("{root} has no checkpoint yet: the run starts over at step 0 with its recorded settings"));
        }
        Ok(lines)
    }

    /// Describes what going back to this step deletes; `None` if nothing.
    fn deleted(&self) -> Result<Option<String>> {
        let later = |steps: Vec<u64>| steps.into_iter().filter(|step| *step > self.from).map(|step| step.to_string()).collect::<Vec<_>>();
        let (evaluations, checkpoints) = (later(self.folder.evaluated_steps()?), later(self.folder.exported_steps()?));
        let steps = RecordIndex::open(&self.folder)?.steps();
        let mut words = Vec::new();
        words.extend((steps > self.from).then(|| format!("metrics and rollouts of steps {} to {steps}", self.from + 1)));
        words.extend((!evaluations.is_empty()).then(|| format!("evaluations of {}", evaluations.join(", "))));
        words.extend((!checkpoints.is_empty()).then(|| format!("checkpoints of {}", checkpoints.join(", "))));
        Ok((!words.is_empty()).then(|| format!("going back to step {} deletes {}", self.from, words.join("; "))))
    }
}

/// A checkpoint that a run cannot resume from automatically.
struct UnusableCheckpoint {
    step: u64,
    /// True if only records outside its folder are missing.
    is_intact: bool,
    what: String,
}

fn model_of(step: u64) -> String {
    if step == 0 { "the base model".to_owned() } else { format!("step {step}") }
}

/// Fails if there are checkpoints but all are corrupt.
fn ensure_usable(folder: &RunFolder, unusable: &[UnusableCheckpoint]) -> Result<()> {
    if unusable.is_empty() {
        return Ok(());
    }
    let root = folder.root().display();
    let mut text = format!("no checkpoint of {root} is intact with all its records:");
    unusable.iter().for_each(|one| {
        let _ = write!(text, "\n  step {}: {}", one.step, one.what);
    });
    text += "\nNothing was changed. Restore the listed files from a backup";
    if let Some(usable) = unusable.iter().find(|one| one.is_intact) {
        let _ = write!(
            text,
            "; or continue from step {0} without those records, which summary.json will list: --resume {root} --at {0}",
            usable.step
        );
    }
    let _ = write!(text, "; or start over from the initial model: --resume {root} --at 0");
    bail!(text)
}

/// Returns the fault of a checkpoint's own files; `None` if they are intact.
fn checkpoint_fault(folder: &RunFolder, settings: &RunSettings, step: u64) -> Result<Option<String>> {
    let checkpoint = folder.checkpoint(step);
    let state = checkpoint.join("state");
    let progress = match Progress::read(&state) {
        Ok(progress) => progress,
        Err(error) => return Ok(Some(format!("{error:#}"))),
    };
    if progress.step != step {
        return Ok(Some(format!("{} is of step {}, expected {step}", state.join("progress.json").display(), progress.step)));
    }
    if let Err(error) = records::Records::read(&state) {
        return Ok(Some(format!("{error:#}")));
    }
    let weights = state.join(WEIGHTS);
    let is_exact = || Ok::<_, anyhow::Error>(settings.lora.is_on() || exported_dtype(&checkpoint).is_some_and(|dtype| dtype != "float32"));
    if !weights.exists() && progress.exact_weights.map_or_else(is_exact, Ok)? {
        return Ok(Some(format!("{} is missing, and the model next to it is rounded", weights.display())));
    }
    match manifest::first_corruption(&state)? {
        None => manifest::first_corruption(&checkpoint),
        fault => Ok(fault),
    }
}

/// Returns the dtype of an exported model; `None` if its configuration does not state one.
fn exported_dtype(model: &std::path::Path) -> Option<String> {
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(model.join("config.json")).ok()?).ok()?;
    Some(config.get("torch_dtype")?.as_str()?.to_owned())
}

/// Evaluations to repeat: the step, and the fault of the existing one.
type EvaluationFaults = Vec<(u64, String)>;

/// Splits missing_records into evaluations that can be repeated bit for bit, because their model exists, and faults that cannot be repaired.
fn repairable(folder: &RunFolder, missing_records: &MissingRecords) -> Result<(EvaluationFaults, Vec<String>)> {
    let (mut evaluations_to_repeat, mut lost) = (Vec::new(), missing_records.metrics.iter().cloned().collect::<Vec<_>>());
    for (step, what) in &missing_records.evaluations {
        let model = folder.checkpoint(*step);
        let is_there =
            *step == 0 || (exported_dtype(&model).is_some_and(|dtype| dtype == "float32") && manifest::first_corruption(&model)?.is_none());
        if is_there {
            evaluations_to_repeat.push((*step, what.clone()));
        } else {
            lost.push(what.clone());
        }
    }
    Ok((evaluations_to_repeat, lost))
}

/// Returns the faults in the records of a finished run, whose results cannot be trusted then; `None` if the records are intact.
///
/// # Errors
/// If an existing file cannot be read.
pub fn fault_of_records(folder: &RunFolder, step: u64) -> Result<Option<String>> {
    let words = RecordIndex::open(folder)?.missing_records(step)?.descriptions();
    Ok((!words.is_empty()).then(|| words.join("; ")))
}
