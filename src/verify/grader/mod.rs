//! The graders, each with its notion of equality: our own, and reimplementations of published graders for comparable scores. Each compares
//! two answers; `extract` finds the answer in a response.

pub mod deepscaler;
mod deepscaler_text;
pub mod qwen;
pub mod strict;

use serde::{Deserialize, Serialize};

use crate::verify::Comparison;
use crate::verify::trace::{Stage, Trace};

/// Selects a grader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grader {
    /// Our own grader.
    #[default]
    Strict,
    /// The published training reward (DeepScaleR), for comparable rewards.
    Deepscaler,
    /// The published evaluation (Qwen2.5-Math), for comparable scores.
    Qwen,
}

impl Grader {
    /// Compares two answers and notes the verdict.
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
