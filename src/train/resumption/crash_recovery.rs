//! Repairs a run folder after its process ended early. A killed process leaves partial files or folders (`*.partial`) and folders that it
//! was replacing (`*.old`). A process that a signal stops during an evaluation leaves the step's metrics line in its checkpoint state; the
//! resumed run repeats the evaluation and then writes the line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::checkpoint::write_file;
use crate::train::folder::RunFolder;

/// The file's name in a checkpoint state.
const LINE: &str = "line.json";

/// Deletes partial files, empty folders, and replaced folders (`*.old`). A replaced folder without a successor gets its old name back
/// instead. Returns a message that lists all changes; `None` if there was nothing to do.
///
/// # Errors
/// If a file or folder cannot be read, renamed or deleted.
pub fn clean_up(folder: &RunFolder) -> Result<Option<String>> {
    let parts = ["", "checkpoints", "eval", "rollouts"].map(|part| folder.root().join(part));
    let (mut deleted, mut restored) = (Vec::new(), Vec::new());
    for path in parts.iter().filter(|part| part.is_dir()).map(|part| entries(part)).collect::<Result<Vec<_>>>()?.concat() {
        let ending = path.extension().and_then(|ending| ending.to_str());
        let is_inner = path.is_dir() && path.parent() != Some(folder.root());
        match ending {
            Some("old") if is_inner && !path.with_extension("").exists() => {
                std::fs::rename(&path, path.with_extension("")).with_context(|| format!("cannot rename {}", path.display()))?;
                restored.push(relative(folder, &path.with_extension("")));
            }
            _ if ending == Some("partial") || (is_inner && (ending == Some("old") || entries(&path)?.is_empty())) => {
                remove(&path)?;
                deleted.push(relative(folder, &path));
            }
            _ => {}
        }
    }
    let part = |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")));
    let parts = [part("deleted", &deleted), part("restored", &restored)].into_iter().flatten().collect::<Vec<_>>();
    Ok((!parts.is_empty()).then(|| format!("cleaned up after a killed run: {}", parts.join("; "))))
}

/// Writes the metrics line of a step whose evaluation is pending to its checkpoint state.
///
/// # Errors
/// If the file cannot be written.
pub fn save_line(state: &Path, line: &Map<String, Value>) -> Result<()> {
    write_file(&state.join(LINE), serde_json::to_string(line)?.as_bytes())
}

/// True if a checkpoint state has the metrics line of a step whose evaluation is pending.
pub fn has_line(state: &Path) -> bool {
    state.join(LINE).exists()
}

/// Reads the line that [`save_line`] wrote; `None` if the step is complete.
///
/// # Errors
/// If the file cannot be read or parsed.
pub fn read_line(state: &Path) -> Result<Option<Map<String, Value>>> {
    let path = state.join(LINE);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).map(Some).with_context(|| format!("{} is corrupt", path.display()))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("cannot read {}", folder.display());
    let mut paths = std::fs::read_dir(folder)
        .with_context(reading)?
        .map(|entry| Ok(entry.with_context(reading)?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

fn relative(folder: &RunFolder, path: &Path) -> String {
    path.strip_prefix(folder.root()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::RunSettings;

    #[test]
    fn clean_up_deletes_partial_files_and_restores_folders_without_successor() {
        let root = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&root.path().join("run"), &RunSettings::demonstration()).unwrap();
        assert_eq!(clean_up(&run).unwrap(), None);
        let file = |name: &str| {
            let path = run.root().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, name).unwrap();
        };
        ["checkpoints/best.old/step", "checkpoints/00004.partial/config.json", "eval/00002.old/scores.json", "eval/00002/scores.json"]
            .iter()
            .chain(&["config.toml.partial", "rollouts/00003.jsonl.gz.partial", "rollouts/00002.jsonl.gz"])
            .for_each(|name| file(name));
        std::fs::create_dir(run.root().join("eval/00003")).unwrap();
        let message = clean_up(&run).unwrap().unwrap();
        assert_eq!(
            message,
            "cleaned up after a killed run: deleted config.toml.partial, checkpoints/00004.partial, eval/00002.old, eval/00003, \
             rollouts/00003.jsonl.gz.partial; restored checkpoints/best"
        );
        assert!(run.best().join("step").exists() && run.eval(2).join("scores.json").exists() && run.rollouts(2).exists());
        assert_eq!(clean_up(&run).unwrap(), None);
    }
}
