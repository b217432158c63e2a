//! Benchmarks by name. Each is one file beside this one and one line in [`PAPER`]: where it comes from, how many rows it must have, how a row
//! becomes a problem, and how the paper decodes it. This room must never grade.

mod aime24;
mod aime25;
mod amc23;
mod boxed;
mod decoding;
mod lettered;
mod math500;
mod minerva_math;
mod olympiadbench;

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::pinned::Pinned;
use super::rows::{self, Row};
use super::{Library, example};
use crate::flow::Problem;

pub use decoding::Decoding;
pub use lettered::{LETTERED, Lettered};

/// A set of problems that scores are published on.
#[derive(Clone, Copy, Debug)]
pub struct Benchmark {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// Its name in tables.
    pub title: &'static str,
    /// The file that it is read from.
    pub file: Pinned,
    /// How many problems it has; another number is an error.
    pub rows: usize,
    /// How the paper decodes it.
    pub decoding: Decoding,
    problem: fn(&Row) -> Result<Problem>,
}

/// The registry of pinned sets, in the order of the paper's tables: the six that the paper averages.
pub const PAPER: [&Benchmark; 6] =
    [&math500::BENCHMARK, &aime24::BENCHMARK, &amc23::BENCHMARK, &minerva_math::BENCHMARK, &olympiadbench::BENCHMARK, &aime25::BENCHMARK];

/// Pinned benchmarks by their names, with commas between; `paper` is the six of the paper.
///
/// # Errors
/// When a name is unknown; the message lists the known ones.
pub fn select(names: &str) -> Result<Vec<&'static Benchmark>> {
    let mut selected: Vec<&Benchmark> = Vec::new();
    for name in names.split(',').map(str::trim) {
        let found: Vec<&Benchmark> = match name {
            "paper" => PAPER.to_vec(),
            _ => PAPER.into_iter().filter(|benchmark| benchmark.name == name).collect(),
        };
        if found.is_empty() {
            let known: Vec<&str> = PAPER.iter().map(|benchmark| benchmark.name).collect();
            bail!("no benchmark is called {name:?}: known are {}, paper (these six)", known.join(", "));
        }
        selected.extend(found.into_iter().filter(|new| !selected.iter().any(|old| old.name == new.name)).collect::<Vec<_>>());
    }
    Ok(selected)
}

impl Benchmark {
    /// Its problems, in the file's order.
    ///
    /// # Errors
    /// When the file cannot be had, a row is not as expected, or their number is wrong.
    pub fn load(&self, library: &Library) -> Result<Vec<Problem>> {
        let path = library.path(&self.file)?;
        let problems: Vec<Problem> = rows::read_jsonl(&path)?
            .iter()
            .map(|row| row.checked((self.problem)(row)?))
            .collect::<Result<_>>()
            .with_context(|| format!("cannot read the benchmark {}", self.name))?;
        if problems.len() != self.rows {
            bail!("{} has {} problems, expected {}", path.display(), problems.len(), self.rows);
        }
        Ok(problems)
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
mod tests {
    use super::*;
    use crate::data::shared_library;

    #[test]
    fn names_select_benchmarks() {
        let names = |specification: &str| select(specification).map(|found| found.iter().map(|b| b.name).collect::<Vec<_>>());
        assert_eq!(names("aime25, math500,aime25").unwrap(), ["aime25", "math500"]);
        assert_eq!(names("paper").unwrap(), PAPER.map(|benchmark| benchmark.name));
        assert_eq!(names("amc23,paper").unwrap().len(), 6);
        for bad in ["math", "", "math500,"] {
            let error = names(bad).unwrap_err().to_string();
            assert!(error.contains("known are math500, aime24, amc23, minerva_math, olympiadbench, aime25, paper"), "{error}");
        }
    }

    #[test]
    fn every_set_has_its_problems() {
        let Some(library) = shared_library() else { return };
        for benchmark in PAPER {
            let problems = benchmark.load(&library).unwrap();
            let ids: std::collections::HashSet<_> = problems.iter().map(|problem| &problem.id).collect();
            assert_eq!((problems.len(), ids.len()), (benchmark.rows, benchmark.rows), "{}", benchmark.name);
        }
        let rows: Vec<(&str, usize, usize)> = PAPER.iter().map(|b| (b.name, b.rows, b.decoding.samples)).collect();
        let expected = [
            ("math500", 500, 1),
            ("aime24", 30, 8),
            ("amc23", 40, 8),
            ("minerva_math", 272, 1),
            ("olympiadbench", 675, 1),
            ("aime25", 30, 8),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn answers_are_the_golden_ones() {
        let Some(library) = shared_library() else { return };
        let check = |benchmark: &str, number: usize, id: &str, answer: &str, subject: &str, level: &str| {
            let problems = select(benchmark).unwrap()[0].load(&library).unwrap();
            let problem = &problems[number];
            let got = (problem.id.as_str(), problem.answer.as_str(), problem.subject.as_str(), problem.level.as_str());
            assert_eq!(got, (id, answer, subject, level));
        };
        check("math500", 0, "math500/test/precalculus/807.json", r"\left( 3, \frac{\pi}{2} \right)", "Precalculus", "2");
        check("aime24", 7, "aime24/67", "025", "", "");
        check("aime25", 19, "aime25/19", r"336^\circ", "", "");
        check("amc23", 0, "amc23/0", "27", "", "");
        check("amc23", 15, "amc23/17", "-1", "", "");
        check("minerva_math", 0, "minerva_math/0", "1.6", "Introduction to Astronomy (8.282J Spring 2006)", "");
        check("olympiadbench", 0, "olympiadbench/1606", "2", "Combinatorics", "");
    }

    /// MATH500 gives its answers twice; both must agree.
    #[test]
    fn boxed_answers_agree_with_those_written_beside_them() {
        let Some(library) = shared_library() else { return };
        let rows = rows::read_jsonl(&library.path(&math500::BENCHMARK.file).unwrap()).unwrap();
        for row in &rows {
            assert_eq!((math500::BENCHMARK.problem)(row).unwrap().answer, row.text(&["answer"]).unwrap(), "{}", row.place);
        }
    }

    #[test]
    fn a_set_of_ones_own_is_jsonl() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.jsonl");
        std::fs::write(&path, "{\"question\": \"q\", \"answer\": \"B\", \"subject\": \"s\"}\n{\"question\": \"r\"}\n").unwrap();
        let error = from_file(&path).unwrap_err().to_string();
        assert!(error.contains("mine.jsonl, line 2: no `answer`"), "{error}");
    }
}
