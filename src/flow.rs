//! The records that the stages of the program exchange: plain data without tensors or I/O, so that each stage can be tested, stored,
//! replayed and inspected separately. A training step turns a [`Problem`] into a [`Prompt`], samples [`Completion`]s, decodes their text
//! ([`Rollout`]), and assigns rewards ([`ScoredRollout`]). The measurements of a step are metrics: a plain map from names to numbers.

mod sampling_mask;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use sampling_mask::SamplingMask;

/// A question with its gold answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Identifies the problem in every record: unique within its data set and stable across runs.
    pub id: String,
    /// The question as a person would ask it, without template or instruction.
    pub question: String,
    /// The conversation before the question: a system turn, or earlier questions and answers. May be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<Message>,
    /// The start of the assistant's answer, which the model continues. Empty if the model writes the whole answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefill: String,
    /// The gold answer ("label"), as in the data set.
    pub answer: String,
    /// Other gold answers; each of them is correct, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<String>,
    /// The unit of the answer, as LaTeX that can follow it; empty if the data set gives none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// Largest difference between a correct answer and the gold answer; `None` if the data set gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// The subject, as named by the data set; empty if it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The difficulty, as in the data set (MATH: "1" to "5"); empty if it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub level: String,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text of the turn.
    pub content: String,
}

impl Message {
    /// Creates a turn.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A problem as the model sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// The problem.
    pub problem: Arc<Problem>,
    /// The text of the rendered chat template, including any instruction appended to the question.
    pub text: String,
    /// The token ids of `text`.
    pub ids: Arc<[u32]>,
}

/// Why a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model sampled an end token, which is part of the completion.
    Stop,
    /// The limit on new tokens was reached.
    Length,
}

/// The sampled tokens of one response.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Token ids, including the end token.
    pub ids: Vec<u32>,
    /// `logprobs[i]` is the log-probability (nats) of `ids[i]` under logits / temperature, before top-k, top-p and min-p.
    pub logprobs: Vec<f32>,
    /// Why the response ended.
    pub finish: FinishReason,
    /// The sampling masks; `None` unless they are recorded, as under `rollout.truncated = "renormalise"`.
    pub truncated: Option<MaskedSample>,
}

/// Sampling masks and log-probabilities of a response that was sampled from part of the vocabulary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MaskedSample {
    /// The tokens that could have been sampled at each position.
    pub kept: SamplingMask,
    /// `logprobs[i]` is the log-probability (nats) of `ids[i]` among those tokens alone, renormalised so that their probabilities sum to 1.
    pub logprobs: Vec<f32>,
}

impl Completion {
    /// Returns the log-probabilities that training compares with: those among the tokens of the sampling masks if recorded, otherwise those
    /// over the whole vocabulary.
    pub fn sampled_logprobs(&self) -> &[f32] {
        self.truncated.as_ref().map_or(&self.logprobs, |truncated| &truncated.logprobs)
    }
}

/// A completion with its text and its position in the batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// Index of its group in the batch.
    pub group: usize,
    /// Index within the group.
    pub sample: usize,
    /// The prompt that was answered.
    pub prompt: Prompt,
    /// The sampled tokens.
    pub completion: Completion,
    /// The answer as text: the problem's prefill, if any, and the completion without the end token.
    pub text: String,
}

/// A rollout with its reward.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredRollout {
    /// The rollout that was graded.
    pub rollout: Rollout,
    /// The weighted sum of the configured rewards.
    pub reward: f32,
    /// Each of these rewards by name, unweighted; empty if they are not known.
    pub rewards: BTreeMap<String, f32>,
    /// True if the verifier accepted the answer, whatever the reward consists of.
    pub correct: bool,
    /// True if the response has a complete `\boxed{}`.
    pub boxed: bool,
}
