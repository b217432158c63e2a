//! Finds training examples by name: the paper's pi_k, the DSR-sub subset that they come from, and the user's own files.
//!
//! Independent of how often a batch repeats an example and how its prompt is rendered.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::gold::{Gold, Tally};
use super::rows::{self, Row};
use super::store::DataStore;
use super::verl::{self, Contents, Indexed};
use super::{pinned, ranking};
use crate::flow::Problem;

pub use super::verl::PUBLISHED_INSTRUCTION;

/// The number of examples that the paper ranks: pi1 to pi1209.
pub const RANKED_EXAMPLES: usize = 1209;

/// The prefixes of `dsr-sub/INDEX`, the name of a row of the subset: as users type it, and as runs record it.
const ROW_PREFIXES: [&str; 2] = ["dsr-sub/", "dsr_sub/"];
/// The id of an inline problem without an `id`.
const INLINE: &str = "inline";
/// The number of characters of a question in a heading.
const HEADING_LENGTH: usize = 80;
/// File extensions that can hold examples.
const EXTENSIONS: [&str; 4] = ["jsonl", "json", "toml", "parquet"];
const EXPECTED: &str = "expected pi1 to pi1209, a range such as pi1..pi16, dsr-sub (all 1,209), dsr-sub/124 (its row with that index), or a \
                           file that ends in .jsonl, .json, .toml or .parquet; separate several with commas";

/// Returns the specification of an inline problem, `{"question": "...", "answer": "..."}`, which is accepted wherever a name is. `answer`
/// may be `None` if no reward needs a label.
pub fn inline(question: &str, answer: Option<&str>) -> String {
    let mut problem = serde_json::json!({"question": question});
    answer.into_iter().for_each(|answer| problem["answer"] = answer.into());
    problem.to_string()
}

/// Returns a short name for a specification: an inline problem's `id` (by default `inline`), or the specification itself.
pub fn title(specification: &str) -> String {
    titled_problem(specification).map_or_else(|| specification.to_owned(), |problem| problem.id)
}

/// Returns a specification for a heading: an inline problem's question in quotes, cut after 80 characters, or the specification itself.
pub fn heading(specification: &str) -> String {
    let Some(problem) = titled_problem(specification) else { return specification.to_owned() };
    let question: Vec<&str> = problem.question.split_whitespace().collect();
    let question = question.join(" ");
    match question.char_indices().nth(HEADING_LENGTH) {
        Some((end, _)) => format!("“{}…”", question[..end].trim_end()),
        None => format!("“{question}”"),
    }
}

/// Returns the problem of a specification that is an inline problem, and a sound one.
fn titled_problem(specification: &str) -> Option<Problem> {
    let row = is_inline(specification).then(|| rows::read_inline(specification))?.ok()?;
    row.question(INLINE).ok().map(|(problem, _)| problem)
}

/// Whether a row must have an answer to become a problem.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Labels {
    Required,
    Optional,
}

/// Loads the problems that a specification lists: names and files separated by commas, or one [`inline`] problem. Each problem appears
/// once, in the order given.
///
/// # Errors
/// If a name is unknown (the message lists the known ones), a file is missing and cannot be downloaded, a row is not a problem (the message
/// names file and line), or two different problems share an id.
pub fn resolve(specification: &str, store: &DataStore) -> Result<Vec<Problem>> {
    resolve_with(Labels::Required, specification, store)
}

/// Like [`resolve`], for rewards that need no label: a row without an answer in a user's file becomes a problem with an empty answer.
///
/// # Errors
/// As for [`resolve`], except that answers may be missing.
pub fn resolve_unlabeled(specification: &str, store: &DataStore) -> Result<Vec<Problem>> {
    resolve_with(Labels::Optional, specification, store)
}

fn resolve_with(labels: Labels, specification: &str, store: &DataStore) -> Result<Vec<Problem>> {
    if is_inline(specification) {
        return inline_problem(labels, specification);
    }
    // A file name may contain commas.
    if is_file_name(specification) && Path::new(specification).is_file() {
        return from_file_with(labels, Path::new(specification));
    }
    // Parse every name before reading any file, so that a typo costs no download.
    let names: Vec<Name> = specification.split(',').map(|name| Name::parse(name.trim())).collect::<Result<_>>()?;
    let mut subset = Subset { store, labels, problems: None, ranking: None };
    let mut problems: Vec<Problem> = Vec::new();
    for name in names {
        for problem in name.problems(&mut subset)? {
            match problems.iter().find(|known| known.id == problem.id) {
                None => problems.push(problem),
                Some(known) if *known == problem => {}
                Some(_) => {
                    bail!("{specification} has two different problems with the id {:?}: change the id of one", problem.id)
                }
            }
        }
    }
    Ok(problems)
}

/// Checks a specification without downloading anything and returns its number of examples. Reads users' files, but only parses published
/// names. Counts repeated examples each time.
///
/// With `needs_answers`, every row of a user's file must have an answer.
///
/// # Errors
/// If a name is unknown, or a user's file cannot be read or has a row that is not a problem.
pub fn check(specification: &str, needs_answers: bool) -> Result<usize> {
    let labels = if needs_answers { Labels::Required } else { Labels::Optional };
    if is_inline(specification) {
        return inline_problem(labels, specification).map(|_| 1);
    }
    if is_file_name(specification) && Path::new(specification).is_file() {
        return Ok(from_file_with(labels, Path::new(specification))?.len());
    }
    let count = |name: &str| match Name::parse(name.trim())? {
        Name::File(path) => Ok(from_file_with(labels, path)?.len()),
        Name::Subset => Ok(RANKED_EXAMPLES),
        Name::Row(_) => Ok(1),
        Name::Ranks(first, last) => Ok((last + 1).saturating_sub(first)),
    };
    specification.split(',').map(count).sum()
}

/// Loads the problems of a `.jsonl`, `.json`, `.toml` or `.parquet` file.
///
/// # Errors
/// If the extension is none of these, the file cannot be read, or a row is not a problem. The message names the file and the row.
pub fn from_file(path: &Path) -> Result<Vec<Problem>> {
    from_file_with(Labels::Required, path)
}

fn from_file_with(labels: Labels, path: &Path) -> Result<Vec<Problem>> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("jsonl") => from_rows_with(labels, rows::read_jsonl(path)?, path),
        Some("json" | "toml") => from_rows_with(labels, rows::read_document(path)?, path),
        Some("parquet") => match verl::read(path, labels == Labels::Required)? {
            Contents::Problems(problems) => Ok(problems),
            Contents::Rows(rows) => from_rows_with(labels, rows, path),
        },
        _ => bail!("{}: expected a file name that ends in .{}", path.display(), EXTENSIONS.join(", .")),
    }
}

/// Converts the rows of a user's file into problems. The default id is the file's name, followed by `/` and the row's number if there are
/// several rows.
pub(super) fn of_rows(rows: Vec<Row>, path: &Path) -> Result<Vec<Problem>> {
    from_rows_with(Labels::Required, rows, path)
}

fn from_rows_with(labels: Labels, rows: Vec<Row>, path: &Path) -> Result<Vec<Problem>> {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let single = rows.len() == 1;
    let mut locations = std::collections::HashMap::new();
    let mut problems = Vec::with_capacity(rows.len());
    let mut tally = Tally::default();
    for row in rows {
        let default_id = if single { name.clone() } else { format!("{name}/{}", row.number) };
        let (problem, gold) = labels.problem(&row, &default_id)?;
        tally.count(&gold, &row.location);
        if let Some(first) = locations.insert(problem.id.clone(), row.location.clone()) {
            bail!("{}: duplicate id {:?} (first used in {first}); ids must be unique", row.location, problem.id);
        }
        problems.push(problem);
    }
    tally.messages().iter().for_each(|message| message!("{}: {message}", path.display()));
    Ok(problems)
}

impl Labels {
    fn problem(self, row: &Row, default_id: &str) -> Result<(Problem, Gold)> {
        match self {
            Self::Required => row.problem(default_id),
            Self::Optional => row.question(default_id),
        }
    }
}

fn inline_problem(labels: Labels, specification: &str) -> Result<Vec<Problem>> {
    let row = rows::read_inline(specification)?;
    let has_answer = ["answer", "answerKey"].iter().any(|field| row.fields.get(field).is_some());
    ensure!(
        has_answer || matches!(labels, Labels::Optional),
        "the question has no answer: give one with --answer, or choose a reward that needs none"
    );
    Ok(vec![labels.problem(&row, INLINE)?.0])
}

fn is_inline(specification: &str) -> bool {
    specification.trim_start().starts_with('{')
}

/// One of the comma-separated names in a specification.
enum Name<'a> {
    Subset,
    /// The row of the subset with this `extra_info.index`.
    Row(u64),
    /// The first and the last rank, inclusive.
    Ranks(usize, usize),
    File(&'a Path),
}

impl<'a> Name<'a> {
    fn parse(name: &'a str) -> Result<Self> {
        if name == "dsr-sub" {
            return Ok(Self::Subset);
        }
        if let Some(index) = ROW_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)?.parse().ok()) {
            return Ok(Self::Row(index));
        }
        if let Some((first, last)) = ranks(name)? {
            return Ok(Self::Ranks(first, last));
        }
        if is_file_name(name) {
            return Ok(Self::File(Path::new(name)));
        }
        bail!("unknown example {name:?}; {EXPECTED}")
    }

    fn problems(&self, subset: &mut Subset) -> Result<Vec<Problem>> {
        match *self {
            Self::Subset => Ok(subset.problems()?.iter().map(|(_, problem)| problem.clone()).collect()),
            Self::Row(index) => Ok(vec![subset.row(index)?.clone()]),
            Self::Ranks(first, last) => (first..=last).map(|rank| subset.ranked(rank)).collect(),
            Self::File(path) => from_file_with(subset.labels, path),
        }
    }
}

fn is_file_name(name: &str) -> bool {
    Path::new(name).extension().and_then(|ending| ending.to_str()).is_some_and(|ending| EXTENSIONS.contains(&ending))
}

/// Parses `pi13` or `pi1..pi16` into its first and last rank, inclusive. `None` if the name has another form.
fn ranks(name: &str) -> Result<Option<(usize, usize)>> {
    let rank = |text: &str| {
        let digits = text.strip_prefix("pi")?;
        digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let (first, last) = name.split_once("..").unwrap_or((name, name));
    let (Some(first), Some(last)) = (rank(first), rank(last)) else { return Ok(None) };
    if first < 1 || last > RANKED_EXAMPLES || first > last {
        bail!("{name} is not in the ranking; {EXPECTED}");
    }
    Ok(Some((first, last)))
}

/// The published subset and its ranking, both loaded on first use.
struct Subset<'a> {
    store: &'a DataStore,
    /// Whether rows of users' files need answers.
    labels: Labels,
    problems: Option<Vec<Indexed>>,
    ranking: Option<Vec<u64>>,
}

impl Subset<'_> {
    fn problems(&mut self) -> Result<&[Indexed]> {
        let problems = match self.problems.take() {
            Some(problems) => problems,
            None => verl::read_published(&self.store.path(&pinned::DSR_SUB)?)?,
        };
        Ok(self.problems.insert(problems))
    }

    fn ranked(&mut self, rank: usize) -> Result<Problem> {
        let index = match ranking::published_index(rank) {
            Some(index) => index,
            None => self.ranking()?.get(rank - 1).copied().with_context(|| format!("the ranking has no pi{rank}"))?,
        };
        let problem = self.row(index)?;
        if problem.answer.trim().is_empty() {
            tracing::warn!("pi{rank} has no label in the published subset, so every response to it counts as wrong");
        }
        Ok(Problem { id: format!("pi{rank}"), ..problem.clone() })
    }

    fn row(&mut self, index: u64) -> Result<&Problem> {
        let found = self.problems()?.iter().find(|(known, _)| *known == Some(index));
        found.map(|(_, problem)| problem).ok_or_else(|| anyhow!("the subset has no row {index}; {EXPECTED}"))
    }

    fn ranking(&mut self) -> Result<&[u64]> {
        let ranking = match self.ranking.take() {
            Some(ranking) => ranking,
            None => {
                let history = ranking::read_history(&self.store.path(&pinned::ACCURACY_HISTORY)?)?;
                ranking::rank_by_std(&history).into_iter().map(|ranked| *ranked.example).collect()
            }
        };
        Ok(self.ranking.insert(ranking))
    }
}

#[cfg(test)]
mod tests;
