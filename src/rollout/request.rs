//! The input of the engine, and the events that it reports.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::flow::Completion;
use crate::kernels::Filter;
use crate::rng::{CounterRng, Purpose};

/// How tokens are sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingSettings {
    /// The temperature: logits are divided by it. 0 selects the likeliest token.
    pub temperature: f32,
    /// Truncation of the distribution: top-k, top-p and min-p.
    pub filter: Filter,
    /// True to record the sampling mask of each token, with log-probabilities renormalised over it.
    pub records_sampling_mask: bool,
    /// The seed of all random numbers.
    pub seed: u64,
}

impl SamplingSettings {
    /// Greedy sampling: always selects the likeliest token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, filter: Filter::default(), records_sampling_mask: false, seed: 0 }
    }

    /// The random number in [0, 1) that selects the token at `position` of a request's response.
    pub fn uniform(&self, request: &Request, position: usize) -> f32 {
        CounterRng::uniform(self.seed, request.purpose, request.step, request.prompt, request.sample, position as u32)
    }
}

/// A request for one response. `purpose`, `step`, `prompt` and `sample` are the address of its random numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Token ids of the prompt. Equal prompts are computed once.
    pub ids: Arc<[u32]>,
    /// Maximum number of tokens in the response (max_new_tokens).
    pub max_new_tokens: usize,
    /// Training or evaluation.
    pub purpose: Purpose,
    /// The training step, or 0 if there is none.
    pub step: u32,
    /// The index of the prompt (or group) in the step.
    pub prompt: u32,
    /// The index of the response among those to the prompt.
    pub sample: u32,
}

/// Progress of a request, reported as soon as it happens.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A token was sampled.
    Token {
        /// The index of the request.
        request: usize,
        /// The id of the token.
        token: u32,
    },
    /// The response is complete.
    Finished {
        /// The index of the request.
        request: usize,
        /// The complete response.
        completion: &'a Completion,
    },
}
