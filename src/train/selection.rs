//! The accuracy of each training example at each step, from recorded rollouts; `rlvr select` ranks examples by it. Knows nothing about the
//! ranking.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use serde::Deserialize;

use super::folder::RunFolder;
use super::resumption::records::RecordIndex;
use crate::metrics::jsonl;

/// The fields that are read from a rollout's line.
#[derive(Deserialize)]
struct Line {
    example: String,
    reward: f32,
    correct: Option<bool>,
}

/// Returns the accuracy of each example at every step that sampled it: the share of its responses in that step that are correct. Examples
/// are in the order in which they were first sampled.
///
/// # Errors
/// If the folder is not a run folder or has no rollouts, or a rollout file is missing or corrupt. The message names the file, and the line
/// if there is one.
pub fn history(root: &Path) -> Result<Vec<(String, Vec<f64>)>> {
    let (folder, _) = RunFolder::open(root)?;
    let mut history: Vec<(String, Vec<f64>)> = Vec::new();
    let mut indices: HashMap<String, usize> = HashMap::new();
    let files = folder.rollout_files()?;
    ensure_complete(&folder, &files)?;
    for path in files {
        let mut step: BTreeMap<usize, (usize, usize)> = BTreeMap::new(); // index: (right, all)
        for (at_line, line) in jsonl::read_input::<Line>(&path)? {
            ensure!(!line.example.is_empty(), "{at_line}: the example is missing");
            let index = *indices.entry(line.example).or_insert_with_key(|example| {
                history.push((example.clone(), Vec::new()));
                history.len() - 1
            });
            let (right, all) = step.entry(index).or_default();
            *right += usize::from(line.correct.unwrap_or(line.reward > 0.0));
            *all += 1;
        }
        for (index, (right, all)) in step {
            history[index].1.push(right as f64 / all as f64);
        }
    }
    ensure!(!history.is_empty(), "{} has no recorded rollouts", root.display());
    Ok(history)
}

/// Fails if the rollouts of a step are missing, because examples would then be ranked by the other steps alone.
fn ensure_complete(folder: &RunFolder, files: &[PathBuf]) -> Result<()> {
    let newest = files.last().and_then(|path| path.file_name()?.to_str()?.split('.').next()?.parse().ok());
    let saved = folder.resumable_steps()?.last().copied();
    let last = newest.max(saved).unwrap_or(0).max(RecordIndex::open(folder)?.steps());
    match (1..=last).map(|step| folder.rollouts(step)).find(|path| !path.exists()) {
        Some(missing) if !files.is_empty() => {
            bail!(
                "{} is missing, but the run has recorded {last} steps: restore the file from a backup, or repeat the step with train --resume DIR --at STEP",
                missing.display()
            )
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::train::RunSettings;
    use crate::train::folder::write_gzip_lines;

    #[test]
    fn history_returns_accuracies_by_step() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        assert!(history(&root).unwrap_err().to_string().contains("is not a run folder"));
        let run = RunFolder::create(&root, &RunSettings::demonstration()).unwrap();
        assert!(history(&root).unwrap_err().to_string().contains("no recorded rollouts"));
        let line = |example: &str, correct: bool| json!({"example": example, "reward": 0.0, "correct": correct, "text": ""});
        write_gzip_lines(&run.rollouts(2), [line("b", true), line("b", true), line("a", false), line("a", true)]).unwrap();
        write_gzip_lines(&run.rollouts(1), [line("a", false), line("b", false)]).unwrap();
        write_gzip_lines(&run.rollouts(3), [json!({"example": "c", "reward": 1.0})]).unwrap();
        let expected = [("a", vec![0.0, 0.5]), ("b", vec![0.0, 1.0]), ("c", vec![1.0])];
        assert_eq!(history(&root).unwrap(), expected.map(|(example, accuracies)| (example.to_owned(), accuracies)));
        // Without step 2, the ranking would be wrong.
        std::fs::remove_file(run.rollouts(2)).unwrap();
        let message = history(&root).unwrap_err().to_string();
        assert!(message.contains("00002.jsonl.gz is missing, but the run has recorded 3 steps"), "{message}");
    }
}
