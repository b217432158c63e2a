//! A graded response, as recorded in `eval/STEP/*.jsonl`.

use serde::{Deserialize, Serialize};

use crate::flow::FinishReason;

/// One line of an evaluation's records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The problem's id.
    pub id: String,
    /// The problem's subject; empty if the set has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The problem's level; empty if the set has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub level: String,
    /// The index of the response among those to the same problem.
    pub sample: usize,
    /// The gold answer.
    pub gold: String,
    /// The model's response, including the prefill, if any.
    pub response: String,
    /// The content of the last box; `None` if the box is missing or incomplete.
    pub extracted: Option<String>,
    /// True if the boxed answer is correct.
    pub correct: bool,
    /// True if the boxed answer is correct according to our own grader; `None` if that is the grader used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct_strict: Option<bool>,
    /// True if the answer is correct when unboxed answers count too, as in the published evaluation.
    pub correct_with_fallback: bool,
    /// The length of the response in tokens; 0 if it is unknown or the prompt did not fit the context length.
    pub tokens: usize,
    /// Why generation ended; `None` if the prompt did not fit the context length.
    pub finish: Option<FinishReason>,
    /// The answer style; `None` if the set has no style classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "way")]
    pub style: Option<String>,
}
