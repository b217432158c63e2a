//! The settings of evaluations. Independent of the contents of the sets.

use serde::{Deserialize, Serialize};

use super::statistics::SATURATION_WINDOW;
use crate::verify::Grader;

/// The value of `decoding` that selects each set's own decodings.
pub const PUBLISHED: &str = "published";

/// The `eval.*` settings of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalSettings {
    /// The number of steps between evaluations; 0 evaluates only the base model and the last step.
    pub every: u64,
    /// The names of the sets, separated by commas; empty disables evaluation.
    pub benchmarks: String,
    /// The maximum number of problems per set; 0 uses all.
    pub limit: usize,
    /// The maximum number of tokens in a response.
    pub max_new_tokens: usize,
    /// `published` (each set's own), or one decoding for all sets, such as `greedy`, `t0.6x8` or `t0.6p0.95x8` (8 samples at temperature
    /// 0.6 with top-p 0.95).
    pub decoding: String,
    /// The seed for sampling responses. All evaluations of a run use the same random numbers, so they differ only in the weights.
    pub seed: u64,
    /// The grader that decides whether answers are correct.
    pub grader: Grader,
    /// The words that count as self-reflection, separated by commas; case is ignored.
    pub reflection_words: String,
    /// The set or pass whose accuracy selects the best checkpoint. Empty uses the mean of all greedy passes; `mean` uses the unweighted
    /// mean over several sets, counting unboxed answers too.
    pub best_by: String,
    /// The number of steps over which the training accuracy is averaged to detect saturation.
    pub saturation_window: usize,
}

impl Default for EvalSettings {
    fn default() -> Self {
        Self {
            every: 20,
            benchmarks: "math500".into(),
            limit: 0,
            max_new_tokens: 3072,
            decoding: PUBLISHED.into(),
            seed: 0,
            grader: Grader::Strict,
            reflection_words: "rethink,recheck,recalculate".into(),
            best_by: String::new(),
            saturation_window: SATURATION_WINDOW,
        }
    }
}
