//! Computes log-probabilities of given tokens under the policy or the reference. Also provides the policy as a scorer for rewards.

use anyhow::Result;

use super::packing::{by_sequence, pack};
use super::{Packing, Sample, Sequence, Updater};
use crate::flow::Prompt;
use crate::model::{Decoder, Packed};
use crate::output::Progress;
use crate::reward::Scorer;
use crate::text::Text;

impl Updater<'_> {
    /// Computes the log-probabilities of each response under the current policy, one per response token.
    ///
    /// # Errors
    /// If a kernel fails, or the run is interrupted.
    pub fn logprobs(&self, sequences: &[Sequence]) -> Result<Vec<Vec<f32>>> {
        logprobs(&self.packing, self.policy, self.temperature(), sequences)
    }

    /// Computes the log-probabilities of each response under the reference, one per response token; empty without a reference.
    ///
    /// # Errors
    /// If a kernel fails, or the run is interrupted.
    pub fn reference_logprobs(&self, sequences: &[Sequence]) -> Result<Vec<Vec<f32>>> {
        let Some(reference) = self.reference else { return Ok(Vec::new()) };
        if !self.settings.train.stream_reference {
            return logprobs(&self.packing, reference, self.temperature(), sequences);
        }
        self.packing.dealt(sequences, |own| {
            // Each block's weights are copied to the device once and serve all micro-batches.
            let micro_batches = self.packing.micro_batches(own);
            let packed: Vec<Packed> = micro_batches.iter().map(|numbers| pack(own, numbers)).collect();
            let hidden = Progress::hidden();
            let scores = reference.score_all(&packed, self.temperature(), self.packing.progress.unwrap_or(&hidden))?;
            Ok(by_sequence(own, micro_batches.into_iter().zip(scores.into_iter().map(|scores| scores.logprobs))))
        })
    }

    /// Computes the log-probabilities of each sample under the reference, one per response token; `None` if the loss has no KL term.
    ///
    /// # Errors
    /// If a kernel fails, or the run is interrupted.
    pub fn loss_reference(&self, samples: &[Sample]) -> Result<Option<Vec<Vec<f32>>>> {
        if self.settings.loss.kl == 0.0 || self.reference.is_none() {
            return Ok(None);
        }
        let sequences: Vec<Sequence> = samples.iter().map(|sample| sample.sequence).collect();
        self.reference_logprobs(&sequences).map(Some)
    }
}

/// Computes the log-probabilities of each response under a model at `temperature`, one per response token.
///
/// # Errors
/// If a kernel fails, or the run is interrupted.
pub fn logprobs(packing: &Packing, model: &Decoder, temperature: f32, sequences: &[Sequence]) -> Result<Vec<Vec<f32>>> {
    packing.score(sequences, |packed| Ok(model.score(&packed, temperature)?.logprobs))
}

/// The current policy as a scorer for rewards, with the probabilities that the trainer computes.
pub struct PolicyScorer<'a> {
    /// Computes log-probabilities at the temperature of its settings.
    pub updater: Updater<'a>,
    /// The policy's tokenizer.
    pub text: &'a Text,
}

impl Scorer for PolicyScorer<'_> {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.text.encode(text)
    }

    fn context_length(&self) -> usize {
        self.updater.policy.config.context_length
    }

    fn logprobs(&self, continuations: &[(&Prompt, Vec<u32>)]) -> Result<Vec<Vec<f32>>> {
        let sequences: Vec<Sequence> =
            continuations.iter().map(|(prompt, response)| Sequence { prompt: &prompt.ids, response, mask: None }).collect();
        self.updater.logprobs(&sequences)
    }
}
