//! The graded responses of a run's milestones: where each is in its file, and what a list shows of it. Texts stay in the files, so a
//! hundred thousand responses fit in little memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::eval::Answer;
use crate::input::LINE_BYTES;
use crate::report::RunRecord;

/// What the record of a response says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The boxed answer is correct.
    Correct,
    /// The answer is correct but not boxed; it counts as wrong.
    Unboxed,
    /// The boxed answer is wrong.
    Wrong,
    /// There is no boxed answer.
    NoAnswer,
    /// The prompt did not fit the context length.
    TooLong,
}

/// A response in its file.
#[derive(Clone, Copy, Debug)]
pub struct Location {
    offset: u64,
    bytes: u32,
    /// What the record says.
    pub outcome: Outcome,
}

/// The responses to one problem with one sample index, at each milestone.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The index of the pass in [`Recorded::passes`].
    pub pass: usize,
    /// The problem's id.
    pub id: String,
    /// The index of the response among those to the same problem.
    pub sample: usize,
    /// The problem's subject; may be empty.
    pub subject: String,
    /// The problem's level; may be empty.
    pub level: String,
    /// The response at each milestone; `None` where the problem was not evaluated.
    pub at: Vec<Option<Location>>,
}

/// All graded responses of a run at some steps.
#[derive(Debug)]
pub struct Recorded {
    /// The steps, in order.
    pub steps: Vec<u64>,
    /// The names of the passes.
    pub passes: Vec<String>,
    /// The responses, in the order of the passes and the problems.
    pub entries: Vec<Entry>,
    /// What cannot be read, one sentence each.
    pub missing: Vec<String>,
    folders: Vec<PathBuf>,
}

impl Entry {
    /// True if the problem was evaluated at the first and last milestones, and only one of the responses is correct.
    pub fn changed(&self) -> bool {
        let is_correct = |location: &Option<Location>| location.map(|location| location.outcome == Outcome::Correct);
        let both = self.at.first().and_then(is_correct).zip(self.at.last().and_then(is_correct));
        both.is_some_and(|(first, last)| first != last)
    }
}

impl Recorded {
    /// Reads the places of all responses at some steps.
    pub fn read(run: &RunRecord, steps: &[u64]) -> Self {
        let passes: Vec<String> = run.passes().into_iter().map(str::to_owned).collect();
        let folders: Vec<PathBuf> = steps.iter().map(|step| run.folder.eval(*step)).collect();
        let files: Vec<(usize, usize)> = (0..passes.len()).flat_map(|pass| (0..steps.len()).map(move |step| (pass, step))).collect();
        let read: Vec<_> = files
            .par_iter()
            .map(|(pass, step)| match run.evaluation(steps[*step]) {
                Some(evaluation) if !evaluation.scores.contains_key(&passes[*pass]) => Ok(Scan::default()),
                _ => scan(&file(&folders[*step], &passes[*pass])),
            })
            .collect();
        let mut recorded = Self { steps: steps.to_vec(), passes, entries: Vec::new(), missing: Vec::new(), folders };
        let mut known: HashMap<(usize, String, usize), usize> = HashMap::new();
        for ((pass, step), scanned) in files.into_iter().zip(read) {
            match scanned {
                Ok(scanned) => recorded.add(&mut known, pass, step, scanned),
                Err(error) => recorded.missing.push(format!("{error:#}")),
            }
        }
        recorded
    }

    /// Reads the full record of a response.
    ///
    /// # Errors
    /// If the file cannot be read, or the record is not a graded response.
    pub fn answer(&self, entry: &Entry, milestone: usize, location: Location) -> Result<Answer> {
        read_answer(&file(&self.folders[milestone], &self.passes[entry.pass]), location)
    }

    fn add(&mut self, known: &mut HashMap<(usize, String, usize), usize>, pass: usize, step: usize, scanned: Scan) {
        let mut repeated = 0;
        for (brief, location) in scanned.found {
            let index = *known.entry((pass, brief.id.clone(), brief.sample)).or_insert_with(|| {
                let Brief { id, sample, subject, level, .. } = brief;
                self.entries.push(Entry { pass, id, sample, subject, level, at: vec![None; self.steps.len()] });
                self.entries.len() - 1
            });
            match &mut self.entries[index].at[step] {
                Some(_) => repeated += 1,
                place => *place = Some(location),
            }
        }
        let path = file(&self.folders[step], &self.passes[pass]).display().to_string();
        if repeated > 0 {
            self.missing.push(format!("{path} has {repeated} repeated records, which are left out"));
        }
        if scanned.invalid > 0 {
            self.missing.push(format!("{path} has {} lines that are not graded responses, which are left out", scanned.invalid));
        }
    }
}

/// Returns the file of a pass.
fn file(folder: &Path, pass: &str) -> PathBuf {
    folder.join(format!("{pass}.jsonl"))
}

fn read_answer(path: &Path, location: Location) -> Result<Answer> {
    let read = || -> Result<Answer> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(location.offset))?;
        let mut line = vec![0; location.bytes as usize];
        file.read_exact(&mut line)?;
        Ok(serde_json::from_slice(&line)?)
    };
    read().with_context(|| format!("{} has a record that cannot be read, at byte {}", path.display(), location.offset))
}

/// What the list needs of a record. Leaves out the text, which is most of a line.
#[derive(Debug, Deserialize)]
struct Brief {
    id: String,
    #[serde(default)]
    sample: usize,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    level: String,
    #[serde(default)]
    extracted: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    correct: bool,
    #[serde(default)]
    correct_with_fallback: bool,
    #[serde(default)]
    tokens: usize,
    #[serde(default)]
    finish: Option<String>,
}

impl Brief {
    fn outcome(&self) -> Outcome {
        let (is_missing, has_answer) = (self.finish.is_none() && self.tokens == 0, self.extracted.is_some());
        Outcome::from_record(self.correct, self.correct_with_fallback, has_answer, is_missing)
    }
}

impl Outcome {
    /// Returns what a record says.
    pub fn of(answer: &Answer) -> Self {
        let is_missing = answer.finish.is_none() && answer.tokens == 0;
        Self::from_record(answer.correct, answer.correct_with_fallback, answer.extracted.is_some(), is_missing)
    }

    fn from_record(correct: bool, correct_with_fallback: bool, has_answer: bool, is_missing: bool) -> Self {
        match () {
            () if correct => Self::Correct,
            () if correct_with_fallback => Self::Unboxed,
            () if has_answer => Self::Wrong,
            () if is_missing => Self::TooLong,
            () => Self::NoAnswer,
        }
    }
}

/// The responses in a file.
#[derive(Default)]
struct Scan {
    found: Vec<(Brief, Location)>,
    invalid: usize,
}

/// Reads the places of the responses in a file. Skips lines that are not records, and counts them; an incomplete last line does not count.
fn scan(path: &Path) -> Result<Scan> {
    let cannot = || format!("cannot read {}", path.display());
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).with_context(cannot)?);
    let (mut scan, mut line, mut offset) = (Scan::default(), Vec::new(), 0u64);
    loop {
        line.clear();
        let read = (&mut reader).take(LINE_BYTES as u64 + 1).read_until(b'\n', &mut line).with_context(cannot)?;
        ensure!(read <= LINE_BYTES, "{} has a line longer than {LINE_BYTES} bytes, and is left out", path.display());
        if read == 0 {
            return Ok(scan);
        }
        match serde_json::from_slice::<Brief>(&line) {
            Ok(brief) => {
                let location = Location { offset, bytes: read as u32, outcome: brief.outcome() };
                scan.found.push((brief, location));
            }
            Err(_) if line.trim_ascii().is_empty() || line.last() != Some(&b'\n') => {}
            Err(_) => scan.invalid += 1,
        }
        offset += read as u64;
    }
}

/// Reads all records of one problem in a file. Parses only lines that contain the id.
///
/// # Errors
/// If the file cannot be read.
pub fn answers_of(path: &Path, id: &str) -> Result<Vec<Answer>> {
    let cannot = || format!("cannot read {}", path.display());
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).with_context(cannot)?);
    let needle = serde_json::to_string(id)?;
    let (mut found, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if (&mut reader).take(LINE_BYTES as u64).read_until(b'\n', &mut line).with_context(cannot)? == 0 {
            return Ok(found);
        }
        let may_match = std::str::from_utf8(&line).is_ok_and(|line| line.contains(&needle));
        if may_match
            && let Ok(answer) = serde_json::from_slice::<Answer>(&line)
            && answer.id == id
        {
            found.push(answer);
        }
    }
}
