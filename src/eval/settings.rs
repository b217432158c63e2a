//! How a run evaluates. It must never know what a set consists of.

use serde::{Deserialize, Serialize};

use super::statistics::SATURATION_WINDOW;
use crate::verify::Grader;

/// Each set's own decoding.
pub const PUBLISHED: &str = "published";

/// How a run evaluates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalSettings {
    /// Steps between evaluations; 0 evaluates the base and the last step only.
    pub every: u64,
    /// The sets, by name, with commas between; empty evaluates nothing.
    pub benchmarks: String,
    /// At most this many problems of each set; 0 takes all.
    pub limit: usize,
    /// Most tokens in a response.
    pub max_new: usize,
    /// `published` (each set its own way), or one way for all: `greedy`, `t0.6x8`, `t0.6p0.95x8` (8 samples at temperature 0.6, top-p 0.95).
    pub decoding: String,
    /// Seed of sampled responses: the same draws at every step, so that two evaluations differ by the weights alone.
    pub seed: u64,
    /// Whose notion of equality decides what is right.
    pub grader: Grader,
    /// Words that are counted as self-reflection, with commas between, in any case.
    pub reflection_words: String,
    /// The set, or the pass of a set, whose accuracy says which checkpoint is the best; empty takes the mean of all greedy passes, `mean` the plain
    /// mean over several sets, unboxed answers counted.
    pub best_by: String,
    /// Steps over which the train accuracy is averaged before it counts as saturated.
    pub saturation_window: usize,
}

impl Default for EvalSettings {
    fn default() -> Self {
        Self {
            every: 20,
            benchmarks: "math500".into(),
            limit: 0,
            max_new: 3072,
            decoding: PUBLISHED.into(),
            seed: 0,
            grader: Grader::Strict,
            reflection_words: "rethink,recheck,recalculate".into(),
            best_by: String::new(),
            saturation_window: SATURATION_WINDOW,
        }
    }
}
