//! Chooses where to resume a run: at the newest checkpoint that is intact and has all the records it depends on. Owns the choice and its
//! reasons. Reads the folder; only `crash_recovery` changes it.

pub mod crash_recovery;
pub mod records;

use std::fmt::Write as _;

use anyhow::{Result, bail, ensure};

use super::folder::RunFolder;
use super::history::Summary;
use super::invocation::resume_command;
use super::settings::RunSettings;
use crate::checkpoint::manifest;
use crate::checkpoint::state::{Progress, WEIGHTS};
use crate::output::{self, Level};
use records::{MissingRecords, RecordIndex};

/// Where to resume a run, and why.
#[derive(Clone, Debug)]
pub struct ResumePoint {
    /// The run folder.
    pub folder: RunFolder,
    /// The step to resume after; 0 is the initial model.
    pub from: u64,
    /// Newer checkpoints that are skipped, each with its fault, the newest first.
    pub skipped_checkpoints: Vec<(u64, String)>,
    /// The steps of lost or corrupt evaluations that can be repeated, each with its fault.
    pub evaluations_to_repeat: Vec<(u64, String)>,
    /// Descriptions of records that cannot be recovered; the run continues without them, and `summary.json` lists them.
    pub missing: Vec<String>,
    /// True if the user chose the step with `--at`.
    pub is_explicit: bool,
}

impl ResumePoint {
    /// Chooses the newest checkpoint without checking it, which suffices for a plan. Chooses step 0 if there is none.
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

    /// Chooses the newest intact checkpoint, or step 0 if there is no checkpoint yet. `shown` shows the checks and the bytes read.
    ///
    /// # Errors
    /// If there are checkpoints but none is intact with its records (the message lists each with its fault), if checkpoints were deleted,
    /// or if a file cannot be read.
    pub fn newest(folder: RunFolder, settings: &RunSettings, shown: &output::Progress) -> Result<Self> {
        let mut index = RecordIndex::open(&folder)?;
        let (mut unusable, mut chosen) = (Vec::new(), None);
        for step in folder.steps_with_state()?.into_iter().rev() {
            let fault = checkpoint_fault(&folder, settings, step, shown)?;
            let missing_records = if fault.is_none() { index.missing_records(step)? } else { MissingRecords::default() };
            let (evaluations_to_repeat, lost) = repairable(&folder, &missing_records)?;
            if fault.is_none() && lost.is_empty() {
                chosen = Some((step, evaluations_to_repeat, missing_records.accepted));
                break;
            }
            unusable.push(UnusableCheckpoint {
                step,
                is_intact: fault.is_none(),
                fault: fault.into_iter().chain(lost).collect::<Vec<_>>().join("; "),
            });
        }
        if let Some((from, evaluations_to_repeat, missing)) = chosen {
            // Training deletes only the states of older checkpoints, so a newer one without a state has lost it.
            let is_stateless = |step: &u64| *step > from && unusable.iter().all(|one| one.step != *step);
            let stateless: Vec<u64> = folder.exported_steps()?.into_iter().filter(is_stateless).collect();
            let stateless =
                stateless.into_iter().map(|step| (step, format!("{} is missing", folder.checkpoint(step).join("state").display())));
            let mut skipped_checkpoints: Vec<(u64, String)> =
                unusable.iter().map(|one| (one.step, one.fault.clone())).chain(stateless).collect();
            skipped_checkpoints.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
            return Ok(Self { skipped_checkpoints, folder, from, evaluations_to_repeat, missing, is_explicit: false });
        }
        ensure_usable(&folder, &unusable)?;
        let (every, steps) = (settings.checkpoint.every, index.steps());
        ensure!(
            folder.exported_steps()?.is_empty() && (every == 0 || steps <= every),
            "{root} has records of {steps} steps but no checkpoint with a state, so checkpoints were deleted: restore one from a backup, or start over \
             from the initial model with {resume} --at 0",
            root = folder.root().display(),
            resume = resume_command(&folder.root().to_string_lossy()),
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

    /// Chooses the checkpoint of step `at`; 0 is the initial model. Lost records do not prevent this. `shown` shows the checks and the bytes
    /// read.
    ///
    /// # Errors
    /// If the step has no state, or the checkpoint's own files are corrupt (the message lists the steps with a state), or if a file cannot
    /// be read.
    pub fn at(folder: RunFolder, settings: &RunSettings, at: u64, shown: &output::Progress) -> Result<Self> {
        let chosen = Self {
            folder,
            from: at,
            skipped_checkpoints: Vec::new(),
            evaluations_to_repeat: Vec::new(),
            missing: Vec::new(),
            is_explicit: true,
        };
        if at == 0 {
            return Ok(chosen);
        }
        let mut states = Vec::new();
        for step in chosen.folder.steps_with_state()? {
            states.push((step, checkpoint_fault(&chosen.folder, settings, step, shown)?));
        }
        if !states.contains(&(at, None)) {
            let listed = states.iter().map(|(step, fault)| format!("{step} ({})", fault.as_deref().unwrap_or("intact")));
            let listed = listed.collect::<Vec<_>>().join(", ");
            let is_corrupt = states.iter().any(|(step, _)| *step == at);
            bail!(
                "the state of step {at} in {} {}; expected one of: {}0 (the initial model)",
                chosen.folder.root().display(),
                if is_corrupt { "is corrupt" } else { "does not exist" },
                if listed.is_empty() { listed } else { listed + ", " }
            );
        }
        let missing_records = RecordIndex::open(&chosen.folder)?.missing_records(at)?;
        let (evaluations_to_repeat, lost) = repairable(&chosen.folder, &missing_records)?;
        let missing = missing_records.accepted.into_iter().chain(lost).collect();
        Ok(Self { evaluations_to_repeat, missing, ..chosen })
    }

    /// True if the run is complete: it has all its steps, records and results.
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
    pub fn messages(&self) -> Result<Vec<(Level, String)>> {
        let root = self.folder.root().display();
        let mut faults: Vec<String> =
            self.skipped_checkpoints.iter().map(|(step, fault)| format!("skipped the checkpoint of step {step}: {fault}")).collect();
        faults.extend(
            self.evaluations_to_repeat.iter().map(|(step, fault)| format!("{fault}: the evaluation of {} is repeated", model_at(*step))),
        );
        faults.extend(
            self.missing.iter().map(|record| format!("the run continues without a lost record, which summary.json lists: {record}")),
        );
        let mut lines: Vec<(Level, String)> = faults.into_iter().map(|fault| (Level::Warning, fault)).collect();
        if self.is_explicit {
            lines.extend(self.deleted()?.map(|deleted| (Level::Info, deleted)));
        } else if self.from == 0 {
            lines.push((Level::Info, format!("{root} has no checkpoint yet: the run starts over at step 0 with its recorded settings")));
        }
        Ok(lines)
    }

    /// Describes the records that going back to this step deletes; `None` if there are none.
    fn deleted(&self) -> Result<Option<String>> {
        let later = |steps: Vec<u64>| steps.into_iter().filter(|step| *step > self.from).map(|step| step.to_string()).collect::<Vec<_>>();
        let (evaluations, checkpoints) = (later(self.folder.evaluated_steps()?), later(self.folder.exported_steps()?));
        let steps = RecordIndex::open(&self.folder)?.steps();
        let mut parts = Vec::new();
        parts.extend((steps > self.from).then(|| format!("metrics and rollouts of steps {} to {steps}", self.from + 1)));
        parts.extend((!evaluations.is_empty()).then(|| format!("evaluations of {}", evaluations.join(", "))));
        parts.extend((!checkpoints.is_empty()).then(|| format!("checkpoints of {}", checkpoints.join(", "))));
        Ok((!parts.is_empty()).then(|| format!("going back to step {} deletes {}", self.from, parts.join("; "))))
    }
}

/// A checkpoint that a run does not resume from unless the user chooses it.
struct UnusableCheckpoint {
    step: u64,
    /// True if its own files are intact and only records outside its folder are lost.
    is_intact: bool,
    fault: String,
}

fn model_at(step: u64) -> String {
    if step == 0 { "the base model".to_owned() } else { format!("step {step}") }
}

/// Fails if there are unusable checkpoints. The message lists each with its fault.
fn ensure_usable(folder: &RunFolder, unusable: &[UnusableCheckpoint]) -> Result<()> {
    if unusable.is_empty() {
        return Ok(());
    }
    let (root, resume) = (folder.root().display(), resume_command(&folder.root().to_string_lossy()));
    let mut text = format!("no checkpoint of {root} is intact with all its records:");
    unusable.iter().for_each(|one| {
        let _ = write!(text, "\n  step {}: {}", one.step, one.fault);
    });
    text += "\nNothing was changed. Restore the listed files from a backup";
    if let Some(usable) = unusable.iter().find(|one| one.is_intact) {
        let _ =
            write!(text, "; or continue from step {0} without those records, which summary.json will list: {resume} --at {0}", usable.step);
    }
    let _ = write!(text, "; or start over from the initial model: {resume} --at 0");
    bail!(text)
}

/// Returns the fault of a checkpoint's own files; `None` if they are intact.
fn checkpoint_fault(folder: &RunFolder, settings: &RunSettings, step: u64, shown: &output::Progress) -> Result<Option<String>> {
    let checkpoint = folder.checkpoint(step);
    let state = checkpoint.join("state");
    let progress = match Progress::read(&state) {
        Ok(progress) => progress,
        Err(error) => return Ok(Some(format!("{error:#}"))),
    };
    if progress.step != step {
        return Ok(Some(format!("{} is of step {}, expected step {step}", state.join("progress.json").display(), progress.step)));
    }
    if let Err(error) = records::Records::read(&state) {
        return Ok(Some(format!("{error:#}")));
    }
    let weights = state.join(WEIGHTS);
    let is_exact = || Ok::<_, anyhow::Error>(settings.lora.is_on() || exported_dtype(&checkpoint).is_some_and(|dtype| dtype != "float32"));
    if !weights.exists() && progress.exact_weights.map_or_else(is_exact, Ok)? {
        return Ok(Some(format!("{} is missing, and the model next to it is rounded", weights.display())));
    }
    shown.begin(format!("checking the checkpoint of step {step}"));
    match manifest::first_corruption_counted(&state, shown)? {
        None => manifest::first_corruption_counted(&checkpoint, shown),
        fault => Ok(fault),
    }
}

/// Returns the dtype of an exported model; `None` if its `config.json` cannot be read or has none.
fn exported_dtype(model: &std::path::Path) -> Option<String> {
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(model.join("config.json")).ok()?).ok()?;
    Some(config.get("torch_dtype")?.as_str()?.to_owned())
}

/// The steps of evaluations, each with its fault.
type EvaluationFaults = Vec<(u64, String)>;

/// Splits missing records into evaluations that can be repeated bit for bit, because their model is saved in f32, and the descriptions of
/// records that are lost.
fn repairable(folder: &RunFolder, missing_records: &MissingRecords) -> Result<(EvaluationFaults, Vec<String>)> {
    let (mut evaluations_to_repeat, mut lost) = (Vec::new(), missing_records.metrics.iter().cloned().collect::<Vec<_>>());
    for (step, fault) in &missing_records.evaluations {
        let model = folder.checkpoint(*step);
        let is_repeatable =
            *step == 0 || (exported_dtype(&model).is_some_and(|dtype| dtype == "float32") && manifest::first_corruption(&model)?.is_none());
        if is_repeatable {
            evaluations_to_repeat.push((*step, fault.clone()));
        } else {
            lost.push(fault.clone());
        }
    }
    Ok((evaluations_to_repeat, lost))
}

/// Describes the faults in the records that the checkpoint of `step` depends on; `None` if they are intact.
///
/// # Errors
/// If an existing file cannot be read.
pub fn records_fault(folder: &RunFolder, step: u64) -> Result<Option<String>> {
    let faults = RecordIndex::open(folder)?.missing_records(step)?.descriptions();
    Ok((!faults.is_empty()).then(|| faults.join("; ")))
}
