//! What a process that was stopped leaves in a run's folder. One that was killed: a file or folder half written (`*.partial`), or about to be
//! replaced (`*.old`). One that a signal stopped in an evaluation: the line of metrics of a step whose updates are done, in the state of that step,
//! until the evaluation is made and the line is written.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::checkpoint::write_file;
use crate::train::folder::RunFolder;

/// A file of the state that a run resumes from.
const LINE: &str = "line.json";

/// Removes what was half written, and gives what was about to be replaced its name again where nothing took its place. Gives a line that says
/// so, or none where there was nothing.
///
/// # Errors
/// When something cannot be read, renamed or removed.
pub fn tidy(folder: &RunFolder) -> Result<Option<String>> {
    let parts = ["", "checkpoints", "eval", "rollouts"].map(|part| folder.root().join(part));
    let (mut removed, mut put_back) = (Vec::new(), Vec::new());
    for path in parts.iter().filter(|part| part.is_dir()).map(|part| entries(part)).collect::<Result<Vec<_>>>()?.concat() {
        let ending = path.extension().and_then(|ending| ending.to_str());
        let is_inner = path.is_dir() && path.parent() != Some(folder.root());
        match ending {
            Some("old") if is_inner && !path.with_extension("").exists() => {
                std::fs::rename(&path, path.with_extension("")).with_context(|| format!("cannot rename {}", path.display()))?;
                put_back.push(shown(folder, &path.with_extension("")));
            }
            _ if ending == Some("partial") || (is_inner && (ending == Some("old") || entries(&path)?.is_empty())) => {
                remove(&path)?;
                removed.push(shown(folder, &path));
            }
            _ => {}
        }
    }
    let told = |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")));
    let told = [told("removed", &removed), told("put back", &put_back)].into_iter().flatten().collect::<Vec<_>>();
    Ok((!told.is_empty()).then(|| format!("left by a run that was killed: {}", told.join("; "))))
}

/// Writes the line of an unfinished step into a state's folder.
pub fn save_line(state: &Path, line: &Map<String, Value>) -> Result<()> {
    write_file(&state.join(LINE), serde_json::to_string(line)?.as_bytes())
}

/// Whether a state has the line of an unfinished step.
pub fn has_line(state: &Path) -> bool {
    state.join(LINE).exists()
}

/// Reads what [`save_line`] wrote; none where the step of this state is complete.
pub fn read_line(state: &Path) -> Result<Option<Map<String, Value>>> {
    let path = state.join(LINE);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).map(Some).with_context(|| format!("{} is broken", path.display()))
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

fn shown(folder: &RunFolder, path: &Path) -> String {
    path.strip_prefix(folder.root()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::RunSettings;

    #[test]
    fn tidy_removes_what_is_half_written_and_puts_back_what_has_no_successor() {
        let root = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&root.path().join("run"), &RunSettings::demonstration()).unwrap();
        assert_eq!(tidy(&run).unwrap(), None);
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
        let told = tidy(&run).unwrap().unwrap();
        assert_eq!(
            told,
            "left by a run that was killed: removed config.toml.partial, checkpoints/00004.partial, eval/00002.old, eval/00003, \
             rollouts/00003.jsonl.gz.partial; put back checkpoints/best"
        );
        assert!(run.best().join("step").exists() && run.eval(2).join("scores.json").exists() && run.rollouts(2).exists());
        assert_eq!(tidy(&run).unwrap(), None);
    }
}
