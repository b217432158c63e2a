//! The policy as rewards may ask it: its probabilities of given tokens, as the trainer computes them.

use anyhow::Result;

use super::update::{Sample, Updater};
use crate::flow::{Completion, Finish, Prompt, Rollout, Scored};
use crate::reward::Scorer;
use crate::text::Text;

/// The policy as it is now.
pub struct PolicyScorer<'a> {
    /// Computes in micro-batches, at the temperature of training.
    pub updater: Updater<'a>,
    /// The policy's tokenizer.
    pub text: &'a Text,
}

impl Scorer for PolicyScorer<'_> {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.text.encode(text)
    }

    fn window(&self) -> usize {
        self.updater.policy.config.window
    }

    fn logprobs(&self, continuations: &[(&Prompt, Vec<u32>)]) -> Result<Vec<Vec<f32>>> {
        let scored = continuations.iter().enumerate().map(|(sample, (prompt, ids))| {
            let completion = Completion { ids: ids.clone(), logprobs: Vec::new(), finish: Finish::Stop, truncated: None };
            let rollout = Rollout { group: 0, sample, prompt: (*prompt).clone(), completion, text: String::new() };
            Scored { rollout, reward: 0.0, rewards: Default::default(), correct: false, boxed: false }
        });
        let scored: Vec<Scored> = scored.collect();
        let samples: Vec<Sample> = scored.iter().map(|scored| Sample { scored, advantages: Vec::new(), old: None }).collect();
        self.updater.logprobs(&samples)
    }
}
