//! Lists the runs below a folder with how far each got and its last numbers. A run that cannot be read is listed with the reason.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::Serialize;

use super::run_record::{RunRecord, RunState};
use crate::checkpoint::lock::FolderLock;
use crate::train::RunFolder;

/// Number of folder levels that are searched. The runs of a study in `runs/STUDY/ARM/seed-N` are on the third.
const LEVELS: usize = 4;

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListedRun {
    /// The run's folder.
    pub folder: PathBuf,
    /// How far it got.
    #[serde(flatten)]
    pub status: RunStatus,
    /// The model.
    pub model: String,
    /// The training examples.
    pub example: String,
    /// The number of recorded steps.
    pub step: u64,
    /// The number of steps that the settings ask for; 0 if they cannot be read.
    pub steps: u64,
    /// The mean share of correct training responses over the last steps (`eval.saturation_window`).
    pub train_accuracy: Option<f64>,
    /// The accuracy on held-out problems at the base model; `None` if it was not evaluated.
    pub base: Option<HeldOut>,
    /// The accuracy on held-out problems at the last evaluation.
    pub last: Option<HeldOut>,
    /// The first step at which the train accuracy is saturated.
    pub saturation_step: Option<u64>,
    /// When the run last recorded a step, in seconds since 1970.
    pub updated_unix_s: Option<u64>,
}

/// The accuracies of an evaluation: means over the greedy and over the sampled passes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HeldOut {
    /// The step that was evaluated.
    pub step: u64,
    /// Mean accuracy over the greedy passes.
    pub greedy: Option<f64>,
    /// Mean accuracy over the sampled passes.
    pub sampled: Option<f64>,
}

/// How far a run got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum RunStatus {
    /// A process is writing to the folder.
    Running {
        /// The process id; `None` if the lock does not name it.
        pid: Option<u32>,
        /// The machine; `None` if the lock does not name it.
        host: Option<String>,
    },
    /// All steps are done.
    Finished,
    /// No process is writing to the folder, and steps are missing.
    Interrupted,
    /// The run stopped because training diverged.
    Diverged,
    /// The folder cannot be read.
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// Lists the runs in a folder and below it, in order of their paths. A folder that is itself a run is the only entry.
///
/// # Errors
/// If the folder cannot be read.
pub fn list_runs(folder: &Path) -> Result<Vec<ListedRun>> {
    let mut found = Vec::new();
    collect(folder, LEVELS, &mut found).with_context(|| format!("cannot read {}", folder.display()))?;
    found.sort();
    Ok(found.iter().map(|root| listed(root)).collect())
}

/// Adds the run folders in `folder` and below. Skips subfolders that cannot be read.
fn collect(folder: &Path, levels: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if is_run(folder) {
        found.push(folder.to_owned());
        return Ok(());
    }
    let entries = std::fs::read_dir(folder)?;
    if levels > 0 {
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
            let _ = collect(&path, levels - 1, found);
        }
    }
    Ok(())
}

/// True for a run's folder, also for one that was killed before it wrote its settings.
fn is_run(folder: &Path) -> bool {
    folder.join("config.toml").is_file() || ["rollouts", "eval", "checkpoints"].iter().all(|part| folder.join(part).is_dir())
}

fn listed(root: &Path) -> ListedRun {
    let run = match RunRecord::read(root) {
        Ok(run) => run,
        Err(error) => return unreadable(root, format!("{error:#}")),
    };
    let history = run.history();
    let held_out =
        |one: &crate::train::history::Evaluation| HeldOut { step: one.step, greedy: one.accuracy(true), sampled: one.accuracy(false) };
    ListedRun {
        folder: root.to_owned(),
        status: status(&run),
        model: run.settings.model.clone(),
        example: run.settings.example.clone(),
        step: run.metrics.last_step().unwrap_or(0),
        steps: run.settings.train.steps,
        train_accuracy: history.recent_train_accuracy(),
        base: history.evaluations.first().filter(|first| first.step == 0).map(held_out),
        last: history.evaluations.last().map(held_out),
        saturation_step: run.saturation_step(),
        updated_unix_s: updated(&run.folder),
    }
}

fn unreadable(root: &Path, reason: String) -> ListedRun {
    let status = match FolderLock::holder(root) {
        Some(in_use) => {
            let (pid, host) = in_use.holder.map(|holder| (holder.pid, holder.host)).unzip();
            RunStatus::Running { pid, host }
        }
        None => RunStatus::Unreadable { reason },
    };
    ListedRun {
        folder: root.to_owned(),
        status,
        model: String::new(),
        example: String::new(),
        step: 0,
        steps: 0,
        train_accuracy: None,
        base: None,
        last: None,
        saturation_step: None,
        updated_unix_s: None,
    }
}

fn status(run: &RunRecord) -> RunStatus {
    match &run.state {
        RunState::Running { holder } => {
            let (pid, host) = holder.clone().map(|holder| (holder.pid, holder.host)).unzip();
            RunStatus::Running { pid, host }
        }
        RunState::Finished => RunStatus::Finished,
        // A run that continued after going back to an earlier step keeps the record of the step that diverged.
        RunState::Stopped if diverged_step(&run.folder) > run.metrics.last_step() => RunStatus::Diverged,
        RunState::Stopped => RunStatus::Interrupted,
    }
}

/// Returns the last step whose responses were kept because their update made the run diverge; `None` if there is none.
fn diverged_step(folder: &RunFolder) -> Option<u64> {
    let files = std::fs::read_dir(folder.root().join("diverged")).ok()?;
    let step = |name: std::ffi::OsString| name.to_str()?.split('.').next()?.parse::<u64>().ok();
    files.flatten().filter_map(|entry| step(entry.file_name())).max()
}

/// Returns when the run last recorded a step, or when it was created.
fn updated(folder: &RunFolder) -> Option<u64> {
    let modified = |path: PathBuf| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let time = modified(folder.metrics()).or_else(|| modified(folder.config()))?;
    Some(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::train::RunSettings;

    fn run(root: &Path, steps: u64, recorded: u64) -> RunFolder {
        let mut settings = RunSettings::demonstration();
        settings.train.steps = steps;
        let folder = RunFolder::create(root, &settings).unwrap();
        let lines = (1..=recorded).map(|step| format!("{{\"step\":{step},\"train/accuracy\":0.5}}\n"));
        fs::write(folder.metrics(), lines.collect::<String>()).unwrap();
        folder
    }

    #[test]
    fn list_runs_finds_runs_and_studies_with_their_states() {
        let parent = tempfile::tempdir().unwrap();
        let path = |name: &str| parent.path().join(name);
        for (name, steps) in [("a", 2), ("b", 3), ("study/arm/seed-0", 4), ("d", 5)] {
            drop(run(&path(name), steps, 2));
        }
        fs::create_dir(path("d/diverged")).unwrap();
        fs::write(path("d/diverged/00003.jsonl.gz"), "").unwrap();
        fs::write(path("b/config.toml"), "model = [").unwrap();
        for part in ["rollouts", "eval", "checkpoints"] {
            fs::create_dir_all(path("killed").join(part)).unwrap();
        }
        fs::create_dir(path("empty")).unwrap();
        let writer = run(&path("e"), 3, 1);
        let found = list_runs(parent.path()).unwrap();
        let names: Vec<&Path> = found.iter().map(|run| run.folder.strip_prefix(parent.path()).unwrap()).collect();
        assert_eq!(names, ["a", "b", "d", "e", "killed", "study/arm/seed-0"].map(Path::new));
        let [a, b, d, e, killed, seed] = found.try_into().unwrap();
        assert_eq!((a.status, a.step, a.steps, a.train_accuracy), (RunStatus::Finished, 2, 2, Some(0.5)));
        assert_eq!((d.status, seed.status), (RunStatus::Diverged, RunStatus::Interrupted));
        assert!(matches!(e.status, RunStatus::Running { pid: Some(pid), .. } if pid == std::process::id()), "{:?}", e.status);
        for (run, expected) in [(b, "config.toml"), (killed, "the run was killed before it had written config.toml")] {
            let RunStatus::Unreadable { reason } = run.status else { panic!("{:?}", run.status) };
            assert!(reason.contains(expected), "{reason}");
        }
        drop(writer);
        assert_eq!(list_runs(&path("a")).unwrap().len(), 1);
        assert!(list_runs(&path("none")).unwrap_err().to_string().contains("cannot read"));
    }
}
