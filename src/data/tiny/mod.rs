//! The embedded model's problems: arithmetic in ten subjects, split by canonical form into training, validation and test sets. A subject
//! states problems and solves them step by step. `crate::tiny` defines how the corpus answers them.

mod column_arithmetic;
mod exercise;
mod split;
mod subjects;

use std::collections::HashSet;

use anyhow::{Result, ensure};

pub use self::exercise::{Exercise, Subject};
pub use self::split::Split;
pub use self::subjects::SUBJECTS;
use crate::flow::Problem;
use crate::rng::{Purpose, Stream};

/// Samples `count` problems of one split with distinct canonical forms. The subjects alternate, so that every prefix is balanced.
///
/// The same arguments always return the same problems, and a smaller `count` returns a prefix.
///
/// # Errors
/// If a subject has too few distinct problems in this split.
pub fn problems(split: Split, count: usize, seed: u64) -> Result<Vec<Problem>> {
    let mut streams: Vec<_> = (0..SUBJECTS.len() as u64).map(|index| Stream::new(seed, Purpose::Problems, index)).collect();
    let mut taken = HashSet::new();
    let mut problems = Vec::with_capacity(count);
    while problems.len() < count {
        let turn = problems.len() % SUBJECTS.len();
        let subject = &SUBJECTS[turn];
        // While any problem is unused, at least about 1 in 3,000 samples is new, so 100,000 failed attempts mean that none is left.
        let fresh = (0..100_000)
            .map(|_| subject.exercise(&mut streams[turn]))
            .find(|exercise| exercise.split() == split && taken.insert((exercise.subject, exercise.canonical.clone())));
        ensure!(
            fresh.is_some(),
            "{} has only {} distinct {split} problems, so a balanced set of {} subjects has at most {}; {count} were requested",
            subject.name,
            problems.len() / SUBJECTS.len(),
            SUBJECTS.len(),
            problems.len() / SUBJECTS.len() * SUBJECTS.len(),
        );
        problems.extend(fresh.map(|exercise| exercise.problem()));
    }
    Ok(problems)
}

/// Returns the exercise with an id such as `tiny/addition/334+556`, or `None` if there is no such exercise.
pub fn by_id(id: &str) -> Option<Exercise> {
    let (subject, written) = id.strip_prefix("tiny/")?.split_once('/')?;
    let subject = SUBJECTS.iter().find(|known| known.name == subject)?;
    let runs = written.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
    let operands = runs.map(|run| run.parse().ok()).collect::<Option<Vec<u32>>>()?;
    (subject.build)(&operands).filter(|exercise| exercise.written == written)
}

#[cfg(test)]
mod tests;
