//! The records that the stages of training and evaluation pass to each other.
//!
//! A training step renders each [`Problem`] as a [`Prompt`], samples [`Completion`]s, decodes them to text ([`Rollout`]) and rewards them
//! ([`ScoredRollout`]). These are plain data, without tensors or I/O, so every stage can be tested alone and a recorded run can be
//! replayed.

mod sampling_mask;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use sampling_mask::SamplingMask;

/// A question with its gold answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Identifies the problem in every record; unique within its data set and the same in every run.
    pub id: String,
    /// The question as a person would ask it, without template or instruction.
    pub question: String,
    /// The conversation before the question: a system turn, or earlier questions and answers. May be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<Message>,
    /// The start of the assistant's answer, which the model continues. Empty if the model writes the whole answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefill: String,
    /// The gold answer as the data set writes it. In training it is the label, unless `--label` or `--label-noise` replaces it.
    pub answer: String,
    /// Further gold answers. An answer that equals any of them is correct.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<String>,
    /// The unit of the answer, as LaTeX to append to it; empty if the data set has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// Largest absolute difference from the gold answer at which an answer is still correct; `None` if the data set has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// The subject, as the data set names it; empty if it has none.
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
    /// Creates a turn of `role` with the text `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A problem as the model sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// The problem that the prompt asks.
    pub problem: Arc<Problem>,
    /// The rendered chat template: context, question with any instruction, and prefill. Empty in a replay: records contain only
    /// `ids`.
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
    /// The completion reached `max_new_tokens` (a truncated response).
    Length,
}

/// The sampled tokens of one response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Sampled token ids; the last one is the end token if `finish` is `Stop`.
    pub ids: Vec<u32>,
    /// `logprobs[i]` is the log-probability (nats) of `ids[i]` under logits / temperature (logits alone if greedy), before top-k, top-p and
    /// min-p.
    pub logprobs: Vec<f32>,
    /// Why the response ended.
    pub finish: FinishReason,
    /// The sampling masks; `None` unless they are recorded, as with `rollout.truncated = "renormalise"`.
    pub masked: Option<MaskedSample>,
}

/// The sampling masks of a response, and the log-probabilities of its tokens under them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MaskedSample {
    /// The tokens that could have been sampled at each position: one entry per sampled token.
    pub mask: SamplingMask,
    /// `logprobs[i]` is the log-probability (nats) of `ids[i]` after renormalizing over the tokens in the mask of position i.
    pub logprobs: Vec<f32>,
}

impl Completion {
    /// Returns the old policy's log-probabilities for training: those under the sampling masks if masks are recorded, otherwise those over
    /// the whole vocabulary.
    pub fn sampled_logprobs(&self) -> &[f32] {
        self.masked.as_ref().map_or(&self.logprobs, |masked| &masked.logprobs)
    }
}

/// A completion with its text and its place in the rollout batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// Index of its group in the batch, from 0.
    pub group: usize,
    /// Index within the group, from 0.
    pub sample: usize,
    /// The prompt that the completion continues.
    pub prompt: Prompt,
    /// The sampled tokens.
    pub completion: Completion,
    /// The text to grade: the problem's prefill, if any, followed by the completion without its end token.
    pub text: String,
}

/// A graded rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredRollout {
    /// The rollout that was graded.
    pub rollout: Rollout,
    /// The weighted sum of the configured rewards.
    pub reward: f32,
    /// Each configured reward by name, unweighted; empty if only their sum is known.
    pub rewards: BTreeMap<String, f32>,
    /// True if the grader accepted the answer, independently of the configured rewards.
    pub correct: bool,
    /// True if the response has a complete `\boxed{}`.
    pub boxed: bool,
}
