//! One graded response, as it stands in `eval/STEP/*.jsonl`.

use serde::{Deserialize, Serialize};

use crate::flow::Finish;

/// One line of an evaluation's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The problem's id.
    pub id: String,
    /// Its subject; empty where the set has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Its level; empty where the set has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub level: String,
    /// Which of several responses to the problem.
    pub sample: usize,
    /// The reference answer.
    pub gold: String,
    /// What the model said.
    pub response: String,
    /// The answer that was found in the box; none without one.
    pub extracted: Option<String>,
    /// Whether the boxed answer is right.
    pub correct: bool,
    /// Whether the boxed answer is right by our own grader; missing where that one decides anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct_strict: Option<bool>,
    /// Whether the answer is right when unboxed ones count too, as in the published evaluation.
    pub correct_with_fallback: bool,
    /// The response's length in tokens; 0 where the prompt did not fit the model's window.
    pub tokens: usize,
    /// Why it ended; none where the prompt did not fit.
    pub finish: Option<Finish>,
    /// The way of answering, where the set has a classifier of ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<String>,
}
