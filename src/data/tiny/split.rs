//! The split into training, validation and test problems. It depends only on a hash of the canonical form, so that a problem keeps its
//! split with another wording, operand order or seed.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One of the three disjoint sets of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// 80%: for the corpus, including its invented follow-up questions, and for training examples.
    Train,
    /// 10%: for choosing settings and the embedded base model.
    Validation,
    /// 10%: only for reported scores.
    Test,
}

impl Split {
    /// Returns the default number of problems in an evaluation.
    pub fn default_count(self) -> usize {
        match self {
            Split::Test => 2_000,
            Split::Train | Split::Validation => 1_000,
        }
    }

    /// Returns the split of a canonical id, `tiny/SUBJECT/CANONICAL`.
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

/// Returns the first eight bytes of the text's SHA-256 as a big-endian number.
pub(super) fn fingerprint(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}
