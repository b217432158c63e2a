//! Training, validation and test problems: who belongs where is a hash of the canonical form, so no problem changes sides under another wording,
//! another order of its operands or another seed.

use std::collections::HashSet;
use std::fmt;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::SUBJECTS;
use crate::draw::{Purpose, Stream};
use crate::flow::Problem;

/// One of the three disjoint sets of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// 80%: the corpus, its invented next questions, and training examples.
    Train,
    /// 10%: chooses settings and the shipped base.
    Validation,
    /// 10%: reported numbers only.
    Test,
}

impl Split {
    /// The size of the set that evaluations use unless told otherwise.
    pub fn default_count(self) -> usize {
        match self {
            Split::Test => 2_000,
            Split::Train | Split::Validation => 1_000,
        }
    }

    /// The set of a canonical problem, `tiny/subject/operands`.
    pub(super) fn of(canonical: &str) -> Self {
        match fingerprint(canonical) % 10 {
            0..8 => Split::Train,
            8 => Split::Validation,
            _ => Split::Test,
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        })
    }
}

/// The first eight bytes of the text's SHA-256.
pub(super) fn fingerprint(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}

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
