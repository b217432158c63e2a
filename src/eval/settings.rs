//! How a run evaluates. Independent of the contents of the sets.

use serde::{Deserialize, Serialize};

use super::statistics::SATURATION_WINDOW;
use crate::verify::Grader;

/// The value of `decoding` that gives each set its published decoding.
pub const PUBLISHED: &str = "published";

/// The `eval.*` settings of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalSettings {
    /// Number of steps between evaluations; 0 evaluates only the base model and the last step.
    pub every: u64,
    /// Names of the sets, separated by commas; empty disables evaluation.
    pub benchmarks: String,
    /// Maximum number of problems per set; 0 uses all.
    pub limit: usize,
    /// Maximum number of tokens in a response.
    pub max_new_tokens: usize,
    /// `published` (each set's own), or one decoding for all sets: `greedy`, `t0.6x8`, `t0.6p0.95x8` (8 samples at temperature 0.6, top-p
    /// 0.95).
    pub decoding: String,
    /// Seed of sampled responses. All steps use the same random numbers, so two evaluations differ only by the weights.
    pub seed: u64,
    /// The grader, whose notion of equality decides.
    pub grader: Grader,
    /// Words counted as self-reflection, separated by commas; case does not matter.
    pub reflection_words: String,
    /// The set, or the pass of a set, whose accuracy selects the best checkpoint. Empty uses the mean of all greedy passes; `mean` uses the
    /// unweighted mean over several sets, with unboxed answers counted.
    pub best_by: String,
    /// Number of steps over which the train accuracy is averaged to detect saturation.
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
