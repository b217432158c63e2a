//! Notions of equality: our own, and those of published graders, written anew from what they do, for scores that must be comparable. Each takes two
//! answers and gives a verdict; finding the answer in a response is for `extract`.

pub mod deepscaler;
mod deepscaler_text;
pub mod qwen;
pub mod strict;

use serde::{Deserialize, Serialize};

use crate::verify::Comparison;
use crate::verify::trace::{Stage, Trace};

/// Whose notion of equality decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grader {
    /// Ours.
    #[default]
    Strict,
    /// The published training reward's, for comparable rewards.
    Deepscaler,
    /// The published evaluation's, for comparable scores.
    Qwen,
}

impl Grader {
    /// Compares two answers.
    pub(super) fn equal(self, gold: &str, answer: &str, trace: &mut Trace) -> Comparison {
        let found = match self {
            Grader::Strict => strict::equal(gold, answer, trace),
            Grader::Deepscaler => deepscaler::equal(gold, answer, trace),
            Grader::Qwen => qwen::equal(gold, answer, trace),
        };
        trace.set_depth(0);
        trace.note(Stage::Verdict, || {
            format!("{}, decided by {}", if found.equal { "equal" } else { "not equal" }, found.method.describe())
        });
        found
    }
}
