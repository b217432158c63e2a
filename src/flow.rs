//! The records that flow through the program: plain data, no tensors, no I/O, so that each stage can be tested, stored, replayed and shown by
//! itself. A training step makes a [`Prompt`] of a [`Problem`], [`Completion`]s with their text ([`Rollout`]), and rewards for them ([`Scored`]). What
//! it measures of these is a line of metrics, a plain map from names to numbers.

mod kept;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use kept::Kept;

/// A question with its reference answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Unique within its set; names the problem in every record, and is stable across runs.
    pub id: String,
    /// The question as a person would ask it: no template, no instruction.
    pub question: String,
    /// What comes before the question: a system turn, earlier questions with their answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<Message>,
    /// How the assistant's answer begins; the model goes on from there. Empty where it begins itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefill: String,
    /// The reference answer ("label"), as the set gives it.
    pub answer: String,
    /// Other reference answers, any of which is right too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<String>,
    /// What the answer is measured in, as LaTeX that can follow it; empty where the set names nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// How far a right answer may lie from the reference, where the set says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// What the set calls its subjects; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Difficulty as the set gives it (MATH: "1" to "5"); empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub level: String,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of the given role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A problem as the model reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// What was asked.
    pub problem: Arc<Problem>,
    /// The rendered chat template, with any instruction appended to the question.
    pub text: String,
    /// The token ids of `text`.
    pub ids: Arc<[u32]>,
}

/// Why a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model gave an end token (which is part of the completion).
    Stop,
    /// The token limit cut it off.
    Length,
}

/// What the sampler produced for one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Token ids, the end token included.
    pub ids: Vec<u32>,
    /// `logprobs[i]` is the log-probability (nats) of `ids[i]` under logits / temperature, before top-k and top-p.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
    /// What the sampler could have drawn, where that is recorded: under `rollout.truncated = "renormalise"`.
    pub truncated: Option<Truncated>,
}

/// What is recorded of a response that was drawn from part of the vocabulary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truncated {
    /// The tokens that could have been drawn at each position.
    pub kept: Kept,
    /// `logprobs[i]` is the log-probability (nats) of `ids[i]` among those tokens alone, whose probabilities add up to 1.
    pub logprobs: Vec<f32>,
}

impl Completion {
    /// The log-probabilities that training compares with: among the kept tokens where these are recorded, else over the whole vocabulary.
    pub fn sampled_logprobs(&self) -> &[f32] {
        self.truncated.as_ref().map_or(&self.logprobs, |truncated| &truncated.logprobs)
    }
}

/// A completion with its place in the run and its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// Which group (row of the batch) it belongs to.
    pub group: usize,
    /// Its number within the group.
    pub sample: usize,
    /// What was asked.
    pub prompt: Prompt,
    /// What the model answered, in tokens.
    pub completion: Completion,
    /// What the model answered, in text, without the end token; with the beginning that the problem gave, where it gave one.
    pub text: String,
}

/// A rollout with its reward.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// What was scored.
    pub rollout: Rollout,
    /// The weighted sum of the configured rewards.
    pub reward: f32,
    /// Each of these rewards by name, without its weight; empty where they are not known.
    pub rewards: BTreeMap<String, f32>,
    /// Whether the verifier took the answer for right, whatever the reward is made of.
    pub correct: bool,
    /// Whether a complete `\boxed{}` was found.
    pub boxed: bool,
}
