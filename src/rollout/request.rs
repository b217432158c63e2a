//! What is asked of the engine, and what it says while it answers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::draw::{Draw, Purpose};
use crate::flow::Completion;
use crate::kernels::Filter;

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingSettings {
    /// Logits are divided by this; 0 takes the likeliest token.
    pub temperature: f32,
    /// Which tokens may be drawn.
    pub filter: Filter,
    /// Whether responses record which tokens could have been drawn, with log-probabilities among them.
    pub records_kept: bool,
    /// Seed of every draw.
    pub seed: u64,
}

impl SamplingSettings {
    /// The likeliest token each time.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, filter: Filter::default(), records_kept: false, seed: 0 }
    }

    /// The draw for a request's next position.
    pub fn uniform(&self, request: &Request, position: usize) -> f32 {
        Draw::uniform(self.seed, request.purpose, request.step, request.prompt, request.sample, position as u32)
    }
}

/// One response to be sampled. `purpose`, `step`, `prompt` and `sample` address its randomness.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The prompt's tokens; equal prompts are computed once.
    pub ids: Arc<[u32]>,
    /// Most tokens in the response.
    pub max_new: usize,
    /// Training or evaluation.
    pub purpose: Purpose,
    /// The training step, or 0.
    pub step: u32,
    /// Which prompt (or group) of the step.
    pub prompt: u32,
    /// Which response to it.
    pub sample: u32,
}

/// A change in the state of a request. Lanes report it at once.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A token was sampled.
    Token {
        /// The request's number.
        request: usize,
        /// The token.
        token: u32,
    },
    /// The response is complete.
    Finished {
        /// The request's number.
        request: usize,
        /// All of it.
        completion: &'a Completion,
    },
}
