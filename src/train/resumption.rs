//! Where a run goes on: the newest checkpoint that is whole, with all records that it depends on. Owns the choice and its reasons; changes
//! nothing in the folder but what a killed process left half done.

pub mod leftovers;
pub mod records;

use std::fmt::Write as _;

use anyhow::{Result, bail, ensure};

use super::folder::RunFolder;
use super::history::Summary;
use super::settings::RunSettings;
use crate::checkpoint::manifest;
use crate::checkpoint::state::{Progress, WEIGHTS};
use records::{Found, Gaps};

/// Where a run goes on, and why there.
#[derive(Clone, Debug)]
pub struct Resumption {
    /// The run's folder.
    pub folder: RunFolder,
    /// After which step; 0 is the model that the run began with.
    pub from: u64,
    /// Newer checkpoints that are not used, with what is wrong with each; the newest first.
    pub passed_over: Vec<(u64, String)>,
    /// Evaluations that are lost and can be made again, with what is wrong with each.
    pub rebuild: Vec<(u64, String)>,
    /// Records that are lost for good: the run goes on without them, and its summary says so.
    pub missing: Vec<String>,
    /// Whether the user named the step.
    pub is_named: bool,
}

impl Resumption {
    /// The newest checkpoint, unchecked: enough for a plan.
    pub fn unchecked(folder: RunFolder) -> Result<Self> {
        let from = folder.resumable_steps()?.last().copied().unwrap_or(0);
        Ok(Self { folder, from, passed_over: Vec::new(), rebuild: Vec::new(), missing: Vec::new(), is_named: false })
    }

    /// The newest checkpoint that is whole, or the beginning where there is none yet.
    ///
    /// # Errors
    /// When there are checkpoints and none is whole; each is named with what is wrong.
    pub fn newest(folder: RunFolder, settings: &RunSettings) -> Result<Self> {
        let mut found = Found::open(&folder)?;
        let (mut broken, mut chosen) = (Vec::new(), None);
        for step in folder.steps_with_state()?.into_iter().rev() {
            let fault = own_fault(&folder, settings, step)?;
            let gaps = if fault.is_none() { found.gaps(step)? } else { Gaps::default() };
            let (rebuild, lost) = repairable(&folder, &gaps)?;
            if fault.is_none() && lost.is_empty() {
                chosen = Some((step, rebuild, gaps.accepted));
                break;
            }
            broken.push(Broken { step, is_whole: fault.is_none(), what: fault.into_iter().chain(lost).collect::<Vec<_>>().join("; ") });
        }
        if let Some((from, rebuild, missing)) = chosen {
            // Only checkpoints older than the newest few lose their state.
            let is_stateless = |step: &u64| *step > from && broken.iter().all(|one| one.step != *step);
            let stateless: Vec<u64> = folder.exported_steps()?.into_iter().filter(is_stateless).collect();
            let stateless =
                stateless.into_iter().map(|step| (step, format!("{} is missing", folder.checkpoint(step).join("state").display())));
            let mut passed_over: Vec<(u64, String)> = broken.iter().map(|one| (one.step, one.what.clone())).chain(stateless).collect();
            passed_over.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
            return Ok(Self { passed_over, folder, from, rebuild, missing, is_named: false });
        }
        refuse(&folder, &broken)?;
        let (every, steps) = (settings.checkpoint.every, found.steps());
        ensure!(
            folder.exported_steps()?.is_empty() && (every == 0 || steps <= every),
            "{root} has records of {steps} steps and no checkpoint with a state: somebody has removed it. Put it back from a copy, or start \
             again from the model that the run began with: --resume {root} --at 0",
            root = folder.root().display()
        );
        Ok(Self { passed_over: Vec::new(), folder, from: 0, rebuild: Vec::new(), missing: Vec::new(), is_named: false })
    }

    /// The checkpoint of the step that the user names; 0 is the beginning. Records that are lost are no obstacle then.
    ///
    /// # Errors
    /// When that step has no state, or its own files are not whole; the steps that have one are listed.
    pub fn at(folder: RunFolder, settings: &RunSettings, at: u64) -> Result<Self> {
        let begin = Self { folder, from: at, passed_over: Vec::new(), rebuild: Vec::new(), missing: Vec::new(), is_named: true };
        if at == 0 {
            return Ok(begin);
        }
        let mut states = Vec::new();
        for step in begin.folder.steps_with_state()? {
            states.push((step, own_fault(&begin.folder, settings, step)?));
        }
        if !states.contains(&(at, None)) {
            let listed = states.iter().map(|(step, fault)| format!("{step} ({})", fault.as_deref().unwrap_or("whole")));
            let listed = listed.collect::<Vec<_>>().join(", ");
            let is_broken = states.iter().any(|(step, _)| *step == at);
            bail!(
                "the state of step {at} in {} {}; expected one of: {}0 (the model that the run began with)",
                begin.folder.root().display(),
                if is_broken { "is not whole" } else { "is not there" },
                if listed.is_empty() { listed } else { listed + ", " }
            );
        }
        let gaps = Found::open(&begin.folder)?.gaps(at)?;
        let (rebuild, lost) = repairable(&begin.folder, &gaps)?;
        let missing = gaps.accepted.into_iter().chain(lost).collect();
        Ok(Self { rebuild, missing, ..begin })
    }

    /// Whether the run has all its steps, records and results, so that there is nothing to go on with.
    pub fn is_done(&self, settings: &RunSettings) -> bool {
        let summary = std::fs::read(self.folder.summary()).ok().and_then(|text| serde_json::from_slice::<Summary>(&text).ok());
        let is_told = summary.is_some_and(|summary| summary.steps == self.from && summary.missing == self.missing);
        let is_evaluated = !leftovers::has_line(&self.folder.checkpoint(self.from).join("state"));
        self.from >= settings.train.steps && is_told && is_evaluated && self.passed_over.is_empty() && self.rebuild.is_empty()
    }

    /// What the user should know of the choice, a line each.
    pub fn told(&self) -> Result<Vec<String>> {
        let root = self.folder.root().display();
        let mut lines: Vec<String> =
            self.passed_over.iter().map(|(step, what)| format!("passed over the checkpoint of step {step}: {what}")).collect();
        lines.extend(self.rebuild.iter().map(|(step, what)| format!("{what}: the evaluation of {} is made again", model_of(*step))));
        lines.extend(self.missing.iter().map(|what| format!("the run goes on without a record, and summary.json says so: {what}")));
        if self.is_named {
            lines.extend(self.dropped()?);
        } else if self.from == 0 {
            lines.push(format!("{root} has no checkpoint yet: the run starts again at step 0, with its recorded settings"));
        }
        Ok(lines)
    }

    /// What is lost by going back to a step that the user named.
    fn dropped(&self) -> Result<Option<String>> {
        let later = |steps: Vec<u64>| steps.into_iter().filter(|step| *step > self.from).map(|step| step.to_string()).collect::<Vec<_>>();
        let (evaluations, checkpoints) = (later(self.folder.evaluated_steps()?), later(self.folder.exported_steps()?));
        let steps = Found::open(&self.folder)?.steps();
        let mut words = Vec::new();
        words.extend((steps > self.from).then(|| format!("metrics and rollouts of steps {} to {steps}", self.from + 1)));
        words.extend((!evaluations.is_empty()).then(|| format!("evaluations of {}", evaluations.join(", "))));
        words.extend((!checkpoints.is_empty()).then(|| format!("checkpoints of {}", checkpoints.join(", "))));
        Ok((!words.is_empty()).then(|| format!("going back to step {} drops {}", self.from, words.join("; "))))
    }
}

/// A checkpoint that a run cannot go on from by itself.
struct Broken {
    step: u64,
    /// Whether only records outside its folder are missing.
    is_whole: bool,
    what: String,
}

fn model_of(step: u64) -> String {
    if step == 0 { "the base model".to_owned() } else { format!("step {step}") }
}

/// An error where there are checkpoints and all are broken.
fn refuse(folder: &RunFolder, broken: &[Broken]) -> Result<()> {
    if broken.is_empty() {
        return Ok(());
    }
    let root = folder.root().display();
    let mut text = format!("no checkpoint of {root} is whole with its records:");
    broken.iter().for_each(|one| {
        let _ = write!(text, "\n  step {}: {}", one.step, one.what);
    });
    text += "\nNothing was changed. Put the named files back from a copy";
    if let Some(usable) = broken.iter().find(|one| one.is_whole) {
        let _ = write!(
            text,
            "; or go on from step {0} without those records, which summary.json will say: --resume {root} --at {0}",
            usable.step
        );
    }
    let _ = write!(text, "; or start again from the model that the run began with: --resume {root} --at 0");
    bail!(text)
}

/// What is wrong with a checkpoint's own files.
fn own_fault(folder: &RunFolder, settings: &RunSettings, step: u64) -> Result<Option<String>> {
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
        return Ok(Some(format!("{} is missing, and the model beside it is rounded", weights.display())));
    }
    match manifest::fault(&state)? {
        None => manifest::fault(&checkpoint),
        fault => Ok(fault),
    }
}

/// The dtype of an exported model, where its configuration says it.
fn exported_dtype(model: &std::path::Path) -> Option<String> {
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(model.join("config.json")).ok()?).ok()?;
    Some(config.get("torch_dtype")?.as_str()?.to_owned())
}

/// Evaluations to make again: the step, and what is wrong with the one that is there.
type Rebuild = Vec<(u64, String)>;

/// Evaluations that can be made again to the same bits, because their model is there, and gaps that cannot be closed.
fn repairable(folder: &RunFolder, gaps: &Gaps) -> Result<(Rebuild, Vec<String>)> {
    let (mut rebuild, mut lost) = (Vec::new(), gaps.metrics.iter().cloned().collect::<Vec<_>>());
    for (step, what) in &gaps.evaluations {
        let model = folder.checkpoint(*step);
        let is_there = *step == 0 || (exported_dtype(&model).is_some_and(|dtype| dtype == "float32") && manifest::fault(&model)?.is_none());
        if is_there {
            rebuild.push((*step, what.clone()));
        } else {
            lost.push(what.clone());
        }
    }
    Ok((rebuild, lost))
}

/// What is wrong with the records of a run that has done all its steps; its results are then not to be trusted.
///
/// # Errors
/// When something that is there cannot be read.
pub fn fault_of_records(folder: &RunFolder, step: u64) -> Result<Option<String>> {
    let words = Found::open(folder)?.gaps(step)?.words();
    Ok((!words.is_empty()).then(|| words.join("; ")))
}
