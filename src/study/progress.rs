//! Where a run of a study stands, and whether it is still the run that the study asks for.

use std::path::Path;

use anyhow::{Result, bail};
use toml::{Table, Value};

use crate::checkpoint::lock;
use crate::train::resumption::fault_of_records;
use crate::train::{RunFolder, RunSettings};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is nothing yet.
    Nothing,
    /// It stopped before its first checkpoint: nothing can be resumed.
    Begun,
    /// It goes on after this step.
    Stopped(u64),
    /// All its steps are done.
    Done,
}

/// Looks at a run's folder.
///
/// # Errors
/// When a run of other settings lies there, naming them, or the folder is no run's.
pub fn progress(root: &Path, expected: &RunSettings) -> Result<Progress> {
    if !root.exists() {
        return Ok(Progress::Nothing);
    }
    // A run writes its settings first; killed before that it has left folders without a file.
    if !root.join("config.toml").exists() {
        return if holds_files(root) {
            bail!("{} is no run's folder; give the study another --out", root.display())
        } else {
            Ok(Progress::Begun)
        };
    }
    let (folder, found) = RunFolder::open(root)?;
    let changes = differences(&found, expected)?;
    if !changes.is_empty() {
        let changes = changes.join("; ");
        bail!("{} was run with other settings ({changes}): give the study another --out, or remove that folder", root.display());
    }
    Ok(match folder.resumable_steps()?.last() {
        // A run whose records have suffered is resumed, which mends them or says what cannot be mended.
        Some(step) if *step >= expected.train.steps && fault_of_records(&folder, *step)?.is_none() => Progress::Done,
        Some(step) => Progress::Stopped(*step),
        None => Progress::Begun,
    })
}

fn holds_files(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| !path.ends_with(lock::FILE))
        .any(|path| if path.is_dir() { holds_files(&path) } else { true })
}

/// Settings that differ, each in words. The day on which a run began is its own.
fn differences(found: &RunSettings, expected: &RunSettings) -> Result<Vec<String>> {
    let table = |settings: &RunSettings| {
        let mut table = Table::try_from(settings)?;
        if let (Some(Value::Table(prompt)), true) = (table.get_mut("prompt"), expected.prompt.date.is_empty()) {
            prompt.remove("date");
        }
        if let Some(Value::Table(reward)) = table.get_mut("reward") {
            // A program that fails is mended, and the run goes on.
            ["command", "command_timeout_s"].iter().for_each(|key| drop(reward.remove(*key)));
        }
        anyhow::Ok(table)
    };
    let (found, expected) = (leaves(&table(found)?, ""), leaves(&table(expected)?, ""));
    let other = |(key, value): &(String, Value)| {
        let before = found.iter().find(|(name, _)| name == key).map(|(_, value)| value);
        (before != Some(value)).then(|| format!("{key} was {} and is {value} now", before.map_or("unset".to_owned(), Value::to_string)))
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
    fn a_run_stands_where_its_checkpoints_say() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("arm/seed-0");
        let mut settings = RunSettings::demonstration();
        settings.train.steps = 4;
        assert_eq!(progress(&root, &settings).unwrap(), Progress::Nothing);
        std::fs::create_dir_all(root.join("rollouts")).unwrap();
        assert_eq!(progress(&root, &settings).unwrap(), Progress::Begun);
        std::fs::write(root.join("letter.txt"), "dear reader").unwrap();
        assert!(progress(&root, &settings).unwrap_err().to_string().contains("is no run's folder"));
        std::fs::remove_dir_all(&root).unwrap();

        let run = RunFolder::create(&root, &settings).unwrap();
        assert_eq!(progress(&root, &settings).unwrap(), Progress::Begun);
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
        metrics(3);
        assert_eq!(progress(&root, &settings).unwrap(), Progress::Stopped(4), "a shortened record is no finished run");
    }

    #[test]
    fn a_changed_study_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        let mut settings = RunSettings::demonstration();
        settings.prompt.date = "2026-01-31".into();
        RunFolder::create(&root, &settings).unwrap();
        settings.prompt.date.clear();
        assert_eq!(progress(&root, &settings).unwrap(), Progress::Begun, "another day makes no other run");
        settings.loss.kl = 0.5;
        settings.reward.name = "format".into();
        let error = progress(&root, &settings).unwrap_err().to_string();
        assert!(
            error.contains("loss.kl was 0.001") && error.contains("and is 0.5 now; reward.name was \"outcome\" and is \"format\" now"),
            "{error}"
        );
    }
}
