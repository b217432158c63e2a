//! The interface between an evaluation and the generator of its responses: a model in this program or a server.

use std::fmt;
use std::sync::Arc;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::flow::{FinishReason, Problem};

/// A request for one response. `number` and `sample` address its randomness: with the same seed, a local model returns the same response
/// regardless of the other requests.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalRequest {
    /// The problem.
    pub problem: Arc<Problem>,
    /// The index of the problem in its set.
    pub number: u32,
    /// The index of the response among those to the same problem.
    pub sample: u32,
}

/// Sampling parameters of one evaluation pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GenerationConfig {
    /// Sampling temperature; 0 is greedy decoding.
    pub temperature: f64,
    /// Nucleus sampling: keeps the most likely tokens that together reach this probability; 1 keeps all.
    pub top_p: f64,
    /// Maximum number of tokens in a response.
    pub max_new_tokens: usize,
    /// The seed for sampling tokens.
    pub seed: u64,
}

/// The response to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The text, without the end token.
    pub text: String,
    /// The length in tokens, including the end token; 0 if unknown.
    pub tokens: usize,
    /// Why generation ended. `None` if nothing was generated because the prompt does not fit the context length.
    pub finish: Option<FinishReason>,
}

/// Identifies a generator: the part of a score's conditions that only the generator knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The model's name as given by the user.
    pub model: String,
    /// The version of the weights: a commit on the hub, a checksum, or a step of a run.
    pub revision: String,
    /// The dtype of weights and activations.
    pub dtype: String,
    /// The device that computed the responses, or the URL of a server.
    pub device: String,
    /// The kernels that computed them, such as `plain` or `fused`.
    pub kernels: String,
    /// The checksum of the chat template.
    pub template: String,
    /// The date that the chat template inserts as today's date; empty if it inserts none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub date: String,
}

impl Identity {
    /// Updates kernel names from records of older versions, which called the plain kernels on the CPU `fused` and candle's stock operations
    /// `reference`.
    pub fn migrate_names(&mut self) {
        if self.device == "cpu" && self.kernels == "fused" {
            "plain".clone_into(&mut self.kernels);
        } else if self.kernels == "reference" {
            "stock".clone_into(&mut self.kernels);
        }
    }
}

/// Receives each complete response with the index of its request. Called from any thread and in any order. If it returns an error,
/// generation fails with that error.
pub type OnResponse<'a> = &'a (dyn Fn(usize, Response) -> Result<()> + Sync);

/// Generates responses to evaluation requests.
pub trait Generator: Sync {
    /// Describes the model and the machine.
    fn identity(&self) -> Identity;

    /// Generates a response to each request, and calls `on_response` once for each.
    ///
    /// # Errors
    /// [`FailedRequests`] if some requests failed permanently; `on_response` has then received the other responses. Also any error of
    /// `on_response`.
    fn generate(&self, requests: &[EvalRequest], generation: &GenerationConfig, on_response: OnResponse) -> Result<()>;
}

/// The requests that have no response. `on_response` has received the responses to the others.
#[derive(Debug)]
pub struct FailedRequests {
    /// The failed requests as `(problem id, sample, reason)`.
    pub failed: Vec<(String, u32, String)>,
    /// Why no further requests were sent; `None` if all were tried.
    pub ended: Option<String>,
    /// The number of requests with a response.
    pub answered: usize,
    /// The total number of requests.
    pub requests: usize,
}

impl FailedRequests {
    /// Merges the failures of a later pass.
    #[must_use]
    pub fn and(mut self, later: Self) -> Self {
        self.failed.extend(later.failed);
        let ended = self.ended.or(later.ended);
        Self { ended, answered: self.answered + later.answered, requests: self.requests + later.requests, ..self }
    }
}

impl fmt::Display for FailedRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The maximum number of failed requests in the message.
        const MAX_SHOWN: usize = 20;
        if let Some(reason) = &self.ended {
            write!(f, "{reason}; ")?;
        }
        write!(f, "{} of {} requests have no response, all others are complete", self.requests - self.answered, self.requests)?;
        let list = self.failed.iter().map(|(id, sample, reason)| format!("{id}, sample {sample} ({reason})"));
        let list = list.take(MAX_SHOWN).collect::<Vec<_>>().join("; ");
        match self.failed.len() {
            0 => Ok(()),
            failed if failed > MAX_SHOWN => write!(f, "; failed: {list}; and {} more", failed - MAX_SHOWN),
            _ => write!(f, "; failed: {list}"),
        }
    }
}

impl std::error::Error for FailedRequests {}
