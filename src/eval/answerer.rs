//! Who answers: one small trait between what an evaluation asks and what computes the responses, be that a model in this program or a server.

use std::fmt;
use std::sync::Arc;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::flow::{Finish, Problem};

/// One response that is wanted. `number` and `sample` address its randomness: with one seed they give one response, whatever else is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalRequest {
    /// What is asked.
    pub problem: Arc<Problem>,
    /// The problem's place in its set.
    pub number: u32,
    /// Which response to it.
    pub sample: u32,
}

/// How the requests of one pass are answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asking {
    /// 0 takes the likeliest token each time.
    pub temperature: f64,
    /// Only the likeliest tokens that together reach this probability; 1 is all.
    pub top_p: f64,
    /// Most tokens in a response.
    pub max_new: usize,
    /// Seed of every draw.
    pub seed: u64,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The response, without the end token.
    pub text: String,
    /// Its length in tokens, the end token included.
    pub tokens: usize,
    /// Why it ended; none where the prompt does not fit the model's window, so that nothing was computed.
    pub finish: Option<Finish>,
}

/// Who answered and with what: the part of a score's conditions that the evaluation itself cannot know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What the user called the model.
    pub model: String,
    /// Which weights these are: a commit of the hub, a checksum, a step of a run.
    pub revision: String,
    /// The dtype of weights and activations.
    pub dtype: String,
    /// What computed.
    pub device: String,
    /// The version of the operations.
    pub kernels: String,
    /// Checksum of the chat template.
    pub template: String,
    /// The date that prompts print as today's; empty where they print none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub date: String,
}

impl Identity {
    /// Replaces names that were recorded once and have changed since: the plain operations on the CPU were called `fused`, as those on a GPU
    /// still are.
    pub fn use_todays_names(&mut self) {
        if self.device == "cpu" && self.kernels == "fused" {
            "plain".clone_into(&mut self.kernels);
        }
    }
}

/// Is told each response as it is complete, with the number of its request; from any thread, in any order. An error ends the answering as soon
/// as that can be done.
pub type OnAnswered<'a> = &'a (dyn Fn(usize, Answered) -> Result<()> + Sync);

/// Answers requests.
pub trait Answerer: Sync {
    /// Who this is.
    fn identity(&self) -> Identity;

    /// Answers every request and tells each once.
    ///
    /// # Errors
    /// [`Lost`] when a request cannot be answered for good; all others are answered and told before.
    fn answer(&self, requests: &[EvalRequest], asking: &Asking, on_answered: OnAnswered) -> Result<()>;
}

/// Requests that never got a response; all others were answered and told.
#[derive(Debug)]
pub struct Lost {
    /// Those that were given up: problem, sample, and why.
    pub given_up: Vec<(String, u32, String)>,
    /// Why no more was asked, where that is so.
    pub ended: Option<String>,
    /// How many have an answer.
    pub answered: usize,
    /// How many were asked for.
    pub wanted: usize,
}

impl Lost {
    /// With what was lost after it.
    #[must_use]
    pub fn and(mut self, later: Self) -> Self {
        self.given_up.extend(later.given_up);
        let ended = self.ended.or(later.ended);
        Self { ended, answered: self.answered + later.answered, wanted: self.wanted + later.wanted, ..self }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More would bury the first ones.
        const MOST_SHOWN: usize = 20;
        if let Some(reason) = &self.ended {
            write!(f, "{reason}; ")?;
        }
        write!(f, "{} of {} requests have no answer, all others have one", self.wanted - self.answered, self.wanted)?;
        let list = self.given_up.iter().map(|(id, sample, reason)| format!("{id}, sample {sample} ({reason})"));
        let list = list.take(MOST_SHOWN).collect::<Vec<_>>().join("; ");
        match self.given_up.len() {
            0 => Ok(()),
            given_up if given_up > MOST_SHOWN => write!(f, "; given up: {list}; and {} more", given_up - MOST_SHOWN),
            _ => write!(f, "; given up: {list}"),
        }
    }
}

impl std::error::Error for Lost {}
