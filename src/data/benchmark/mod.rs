//! Benchmarks by name. Each is one entry of [`BENCHMARKS`]: where it comes from, how many problems it must have, what its rows' fields mean and
//! how it is decoded. This room must never grade.

mod decoding;

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

pub use self::decoding::Decoding;
use super::fetch::sha256_of;
use super::library::Library;
use super::pinned::Pinned;
use super::rows::{self, Row};
use super::{example, gold};
use crate::flow::Problem;

/// A set of problems that scores are published on.
#[derive(Clone, Copy, Debug)]
pub struct Benchmark {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// The groups that it is a member of. They select sets as names do; [`PAPER`] is the paper's mean.
    pub tags: &'static [&'static str],
    /// Where its problems come from.
    pub source: Source,
    /// How it is decoded unless told otherwise.
    pub decoding: Decoding,
}

/// Where the problems of a benchmark come from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// A published file.
    Pinned {
        /// The file.
        file: Pinned,
        /// How many problems it has; another number is an error.
        rows: usize,
        /// What its rows are made of.
        fields: Fields,
    },
    /// A file of the user's: no published copy is pinned here.
    Own {
        /// Its path below the data folder.
        local: &'static str,
        /// Whether every answer is the letter of a choice.
        lettered: bool,
    },
}

/// The fields of a row by what they mean.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// Names the problem; where there is none, its number does.
    id: Option<&'static str>,
    question: &'static str,
    answer: Answer,
    subject: Option<&'static str>,
    level: Option<&'static str>,
    /// How far off an answer may be; the field itself need not be there.
    tolerance: Option<&'static str>,
}

/// Where a row has its reference answer.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// As it is.
    Text(&'static str),
    /// The content of the last `\boxed{...}` of a written solution.
    Boxed(&'static str),
    /// A list of texts, which together are the answer.
    List(&'static str),
}

/// The tag of the six sets that the paper averages.
pub const PAPER: &str = "paper";

const FIELDS: Fields =
    Fields { id: Some("id"), question: "problem", answer: Answer::Text("answer"), subject: None, level: None, tolerance: None };

/// A set of the paper's repository with its number of problems and its checksum.
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

/// The registry, in the order of the paper's tables. Whoever adds a set adds an entry here, without the tag [`PAPER`].
pub static BENCHMARKS: &[Benchmark] = &[
    // 500 problems of the MATH test set, by subject and level.
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
    // Answers are integers below 1000, written with leading zeros.
    Benchmark {
        name: "aime24",
        tags: &[PAPER],
        source: published!("aime24", 30, "af2b8bd2aa911b6333ad0df32f3ca05c7ae8ed10f1731f4372c8ae26990bf7ac", FIELDS),
        decoding: Decoding::MEAN_OF_EIGHT,
    },
    // The file has its numbers as floats; here they read as people write them.
    Benchmark {
        name: "amc23",
        tags: &[PAPER],
        source: published!("amc23", 40, "43707e1ca784602d8479de24ee8ce36609dbebc46dd152b0b12a46611aa898a4", FIELDS),
        decoding: Decoding::MEAN_OF_EIGHT,
    },
    // Quantitative problems of undergraduate courses; the course is the subject.
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
    // Competition problems in English with answers that can be checked. Lists have one text in every row: several answers stand in that text
    // with commas between them, in 94 problems.
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
    // As AIME 2024; one answer is written in degrees.
    Benchmark {
        name: "aime25",
        tags: &[PAPER],
        source: published!("aime25", 30, "4613b7d3b5346f007625969f4380d932d6a2618fdcc9b89e5d39c7fbddc074b8", Fields { id: None, ..FIELDS }),
        decoding: Decoding::MEAN_OF_EIGHT,
    },
    // Both difficulties of ARC, which the paper scores outside its mean.
    Benchmark {
        name: "arc_easy",
        tags: &[],
        source: Source::Own { local: "test/arc_easy/test.jsonl", lettered: true },
        decoding: Decoding::GREEDY,
    },
    Benchmark {
        name: "arc_challenge",
        tags: &[],
        source: Source::Own { local: "test/arc_challenge/test.jsonl", lettered: true },
        decoding: Decoding::GREEDY,
    },
];

/// Benchmarks by their names or tags, with commas between.
///
/// # Errors
/// When a name is unknown; the message lists the known ones.
pub fn select(names: &str) -> Result<Vec<&'static Benchmark>> {
    let mut selected: Vec<&Benchmark> = Vec::new();
    for name in names.split(',').map(str::trim) {
        let found: Vec<&Benchmark> = BENCHMARKS.iter().filter(|benchmark| benchmark.goes_by(name)).collect();
        if found.is_empty() {
            bail!("no benchmark is called {name:?}: known are {}", known());
        }
        selected.extend(found.into_iter().filter(|new| !selected.iter().any(|old| old.name == new.name)).collect::<Vec<_>>());
    }
    Ok(selected)
}

/// Every name, with commas between, then the paper's tag.
pub fn known() -> String {
    let names: Vec<&str> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
    format!("{}, {PAPER} (the six that the paper averages)", names.join(", "))
}

impl Benchmark {
    /// Whether this is its name or a tag of its own.
    pub fn goes_by(&self, name: &str) -> bool {
        self.name == name || self.tags.contains(&name)
    }

    /// Its problems, in the file's order.
    ///
    /// # Errors
    /// When the file cannot be had (the message says what to do), a row is not as expected, or their number is wrong.
    pub fn load(&self, library: &Library) -> Result<Vec<Problem>> {
        let (file, expected, fields) = match &self.source {
            Source::Pinned { file, rows, fields } => (file, *rows, fields),
            Source::Own { local, lettered } => return self.load_own(local, *lettered, library),
        };
        let path = library.path(file)?;
        let problems: Vec<Problem> = rows::read_jsonl(&path)?
            .iter()
            .map(|row| row.checked(self.problem(row, fields)?))
            .collect::<Result<_>>()
            .with_context(|| format!("cannot read the benchmark {}", self.name))?;
        if problems.len() != expected {
            bail!("{} has {} problems, expected {expected}", path.display(), problems.len());
        }
        Ok(problems)
    }

    /// The sha256 of its file; empty where the user has none.
    ///
    /// # Errors
    /// When the user's file cannot be read.
    pub fn sha256(&self, library: &Library) -> Result<String> {
        match self.source {
            Source::Pinned { file, .. } => Ok(file.sha256.to_owned()),
            Source::Own { local, .. } => library.own(local).map_or_else(|| Ok(String::new()), |path| sha256_of(&path)),
        }
    }

    fn load_own(&self, local: &str, lettered: bool, library: &Library) -> Result<Vec<Problem>> {
        let Some(path) = library.own(local) else {
            bail!(
                r#"{} is read from a file of yours: put {}, one a line, at DIR/{local} and name DIR by --data-dir or RLVR_DATA_DIR"#,
                self.name,
                if lettered {
                    r#"{"question": "...", "choices": ["...", "..."], "answer": "B"}"#
                } else {
                    r#"{"question": "...", "answer": "..."}"#
                },
            );
        };
        let problems = from_file(&path)?;
        let is_letter = |answer: &str| matches!(answer.as_bytes(), [b'A'..=b'J']);
        if let Some(problem) = problems.iter().find(|problem| lettered && !is_letter(&problem.answer)) {
            bail!("{}: the answer to {} is {:?}, expected the letter of a choice", path.display(), problem.id, problem.answer);
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
    /// Reference solutions only: what models write is the verifier's.
    fn of(self, row: &Row) -> Result<String> {
        match self {
            Self::Text(field) => row.text(&[field]),
            Self::Boxed(field) => {
                let solution = row.text(&[field])?;
                gold::boxed(&solution).map(str::to_owned).ok_or_else(|| anyhow!("{}: `{field}` has no complete \\boxed{{...}}", row.place))
            }
            Self::List(field) => {
                let answers = row.fields.get(field).and_then(|answers| answers.as_list());
                let answers: Option<Vec<&str>> = answers.and_then(|list| list.iter().map(|answer| answer.as_text()).collect());
                let answers = answers.with_context(|| format!("{}: `{field}` is not a list of texts", row.place))?;
                Ok(answers.join(", "))
            }
        }
    }
}

/// The problems of a set of the user's own: JSONL with `question` (or `problem`) and `answer`, and where wanted `id`, `subject`, `level`,
/// `unit`, `tolerance`, `choices`.
///
/// # Errors
/// When it cannot be read or a row is not a problem; file and line are named.
pub fn from_file(path: &Path) -> Result<Vec<Problem>> {
    example::of_rows(rows::read_jsonl(path)?, path)
}

#[cfg(test)]
mod tests;
