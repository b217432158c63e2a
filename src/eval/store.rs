//! An evaluation's folder: graded responses as they come, so that one that is stopped goes on where it was, and in the order of the problems when
//! a pass is complete, so that the files do not depend on how it came about.
//!
//! `PASS.jsonl` is a complete pass, `PASS.jsonl.unfinished` one in progress, `conditions.json` says what all of it was measured under, and
//! `scores.json` what it adds up to. A finished evaluation has a `manifest.json`.

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

/// The folder of one evaluation.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    /// Held as long as any copy of this lives.
    _lock: Arc<FolderLock>,
}

/// Answers by problem and sample.
pub type Earlier = HashMap<(String, usize), Answer>;

impl Store {
    /// A new folder.
    ///
    /// # Errors
    /// When it exists: nothing is overwritten.
    pub fn create(folder: &Path, conditions: &BTreeMap<String, Conditions>) -> Result<Self> {
        Self::ensure_free(folder)?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let store = Self { folder: folder.to_owned(), _lock: Arc::new(FolderLock::take(folder)?) };
        // Another one may have begun and ended since the first look.
        Self::ensure_free(folder)?;
        store.write_conditions(conditions)?;
        Ok(store)
    }

    /// A folder that is to be made does not exist, or is empty.
    ///
    /// # Errors
    /// When it holds anything; the message says how to go on with it.
    pub fn ensure_free(folder: &Path) -> Result<()> {
        ensure!(
            !folder.exists() || is_empty(folder),
            "{} exists already and is left as it is: choose another --out, or go on with it by --resume",
            folder.display()
        );
        Ok(())
    }

    /// Goes on with a folder, or begins it where there is none.
    ///
    /// # Errors
    /// When it holds answers that were given under other conditions, or is no evaluation's folder.
    pub fn resume(folder: &Path, conditions: &BTreeMap<String, Conditions>) -> Result<Self> {
        if !folder.exists() || is_empty(folder) {
            return Self::create(folder, conditions);
        }
        let lock = Arc::new(FolderLock::take(folder)?);
        let mut all = read_conditions(folder)?.with_context(|| {
            format!("{} is no evaluation that can go on: it has no conditions.json; choose another --out", folder.display())
        })?;
        for (pass, ours) in conditions {
            let different = all.get(pass).map(|theirs| ours.differences(theirs)).unwrap_or_default();
            ensure!(
                different.is_empty(),
                "{} was made under other conditions ({pass}: {}): give the same arguments, or choose another --out",
                folder.display(),
                different.join("; ")
            );
        }
        // Answers of a finished evaluation are used again only as they were written; the manifest comes back at the end.
        manifest::check(folder)?;
        manifest::remove(folder)?;
        all.extend(conditions.clone());
        let store = Self { folder: folder.to_owned(), _lock: lock };
        store.write_conditions(&all)?;
        Ok(store)
    }

    /// What was answered before, whether the pass is complete or not.
    pub fn earlier(&self, pass: &str) -> Result<Earlier> {
        let mut earlier = Earlier::new();
        for path in [self.unfinished(pass), self.complete(pass)].into_iter().filter(|path| path.exists()) {
            let answers: Vec<Answer> = jsonl::read(&path)?;
            earlier.extend(answers.into_iter().map(|answer| ((answer.id.clone(), answer.sample), answer)));
        }
        Ok(earlier)
    }

    /// The file that answers are appended to as they come, with those in it that came before.
    pub fn journal<'a>(&self, pass: &str, earlier: impl Iterator<Item = &'a Answer>) -> Result<JsonLines> {
        let path = self.unfinished(pass);
        write_lines(&path, earlier)?;
        JsonLines::append(&path)
    }

    /// Whether the pass has its final file, and nothing else.
    pub fn is_complete(&self, pass: &str) -> bool {
        self.complete(pass).exists() && !self.unfinished(pass).exists()
    }

    /// Puts a complete pass in the order of its problems.
    pub fn finish(&self, pass: &str, answers: &[Answer]) -> Result<()> {
        write_lines(&self.complete(pass), answers.iter())?;
        let unfinished = self.unfinished(pass);
        std::fs::remove_file(&unfinished).with_context(|| format!("cannot remove {}", unfinished.display()))
    }

    /// Writes the scores of passes, beside those of passes that an earlier call made: the evaluation is finished, and gets its manifest.
    pub fn write_scores(&self, scores: BTreeMap<String, Score>) -> Result<()> {
        let path = self.folder.join("scores.json");
        let mut all: BTreeMap<String, Score> = match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display()))?,
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

/// A folder without entries but a lock: an evaluation that was killed as it began leaves one.
fn is_empty(folder: &Path) -> bool {
    let is_lock = |entry: std::io::Result<std::fs::DirEntry>| entry.is_ok_and(|entry| entry.file_name() == lock::FILE);
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.all(is_lock))
}

/// Writes `conditions.json`.
pub fn write_conditions(folder: &Path, conditions: &BTreeMap<String, Conditions>) -> Result<()> {
    write_file(&folder.join("conditions.json"), serde_json::to_string_pretty(conditions)?.as_bytes())
}

/// Reads `conditions.json`, by pass; none where there is no such file. Names that have changed since are today's.
pub fn read_conditions(folder: &Path) -> Result<Option<BTreeMap<String, Conditions>>> {
    let path = folder.join("conditions.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut all: BTreeMap<String, Conditions> = serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display()))?;
    all.values_mut().for_each(|conditions| conditions.identity.use_todays_names());
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
