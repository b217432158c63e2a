//! Determines how far a run of a study got, and whether its settings still match the study.

use std::path::Path;

use anyhow::{Result, bail};
use toml::{Table, Value};

use crate::checkpoint::lock;
use crate::train::resumption::{crash_recovery, records_fault};
use crate::train::{RunFolder, RunSettings};

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its folder does not exist.
    NotStarted,
    /// It stopped before its first checkpoint, so it cannot be resumed.
    NotResumable,
    /// It can be resumed after this step.
    Stopped(u64),
    /// All its steps are done, with the last evaluation.
    Done,
}

/// Determines the state of the run in the folder `root`.
///
/// # Errors
/// If the folder has a run with different settings (the message lists them) or is not a run folder, or if it cannot be read.
pub fn progress(root: &Path, expected: &RunSettings) -> Result<Progress> {
    if !root.exists() {
        return Ok(Progress::NotStarted);
    }
    // A run first writes its settings. If it was killed before that, its folder contains no files.
    if !root.join("config.toml").exists() {
        return if has_files(root) {
            bail!("{} is not a run folder: give the study another --out", root.display())
        } else {
            Ok(Progress::NotResumable)
        };
    }
    let (folder, found) = RunFolder::open(root)?;
    let changes = differences(&found, expected)?;
    if !changes.is_empty() {
        let changes = changes.join("; ");
        bail!("{} has a run with different settings ({changes}): give the study another --out, or delete that folder", root.display());
    }
    Ok(match folder.resumable_steps()?.last() {
        // A run with corrupt records is resumed, which repairs them or reports which ones cannot be repaired.
        Some(step) if is_evaluated(&folder, *step) && *step >= expected.train.steps && records_fault(&folder, *step)?.is_none() => {
            Progress::Done
        }
        Some(step) => Progress::Stopped(*step),
        None => Progress::NotResumable,
    })
}

/// True if the run was not interrupted in the evaluation after this step.
pub(super) fn is_evaluated(folder: &RunFolder, step: u64) -> bool {
    !crash_recovery::has_line(&folder.checkpoint(step).join("state"))
}

/// True if the folder or a folder in it has a file other than the lock.
fn has_files(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| !path.ends_with(lock::FILE))
        .any(|path| if path.is_dir() { has_files(&path) } else { true })
}

/// Describes the settings that differ. Ignores the start date, unless the study sets it, the reward command, and `checkpoint.keep_spaced`.
fn differences(found: &RunSettings, expected: &RunSettings) -> Result<Vec<String>> {
    let table = |settings: &RunSettings| {
        let mut table = Table::try_from(settings)?;
        if let (Some(Value::Table(prompt)), true) = (table.get_mut("prompt"), expected.prompt.date.is_empty()) {
            prompt.remove("date");
        }
        if let Some(Value::Table(reward)) = table.get_mut("reward") {
            // Users may fix a failing reward program and then continue the run.
            ["command", "command_timeout_s"].iter().for_each(|key| drop(reward.remove(*key)));
        }
        if let Some(Value::Table(checkpoint)) = table.get_mut("checkpoint") {
            // Changes what a run keeps on disk, not its results.
            checkpoint.remove("keep_spaced");
        }
        anyhow::Ok(table)
    };
    let (found, expected) = (leaves(&table(found)?, ""), leaves(&table(expected)?, ""));
    let other = |(key, value): &(String, Value)| {
        let before = found.iter().find(|(name, _)| name == key).map(|(_, value)| value);
        (before != Some(value)).then(|| format!("{key} was {}, now {value}", before.map_or("unset".to_owned(), Value::to_string)))
    };
    Ok(expected.iter().filter_map(other).collect())
}

fn leaves(table: &Table, path: &str) -> Vec<(String, Value)> {
    let of = |(key, value): (&String, &Value)| match value {
        Value::Table(inner) => leaves(inner, &format!("{path}{key}.")),
        value => vec![(format!("{path}{key}"), value.clone())],
    };
    table.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_follows_the_checkpoints() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("arm/seed-0");
        let mut settings = RunSettings::demonstration();
        settings.train.steps = 4;
        assert_eq!(progress(&root, &settings).unwrap(), Progress::NotStarted);
        std::fs::create_dir_all(root.join("rollouts")).unwrap();
        assert_eq!(progress(&root, &settings).unwrap(), Progress::NotResumable);
        std::fs::write(root.join("letter.txt"), "dear reader").unwrap();
        assert!(progress(&root, &settings).unwrap_err().to_string().contains("is not a run folder"));
        std::fs::remove_dir_all(&root).unwrap();

        let run = RunFolder::create(&root, &settings).unwrap();
        assert_eq!(progress(&root, &settings).unwrap(), Progress::NotResumable);
        let metrics = |steps| {
            let lines: String = (1..=steps).map(|step| format!("{{\"step\":{step}}}\n")).collect();
            std::fs::write(run.metrics(), lines).unwrap();
        };
        metrics(4);
        for (step, expected) in [(2, Progress::Stopped(2)), (4, Progress::Done)] {
            std::fs::create_dir_all(run.checkpoint(step).join("state")).unwrap();
            std::fs::write(run.checkpoint(step).join("state/progress.json"), "{}").unwrap();
            assert_eq!(progress(&root, &settings).unwrap(), expected);
        }
        let line = run.checkpoint(4).join("state/line.json");
        std::fs::write(&line, "{}").unwrap();
        assert_eq!(progress(&root, &settings).unwrap(), Progress::Stopped(4), "a run without its last evaluation is not done");
        std::fs::remove_file(line).unwrap();
        metrics(3);
        assert_eq!(progress(&root, &settings).unwrap(), Progress::Stopped(4), "a run with a shortened record is not done");
    }

    #[test]
    fn progress_rejects_different_settings() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        let mut settings = RunSettings::demonstration();
        settings.prompt.date = "2026-01-31".into();
        RunFolder::create(&root, &settings).unwrap();
        settings.prompt.date.clear();
        assert_eq!(progress(&root, &settings).unwrap(), Progress::NotResumable, "another start date is the same run");
        settings.checkpoint.keep_spaced = 0;
        assert_eq!(progress(&root, &settings).unwrap(), Progress::NotResumable, "so are other checkpoints");
        settings.loss.kl = 0.5;
        settings.reward.name = "format".into();
        let error = progress(&root, &settings).unwrap_err().to_string();
        assert!(error.contains("loss.kl was 0.001") && error.contains(", now 0.5; reward.name was \"outcome\", now \"format\""), "{error}");
    }
}
