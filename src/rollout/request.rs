//! The input of the engine, and the events that it reports.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::flow::Completion;
use crate::kernels::Filter;
use crate::rng::{CounterRng, Purpose};

/// How tokens are sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingSettings {
    /// Divides the logits. 0 selects the most likely token (greedy).
    pub temperature: f32,
    /// Top-k, top-p and min-p.
    pub filter: Filter,
    /// True to record each token's sampling mask and its log-probability renormalized over the mask.
    pub records_sampling_mask: bool,
    /// The seed of the random numbers.
    pub seed: u64,
}

impl SamplingSettings {
    /// Returns the settings of greedy decoding.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, filter: Filter::default(), records_sampling_mask: false, seed: 0 }
    }

    /// Returns the random number in [0, 1) that selects the token at `position` of a request's response.
    pub fn uniform(&self, request: &Request, position: usize) -> f32 {
        CounterRng::uniform(self.seed, request.purpose, request.step, request.prompt, request.sample, position as u32)
    }
}

/// A request for one response. `purpose`, `step`, `prompt` and `sample` are the address of its random numbers ([`CounterRng`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Token ids of the prompt. Each worker computes equal prompts once.
    pub ids: Arc<[u32]>,
    /// Maximum number of tokens in the response, including the end token.
    pub max_new_tokens: usize,
    /// Training ([`Purpose::Sampling`]) or evaluation.
    pub purpose: Purpose,
    /// The training step; 0 outside training.
    pub step: u32,
    /// Index of the prompt (in training, of the group) in the step.
    pub prompt: u32,
    /// Index of the response among those to the prompt.
    pub sample: u32,
}

/// Progress of a request, reported while the engine runs.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A token was sampled.
    Token {
        /// Index in the list of requests.
        request: usize,
        /// The token id.
        token: u32,
    },
    /// The response is complete.
    Finished {
        /// Index in the list of requests.
        request: usize,
        /// The complete response.
        completion: &'a Completion,
    },
}
