//! Benchmarks by name.
//!
//! Each is an entry of [`BENCHMARKS`] with its source, its number of problems, the meaning of its fields, and its decoding. Independent of
//! grading.

mod decoding;

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

pub use self::decoding::Decoding;
use super::fetch::sha256_of;
use super::pinned::Pinned;
use super::rows::{self, Row};
use super::store::DataStore;
use super::{example, gold};
use crate::flow::Problem;

/// A set of problems with published scores.
#[derive(Clone, Copy, Debug)]
pub struct Benchmark {
    /// The name on the command line and in results.
    pub name: &'static str,
    /// The benchmark's tags. A tag is accepted wherever a name is, and selects all benchmarks with that tag. [`PAPER`] marks the sets in
    /// the paper's average.
    pub tags: &'static [&'static str],
    /// Where the problems come from.
    pub source: Source,
    /// The default decoding.
    pub decoding: Decoding,
}

/// Where the problems of a benchmark come from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// A published file, pinned by checksum.
    Pinned {
        /// The file.
        file: Pinned,
        /// The expected number of problems; any other number is an error.
        rows: usize,
        /// The names of a row's fields.
        fields: Fields,
    },
    /// A file that the user provides; no published copy is pinned.
    Own {
        /// The path below the data folder.
        local: &'static str,
        /// True if every answer must be the letter of a choice (multiple choice).
        is_multiple_choice: bool,
    },
}

/// The names of a row's fields, by meaning. Optional ones are `None` if the set lacks them.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// The problem's id; the default is the row's number, from 0.
    id: Option<&'static str>,
    question: &'static str,
    answer: Answer,
    subject: Option<&'static str>,
    level: Option<&'static str>,
    /// The accepted absolute error; a row may omit this field.
    tolerance: Option<&'static str>,
}

/// Where a row stores its gold answer.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// The field itself.
    Text(&'static str),
    /// The content of the last `\boxed{...}` of a written solution.
    Boxed(&'static str),
    /// A list of strings, which are joined with commas.
    List(&'static str),
}

/// The tag of the six sets in the paper's average.
pub const PAPER: &str = "paper";

const FIELDS: Fields =
    Fields { id: Some("id"), question: "problem", answer: Answer::Text("answer"), subject: None, level: None, tolerance: None };

/// A set in the paper's repository, with its number of problems and its checksum.
macro_rules! published {
    ($name:literal, $rows:literal, $sha256:literal, $fields:expr) => {
        Source::Pinned {
            file: Pinned::of_the_paper(
                concat!("Qwen2.5-Eval/evaluation/data/", $name, "/test.jsonl"),
                concat!("test/", $name, "/test.jsonl"),
                $sha256,
            ),
            rows: $rows,
            fields: $fields,
        }
    };
}

/// All benchmarks, in the order of the paper's tables. To add a set, add an entry without the tag [`PAPER`].
pub static BENCHMARKS: &[Benchmark] = &[
    // 500 problems of the MATH test set, each with subject and level.
    Benchmark {
        name: "math500",
        tags: &[PAPER],
        source: published!(
            "math500",
            500,
            "35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132",
            Fields { id: Some("unique_id"), answer: Answer::Boxed("solution"), subject: Some("subject"), level: Some("level"), ..FIELDS }
        ),
        decoding: Decoding::GREEDY,
    },
    // The answers are integers below 1000 with leading zeros.
    Benchmark {
        name: "aime24",
        tags: &[PAPER],
        source: published!("aime24", 30, "af2b8bd2aa911b6333ad0df32f3ca05c7ae8ed10f1731f4372c8ae26990bf7ac", FIELDS),
        decoding: Decoding::AVG_AT_8,
    },
    // The file stores answers as floats; 27.0 is read as `27`.
    Benchmark {
        name: "amc23",
        tags: &[PAPER],
        source: published!("amc23", 40, "43707e1ca784602d8479de24ee8ce36609dbebc46dd152b0b12a46611aa898a4", FIELDS),
        decoding: Decoding::AVG_AT_8,
    },
    // Quantitative problems from university courses; the course is the subject.
    Benchmark {
        name: "minerva_math",
        tags: &[PAPER],
        source: published!(
            "minerva_math",
            272,
            "0e656b430d3a0a1dab6aa853f453ba3805e28e2cabe4fc72486a897cc09d8ba2",
            Fields { id: Some("idx"), answer: Answer::Boxed("solution"), subject: Some("type"), ..FIELDS }
        ),
        decoding: Decoding::GREEDY,
    },
    // English competition problems with verifiable answers. Every answer list has one string; in 94 problems it contains several answers,
    // separated by commas.
    Benchmark {
        name: "olympiadbench",
        tags: &[PAPER],
        source: published!(
            "olympiadbench",
            675,
            "bb8c1e38a16ea9eacb77530315a674d883f267fbff79183effc53681b4fcc416",
            Fields {
                question: "question",
                answer: Answer::List("final_answer"),
                subject: Some("subfield"),
                tolerance: Some("error"),
                ..FIELDS
            }
        ),
        decoding: Decoding::GREEDY,
    },
    // The answers are integers below 1000; one has a degree sign.
    Benchmark {
        name: "aime25",
        tags: &[PAPER],
        source: published!("aime25", 30, "4613b7d3b5346f007625969f4380d932d6a2618fdcc9b89e5d39c7fbddc074b8", Fields { id: None, ..FIELDS }),
        decoding: Decoding::AVG_AT_8,
    },
    // ARC Easy and ARC Challenge, which the paper scores but leaves out of its average.
    Benchmark {
        name: "arc_easy",
        tags: &[],
        source: Source::Own { local: "test/arc_easy/test.jsonl", is_multiple_choice: true },
        decoding: Decoding::GREEDY,
    },
    Benchmark {
        name: "arc_challenge",
        tags: &[],
        source: Source::Own { local: "test/arc_challenge/test.jsonl", is_multiple_choice: true },
        decoding: Decoding::GREEDY,
    },
];

/// Returns the benchmarks with the given names or tags, separated by commas. Each benchmark appears once, in the order given.
///
/// # Errors
/// If a name is unknown. The message lists the known ones.
pub fn select(names: &str) -> Result<Vec<&'static Benchmark>> {
    let mut selected: Vec<&Benchmark> = Vec::new();
    for name in names.split(',').map(str::trim) {
        let found: Vec<&Benchmark> = BENCHMARKS.iter().filter(|benchmark| benchmark.matches_name(name)).collect();
        if found.is_empty() {
            bail!("unknown benchmark {name:?}; expected one of {}", known());
        }
        selected.extend(found.into_iter().filter(|new| !selected.iter().any(|old| old.name == new.name)).collect::<Vec<_>>());
    }
    Ok(selected)
}

/// Returns all names and the tag [`PAPER`], separated by commas, for help texts and errors.
pub fn known() -> String {
    let names: Vec<&str> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
    format!("{}, {PAPER} (the six that the paper averages)", names.join(", "))
}

impl Benchmark {
    /// True if `name` is the benchmark's name or one of its tags.
    pub fn matches_name(&self, name: &str) -> bool {
        self.name == name || self.tags.contains(&name)
    }

    /// Loads the problems in file order. Downloads the file if needed.
    ///
    /// # Errors
    /// If the file is missing and cannot be downloaded, a row is malformed, the number of problems is wrong, or the answer to a
    /// multiple-choice question is not a letter.
    pub fn load(&self, store: &DataStore) -> Result<Vec<Problem>> {
        let (file, expected, fields) = match &self.source {
            Source::Pinned { file, rows, fields } => (file, *rows, fields),
            Source::Own { local, is_multiple_choice } => return self.load_user_file(local, *is_multiple_choice, store),
        };
        let path = store.path(file)?;
        let problems: Vec<Problem> = rows::read_jsonl(&path)?
            .iter()
            .map(|row| row.ensure_complete(self.problem(row, fields)?))
            .collect::<Result<_>>()
            .with_context(|| format!("cannot read benchmark {}", self.name))?;
        if problems.len() != expected {
            bail!("{}: expected {expected} problems, found {}", path.display(), problems.len());
        }
        Ok(problems)
    }

    /// Returns the SHA-256 of the benchmark's file in lowercase hexadecimal, or an empty string if the user has not provided the file.
    ///
    /// # Errors
    /// If the user's file cannot be read.
    pub fn sha256(&self, store: &DataStore) -> Result<String> {
        match self.source {
            Source::Pinned { file, .. } => Ok(file.sha256.to_owned()),
            Source::Own { local, .. } => store.user_file(local).map_or_else(|| Ok(String::new()), |path| sha256_of(&path)),
        }
    }

    fn load_user_file(&self, local: &str, is_multiple_choice: bool, store: &DataStore) -> Result<Vec<Problem>> {
        let Some(path) = store.user_file(local) else {
            bail!(
                r#"{} needs your own file: put {}, one per line, into DIR/{local}, then pass --data-dir DIR or set RLVR_DATA_DIR"#,
                self.name,
                if is_multiple_choice {
                    r#"{"question": "...", "choices": ["...", "..."], "answer": "B"}"#
                } else {
                    r#"{"question": "...", "answer": "..."}"#
                },
            );
        };
        let problems = from_file(&path)?;
        let is_letter = |answer: &str| matches!(answer.as_bytes(), [b'A'..=b'J']);
        if let Some(problem) = problems.iter().find(|problem| is_multiple_choice && !is_letter(&problem.answer)) {
            bail!("{}: the answer to {} is {:?}; it must be the letter of a choice", path.display(), problem.id, problem.answer);
        }
        Ok(problems)
    }

    fn problem(&self, row: &Row, fields: &Fields) -> Result<Problem> {
        let text = |field: Option<&str>| field.map_or_else(|| Ok(String::new()), |field| row.text(&[field]));
        let id = fields.id.map_or_else(|| Ok(row.number.to_string()), |field| row.text(&[field]))?;
        Ok(Problem {
            id: format!("{}/{id}", self.name),
            question: row.text(&[fields.question])?.trim().to_owned(),
            answer: fields.answer.of(row)?,
            unit: row.unit()?,
            tolerance: fields.tolerance.map_or(Ok(None), |field| row.tolerance(field))?,
            subject: text(fields.subject)?,
            level: text(fields.level)?,
            ..Problem::default()
        })
    }
}

impl Answer {
    /// Extracts the gold answer from a row. For answers in model responses, see `verify`.
    fn of(self, row: &Row) -> Result<String> {
        match self {
            Self::Text(field) => row.text(&[field]),
            Self::Boxed(field) => {
                let solution = row.text(&[field])?;
                gold::boxed(&solution)
                    .map(str::to_owned)
                    .ok_or_else(|| anyhow!("{}: no complete \\boxed{{...}} in `{field}`", row.location))
            }
            Self::List(field) => {
                let answers = row.fields.get(field).and_then(|answers| answers.as_list());
                let answers: Option<Vec<&str>> = answers.and_then(|list| list.iter().map(|answer| answer.as_text()).collect());
                let answers = answers.with_context(|| format!("{}: expected a list of strings in `{field}`", row.location))?;
                Ok(answers.join(", "))
            }
        }
    }
}

/// Loads the user's own set: JSONL with `question` (or `problem`) and `answer` (or `answerKey`), and optionally `id`, `subject`, `level`,
/// `unit`, `tolerance` and `choices`.
///
/// # Errors
/// If the file cannot be read or a row is not a problem. The message names file and line.
pub fn from_file(path: &Path) -> Result<Vec<Problem>> {
    example::of_rows(rows::read_jsonl(path)?, path)
}

#[cfg(test)]
mod tests;
