//! The runs of a study: their order, folders and names, and what they recorded.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::progress::is_evaluated;
use super::{Arm, Study};
use crate::train::history::Summary;
use crate::train::{RunFolder, RunSettings};

/// A run of the study.
pub(super) struct PlannedRun<'a> {
    pub arm: &'a Arm,
    pub seed: u64,
    pub settings: RunSettings,
    /// Its folder.
    pub root: PathBuf,
}

impl PlannedRun<'_> {
    /// Returns the run's arm and seed, for messages.
    pub fn name(&self) -> String {
        format!("{}, seed {}", self.arm.label, self.seed)
    }
}

/// Lists all runs: first those with the first seed of each arm, then those with the second, so that a stopped study has results for every
/// arm.
pub(super) fn planned_runs<'a>(study: &'a Study, settings: &[RunSettings], out: &Path) -> Vec<PlannedRun<'a>> {
    let of_seed = |seed: u64| {
        let planned = move |(arm, settings): (&'a Arm, &RunSettings)| PlannedRun {
            arm,
            seed,
            settings: RunSettings { seed, ..settings.clone() },
            root: folder(out, arm, seed),
        };
        study.arms.iter().zip(settings).map(planned).collect::<Vec<_>>()
    };
    study.seeds.iter().flat_map(|seed| of_seed(*seed)).collect()
}

/// Returns the folder of a run: `OUT/ARM/seed-N`.
pub(super) fn folder(out: &Path, arm: &Arm, seed: u64) -> PathBuf {
    out.join(&arm.folder).join(format!("seed-{seed}"))
}

/// Reads the summary of a finished run of a study with these settings. `None` for an unfinished run, whose figures would be from an earlier
/// step.
///
/// # Errors
/// If the folder or its summary cannot be read.
pub fn read_summary(root: &Path, settings: &RunSettings) -> Result<Option<Summary>> {
    if !root.join("config.toml").exists() {
        return Ok(None);
    }
    let (folder, found) = RunFolder::open(root)?;
    let last = folder.resumable_steps()?.last().copied();
    if last.is_none_or(|step| step < settings.train.steps.max(found.train.steps) || !is_evaluated(&folder, step)) {
        return Ok(None);
    }
    let path = folder.summary();
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is corrupt", path.display())).map(Some)
}
