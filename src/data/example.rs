//! Training examples by name: pi_k of the paper, the subset that they are from, and files of the user's own. It owns how names are read; it
//! must never know how often an example is repeated in a batch or how it is asked.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use super::gold::{Gold, Tally};
use super::library::Library;
use super::rows::{self, Row};
use super::verl::{self, Contents, Indexed};
use super::{pinned, ranking};
use crate::flow::Problem;

pub use super::verl::PUBLISHED_INSTRUCTION;

/// How many examples the paper ranks: pi1 to pi1209.
pub const RANKED: usize = 1209;

/// The subset's rows by index: as people write them, and as runs record them.
const ROW_PREFIXES: [&str; 2] = ["dsr-sub/", "dsr_sub/"];
/// The name of a problem that is written out.
const INLINE: &str = "inline";
/// Endings of files that hold examples.
const ENDINGS: [&str; 4] = ["jsonl", "json", "toml", "parquet"];
const KNOWN: &str = "known are pi1 to pi1209, ranges such as pi1..pi16, dsr-sub (all 1,209), dsr-sub/124 (its row of that index), and files \
                     that end in .jsonl, .json, .toml or .parquet; several go with commas between them";

/// A problem that is written out in place of a name, `{"question": "...", "answer": "..."}`: a specification like any other. The answer may be
/// missing where no reward needs it.
pub fn inline(question: &str, answer: Option<&str>) -> String {
    let mut problem = serde_json::json!({"question": question});
    answer.into_iter().for_each(|answer| problem["answer"] = answer.into());
    problem.to_string()
}

/// What people call a specification: itself, or `inline` (or its own id) for one that is written out.
pub fn title(specification: &str) -> String {
    let written_out = is_inline(specification).then(|| rows::read_inline(specification)).and_then(Result::ok);
    let problem = written_out.and_then(|row| row.question(INLINE).ok());
    problem.map_or_else(|| specification.to_owned(), |(problem, _)| problem.id)
}

/// How a row becomes a problem: with an answer, or where it may be missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Answers,
    Questions,
}

/// The problems that a specification names: names and files separated by commas, each problem once, in the order given; or one problem that is
/// written out ([`inline`]).
///
/// # Errors
/// When a name is unknown (known ones are listed), a file cannot be had, or a row is not a problem (file and line are named).
pub fn resolve(specification: &str, library: &Library) -> Result<Vec<Problem>> {
    resolve_by(Reading::Answers, specification, library)
}

/// As [`resolve`], for rewards that need no label: rows of users' files without an answer are problems with an empty one.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_questions(specification: &str, library: &Library) -> Result<Vec<Problem>> {
    resolve_by(Reading::Questions, specification, library)
}

fn resolve_by(read: Reading, specification: &str, library: &Library) -> Result<Vec<Problem>> {
    if is_inline(specification) {
        return written_out(read, specification);
    }
    // A file's name may have commas in it.
    if is_file_name(specification) && Path::new(specification).is_file() {
        return from_file_by(read, Path::new(specification));
    }
    // Every name is read before the first file is: a typing mistake costs no download.
    let names: Vec<Name> = specification.split(',').map(|name| Name::parse(name.trim())).collect::<Result<_>>()?;
    let mut subset = Subset { library, read, problems: None, ranking: None };
    let mut problems: Vec<Problem> = Vec::new();
    for name in names {
        for problem in name.problems(&mut subset)? {
            match problems.iter().find(|known| known.id == problem.id) {
                None => problems.push(problem),
                Some(known) if *known == problem => {}
                Some(_) => {
                    bail!("{specification} has two different problems of the name {:?}: give one of them another \"id\"", problem.id)
                }
            }
        }
    }
    Ok(problems)
}

/// How many examples a specification names, as far as can be said without a download: names are known, files are read.
///
/// # Errors
/// As [`resolve`].
pub fn check(specification: &str, needs_answers: bool) -> Result<usize> {
    let read = if needs_answers { Reading::Answers } else { Reading::Questions };
    if is_inline(specification) {
        return written_out(read, specification).map(|_| 1);
    }
    if is_file_name(specification) && Path::new(specification).is_file() {
        return Ok(from_file_by(read, Path::new(specification))?.len());
    }
    let count = |name: &str| match Name::parse(name.trim())? {
        Name::File(path) => Ok(from_file_by(read, path)?.len()),
        Name::Subset => Ok(RANKED),
        Name::Row(_) => Ok(1),
        Name::Ranks(first, last) => Ok((last + 1).saturating_sub(first)),
    };
    specification.split(',').map(count).sum()
}

/// The problems of a file, by its ending.
///
/// # Errors
/// As [`resolve`].
pub fn from_file(path: &Path) -> Result<Vec<Problem>> {
    from_file_by(Reading::Answers, path)
}

fn from_file_by(read: Reading, path: &Path) -> Result<Vec<Problem>> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("jsonl") => of_rows_by(read, rows::read_jsonl(path)?, path),
        Some("json" | "toml") => of_rows_by(read, rows::read_document(path)?, path),
        Some("parquet") => match verl::read(path, read == Reading::Answers)? {
            Contents::Problems(problems) => Ok(problems),
            Contents::Rows(rows) => of_rows_by(read, rows, path),
        },
        _ => bail!("{}: expected a file that ends in .{}", path.display(), ENDINGS.join(", .")),
    }
}

/// Rows in users' spelling; a row without an id is named after file and row, a single row after the file.
pub(super) fn of_rows(rows: Vec<Row>, path: &Path) -> Result<Vec<Problem>> {
    of_rows_by(Reading::Answers, rows, path)
}

fn of_rows_by(read: Reading, rows: Vec<Row>, path: &Path) -> Result<Vec<Problem>> {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let single = rows.len() == 1;
    let mut places = std::collections::HashMap::new();
    let mut problems = Vec::with_capacity(rows.len());
    let mut tally = Tally::default();
    for row in rows {
        let default_id = if single { name.clone() } else { format!("{name}/{}", row.number) };
        let (problem, gold) = read.problem(&row, &default_id)?;
        tally.count(&gold, &row.place);
        if let Some(first) = places.insert(problem.id.clone(), row.place.clone()) {
            bail!("{}: the id {:?} is taken already ({first}); ids must differ", row.place, problem.id);
        }
        problems.push(problem);
    }
    tally.sentences().iter().for_each(|sentence| tell!("{}: {sentence}", path.display()));
    Ok(problems)
}

impl Reading {
    fn problem(self, row: &Row, default_id: &str) -> Result<(Problem, Gold)> {
        match self {
            Self::Answers => row.problem(default_id),
            Self::Questions => row.question(default_id),
        }
    }
}

fn written_out(read: Reading, specification: &str) -> Result<Vec<Problem>> {
    Ok(vec![read.problem(&rows::read_inline(specification)?, INLINE)?.0])
}

fn is_inline(specification: &str) -> bool {
    specification.trim_start().starts_with('{')
}

/// What one name between commas stands for.
enum Name<'a> {
    Subset,
    /// The subset's row of this index.
    Row(u64),
    /// First and last rank, both included.
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
        bail!("no example is called {name:?}: {KNOWN}")
    }

    fn problems(&self, subset: &mut Subset) -> Result<Vec<Problem>> {
        match *self {
            Self::Subset => Ok(subset.problems()?.iter().map(|(_, problem)| problem.clone()).collect()),
            Self::Row(index) => Ok(vec![subset.row(index)?.clone()]),
            Self::Ranks(first, last) => (first..=last).map(|rank| subset.ranked(rank)).collect(),
            Self::File(path) => from_file_by(subset.read, path),
        }
    }
}

fn is_file_name(name: &str) -> bool {
    Path::new(name).extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ENDINGS.contains(&ending))
}

/// `pi13` or `pi1..pi16`, both ends included; none when it is neither.
fn ranks(name: &str) -> Result<Option<(usize, usize)>> {
    let rank = |text: &str| {
        let digits = text.strip_prefix("pi")?;
        digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let (first, last) = name.split_once("..").unwrap_or((name, name));
    let (Some(first), Some(last)) = (rank(first), rank(last)) else { return Ok(None) };
    if first < 1 || last > RANKED || first > last {
        bail!("{name} is not in the ranking: {KNOWN}");
    }
    Ok(Some((first, last)))
}

/// The published subset and its ranking, each read when first needed.
struct Subset<'a> {
    library: &'a Library,
    /// How rows of users' files are read.
    read: Reading,
    problems: Option<Vec<Indexed>>,
    ranking: Option<Vec<u64>>,
}

impl Subset<'_> {
    fn problems(&mut self) -> Result<&[Indexed]> {
        let problems = match self.problems.take() {
            Some(problems) => problems,
            None => verl::read_published(&self.library.path(&pinned::DSR_SUB)?)?,
        };
        Ok(self.problems.insert(problems))
    }

    fn ranked(&mut self, rank: usize) -> Result<Problem> {
        let index = match ranking::published(rank) {
            Some(index) => index,
            None => self.ranking()?.get(rank - 1).copied().with_context(|| format!("the ranking has no pi{rank}"))?,
        };
        let problem = self.row(index)?;
        if problem.answer.trim().is_empty() {
            tracing::warn!("pi{rank} has no label in the published subset: no answer to it can be right");
        }
        Ok(Problem { id: format!("pi{rank}"), ..problem.clone() })
    }

    fn row(&mut self, index: u64) -> Result<&Problem> {
        let found = self.problems()?.iter().find(|(own, _)| *own == Some(index));
        found.map(|(_, problem)| problem).ok_or_else(|| anyhow!("the subset has no row {index}: {KNOWN}"))
    }

    fn ranking(&mut self) -> Result<&[u64]> {
        let ranking = match self.ranking.take() {
            Some(ranking) => ranking,
            None => {
                let history = ranking::read_history(&self.library.path(&pinned::ACCURACY_HISTORY)?)?;
                ranking::by_deviation(&history).into_iter().map(|ranked| *ranked.example).collect()
            }
        };
        Ok(self.ranking.insert(ranking))
    }
}

#[cfg(test)]
mod tests;
