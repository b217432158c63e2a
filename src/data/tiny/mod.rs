//! The embedded model's world: arithmetic problems of ten subjects, split by their canonical form into training, validation and test. A subject
//! states problems and works them out in steps; how a *model* answers (carefully, or not) is the corpus's business, in `crate::tiny`.

mod columns;
mod exercise;
mod split;
mod subjects;

use std::collections::HashSet;

use anyhow::{Result, ensure};

pub use self::exercise::{Exercise, Subject};
pub use self::split::Split;
pub use self::subjects::SUBJECTS;
use crate::draw::{Purpose, Stream};
use crate::flow::Problem;

/// `count` problems of one set, no two of the same canonical form, the subjects taking turns: every prefix is balanced.
///
/// The set is a function of its arguments, and a smaller `count` gives a prefix of a larger one. Fails when a subject has too few problems.
pub fn problems(split: Split, count: usize, seed: u64) -> Result<Vec<Problem>> {
    let mut streams: Vec<_> = (0..SUBJECTS.len() as u64).map(|index| Stream::new(seed, Purpose::Problems, index)).collect();
    let mut taken = HashSet::new();
    let mut problems = Vec::with_capacity(count);
    while problems.len() < count {
        let turn = problems.len() % SUBJECTS.len();
        let subject = &SUBJECTS[turn];
        // A subject's least likely share of fresh problems at full use is about 1 in 3,000 draws; 100,000 misses mean that none is left.
        let fresh = (0..100_000)
            .map(|_| subject.exercise(&mut streams[turn]))
            .find(|exercise| exercise.split() == split && taken.insert((exercise.subject, exercise.canonical.clone())));
        ensure!(
            fresh.is_some(),
            "{} has only {} distinct {split} problems, so at most {} can be balanced over {} subjects; {count} were asked for",
            subject.name,
            problems.len() / SUBJECTS.len(),
            problems.len() / SUBJECTS.len() * SUBJECTS.len(),
            SUBJECTS.len(),
        );
        problems.extend(fresh.map(|exercise| exercise.problem()));
    }
    Ok(problems)
}

/// The exercise that an id such as `tiny/addition/334+556` names, if it names one.
pub fn by_id(id: &str) -> Option<Exercise> {
    let (subject, written) = id.strip_prefix("tiny/")?.split_once('/')?;
    let subject = SUBJECTS.iter().find(|known| known.name == subject)?;
    let runs = written.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
    let operands = runs.map(|run| run.parse().ok()).collect::<Option<Vec<u32>>>()?;
    (subject.state)(&operands).filter(|exercise| exercise.written == written)
}

#[cfg(test)]
mod tests;
