//! Training, validation and test problems: who belongs where is a hash of the canonical form, so no problem changes sides under another wording,
//! another order of its operands or another seed.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
