//! Reads the folder of one evaluation, as `rlvr eval --out` writes it, and collects what is missing instead of failing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::eval::store::read_conditions;
use crate::eval::{Answer, Conditions, Score};
use crate::input::{self, TEXT_BYTES};
use crate::metrics::jsonl;

/// The records of one evaluation.
#[derive(Debug)]
pub struct EvaluationRecord {
    folder: PathBuf,
    /// The measurement conditions by pass.
    pub conditions: BTreeMap<String, Conditions>,
    /// The scores of the complete passes; empty while the evaluation runs.
    pub scores: BTreeMap<String, Score>,
}

impl EvaluationRecord {
    /// True if a folder looks like one of an evaluation.
    pub fn is_at(folder: &Path) -> bool {
        folder.join("conditions.json").exists()
    }

    /// Reads an evaluation's folder.
    ///
    /// # Errors
    /// If the folder has no `conditions.json`, or a file is corrupt.
    pub fn read(folder: &Path) -> Result<Self> {
        ensure!(Self::is_at(folder), "{} is not an evaluation folder: it has no conditions.json", folder.display());
        let conditions = read_conditions(folder)?.unwrap_or_default();
        let path = folder.join("scores.json");
        let scores = match input::read_if_exists(&path, TEXT_BYTES)? {
            Some(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{} is corrupt", path.display()))?,
            None => BTreeMap::new(),
        };
        Ok(Self { folder: folder.to_owned(), conditions, scores })
    }

    /// Reads the graded responses of a pass, also of one in progress.
    ///
    /// # Errors
    /// If the file is missing, cannot be read, or has a line that is not a graded response (an incomplete last line is dropped).
    pub fn answers(&self, pass: &str) -> Result<Vec<Answer>> {
        let complete = self.folder.join(format!("{pass}.jsonl"));
        let unfinished = self.folder.join(format!("{pass}.jsonl.unfinished"));
        jsonl::read(if complete.exists() || !unfinished.exists() { &complete } else { &unfinished })
    }
}
