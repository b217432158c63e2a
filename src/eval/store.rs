//! The folder of an evaluation. Graded responses are appended as they arrive, so an interrupted evaluation can resume. Complete passes are
//! rewritten in problem order, so the files do not depend on interruptions.
//!
//! `PASS.jsonl` contains a complete pass, `PASS.jsonl.unfinished` a pass in progress, `conditions.json` the measurement conditions of all
//! passes, and `scores.json` their scores. A finished evaluation has a `manifest.json`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::conditions::Conditions;
use super::record::Answer;
use super::score::Score;
use crate::checkpoint::lock::{self, FolderLock};
use crate::checkpoint::{manifest, stream_file, write_file};
use crate::metrics::{JsonLines, jsonl};

/// The folder of one evaluation, locked against other processes.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    /// Locked as long as any clone exists.
    _lock: Arc<FolderLock>,
}

/// Graded answers by `(problem id, sample)`.
pub type RecordedAnswers = HashMap<(String, usize), Answer>;

impl Store {
    /// Creates a folder for an evaluation and writes its conditions.
    ///
    /// # Errors
    /// If the folder already contains files, is locked, or cannot be written.
    pub fn create(folder: &Path, conditions: &BTreeMap<String, Conditions>) -> Result<Self> {
        Self::ensure_absent(folder)?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let store = Self { folder: folder.to_owned(), _lock: Arc::new(FolderLock::acquire(folder)?) };
        // Another process may have created an evaluation since the first check.
        Self::ensure_absent(folder)?;
        store.write_conditions(conditions)?;
        Ok(store)
    }

    /// Checks that a folder does not exist or is empty.
    ///
    /// # Errors
    /// If it contains files; the message says how to resume.
    pub fn ensure_absent(folder: &Path) -> Result<()> {
        ensure!(
            !folder.exists() || is_empty(folder),
            "{} already exists and is left unchanged: choose another --out, or continue with --resume",
            folder.display()
        );
        Ok(())
    }

    /// Resumes the evaluation in a folder, or creates it if the folder does not exist or is empty.
    ///
    /// # Errors
    /// If the folder is not an evaluation folder, is locked or corrupt, has answers measured under other conditions, or cannot be written.
    pub fn resume(folder: &Path, conditions: &BTreeMap<String, Conditions>) -> Result<Self> {
        if !folder.exists() || is_empty(folder) {
            return Self::create(folder, conditions);
        }
        let lock = Arc::new(FolderLock::acquire(folder)?);
        let mut all = read_conditions(folder)?.with_context(|| {
            format!("{} is not an evaluation folder (it has no conditions.json): choose another --out", folder.display())
        })?;
        for (pass, ours) in conditions {
            let different = all.get(pass).map(|theirs| ours.differences(theirs)).unwrap_or_default();
            ensure!(
                different.is_empty(),
                "{} was measured under other conditions ({pass}: {}): give the same arguments, or choose another --out",
                folder.display(),
                different.join("; ")
            );
        }
        // Reuse answers of a finished evaluation only if they are unchanged. The manifest is rewritten at the end.
        manifest::check(folder)?;
        manifest::remove(folder)?;
        all.extend(conditions.clone());
        let store = Self { folder: folder.to_owned(), _lock: lock };
        store.write_conditions(&all)?;
        Ok(store)
    }

    /// Returns all stored answers of a pass, complete or not.
    ///
    /// # Errors
    /// If a file cannot be read, or a line is not a graded answer.
    pub fn recorded(&self, pass: &str) -> Result<RecordedAnswers> {
        let mut earlier = RecordedAnswers::new();
        for path in [self.unfinished(pass), self.complete(pass)].into_iter().filter(|path| path.exists()) {
            let answers: Vec<Answer> = jsonl::read(&path)?;
            earlier.extend(answers.into_iter().map(|answer| ((answer.id.clone(), answer.sample), answer)));
        }
        Ok(earlier)
    }

    /// Opens the file to which answers are appended as they arrive, starting with the `earlier` ones.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn journal<'a>(&self, pass: &str, earlier: impl Iterator<Item = &'a Answer>) -> Result<JsonLines> {
        let path = self.unfinished(pass);
        write_lines(&path, earlier)?;
        JsonLines::append(&path)
    }

    /// True if the pass has its final file and no unfinished one.
    pub fn is_complete(&self, pass: &str) -> bool {
        self.complete(pass).exists() && !self.unfinished(pass).exists()
    }

    /// Writes a complete pass and removes its unfinished file. `answers` must be in problem order.
    ///
    /// # Errors
    /// If a file cannot be written or removed.
    pub fn finish(&self, pass: &str, answers: &[Answer]) -> Result<()> {
        write_lines(&self.complete(pass), answers.iter())?;
        let unfinished = self.unfinished(pass);
        std::fs::remove_file(&unfinished).with_context(|| format!("cannot remove {}", unfinished.display()))
    }

    /// Adds scores to those of earlier calls, by pass, and finishes the evaluation by writing its manifest.
    ///
    /// # Errors
    /// If `scores.json` is corrupt, or a file cannot be written.
    pub fn write_scores(&self, scores: BTreeMap<String, Score>) -> Result<()> {
        let path = self.folder.join("scores.json");
        let mut all: BTreeMap<String, Score> = match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is corrupt", path.display()))?,
            Err(_) => BTreeMap::new(),
        };
        all.extend(scores);
        write_file(&path, serde_json::to_string_pretty(&all)?.as_bytes())?;
        manifest::write(&self.folder)
    }

    fn write_conditions(&self, conditions: &BTreeMap<String, Conditions>) -> Result<()> {
        write_conditions(&self.folder, conditions)
    }

    fn complete(&self, pass: &str) -> PathBuf {
        self.folder.join(format!("{pass}.jsonl"))
    }

    fn unfinished(&self, pass: &str) -> PathBuf {
        self.folder.join(format!("{pass}.jsonl.unfinished"))
    }
}

/// True if a folder has no files except a lock, which an evaluation leaves behind if it is killed at the start.
fn is_empty(folder: &Path) -> bool {
    let is_lock = |entry: std::io::Result<std::fs::DirEntry>| entry.is_ok_and(|entry| entry.file_name() == lock::FILE);
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.all(is_lock))
}

/// Writes `conditions.json`.
///
/// # Errors
/// If the file cannot be written.
pub fn write_conditions(folder: &Path, conditions: &BTreeMap<String, Conditions>) -> Result<()> {
    write_file(&folder.join("conditions.json"), serde_json::to_string_pretty(conditions)?.as_bytes())
}

/// Reads `conditions.json`, by pass. `None` if there is no such file. Updates renamed values to their current names.
///
/// # Errors
/// If the file cannot be read or is corrupt.
pub fn read_conditions(folder: &Path) -> Result<Option<BTreeMap<String, Conditions>>> {
    let path = folder.join("conditions.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut all: BTreeMap<String, Conditions> = serde_json::from_str(&text).with_context(|| format!("{} is corrupt", path.display()))?;
    all.values_mut().for_each(|conditions| conditions.identity.migrate_names());
    Ok(Some(all))
}

fn write_lines<'a>(path: &Path, answers: impl Iterator<Item = &'a Answer>) -> Result<()> {
    stream_file(path, |out| {
        for answer in answers {
            serde_json::to_writer(&mut *out, answer)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })
}
