//! An update of the policy: computes loss and gradient in one pass over packed micro-batches, then takes an AdamW step. `packing` divides
//! sequences into micro-batches, `sum` adds up gradients, `scoring` computes log-probabilities without a gradient, and `report` collects the measurements of an
//! update.

mod packing;
mod report;
mod scoring;
mod sum;

use anyhow::Result;

use super::settings::RunSettings;
use crate::flow::Completion;
use crate::kernels::RowScores;
use crate::model::gradients::{GradientSum, parameters};
use crate::model::head::TokenGradients;
use crate::model::{Decoder, Gradients, Lora, Packed};
use crate::objective::loss::{sequence_log_ratio, token_loss};
use crate::objective::{Ratio, Tokens};
use crate::optim::AdamW;
pub use packing::{Packing, Sequence, by_sequence, micro_batch_count, split_by_sequence};
use report::TokenSums;
pub use report::UpdateReport;
pub use scoring::{PolicyScorer, logprobs};

/// A response with the inputs of its loss, one number per response token each.
#[derive(Clone, Debug)]
pub struct Sample<'a> {
    /// The prompt and the response tokens.
    pub sequence: Sequence<'a>,
    /// The log-probabilities that the sampler recorded, in nats.
    pub sampled: &'a [f32],
    /// Advantages; empty until they are computed.
    pub advantages: Vec<f32>,
    /// Log-probabilities under the old policy, for the ratio's denominator; `None` if the ratio is 1.
    pub old: Option<Vec<f32>>,
}

impl<'a> Sample<'a> {
    /// Creates a sample without advantages or old log-probabilities.
    pub fn of(prompt: &'a [u32], completion: &'a Completion) -> Self {
        let sequence = Sequence::of(prompt, completion);
        Self { sequence, sampled: completion.sampled_logprobs(), advantages: Vec::new(), old: None }
    }
}

/// Computes the gradient of the policy's loss, and log-probabilities under the policy and the reference.
#[derive(Clone, Copy)]
pub struct Updater<'a> {
    /// The settings of the step.
    pub settings: &'a RunSettings,
    /// How sequences are packed into micro-batches.
    pub packing: Packing<'a>,
    /// The policy.
    pub policy: &'a Decoder,
    /// The reference; `None` without a KL term.
    pub reference: Option<&'a Decoder>,
}

impl Updater<'_> {
    /// Computes the gradient of the loss over a mini-batch. Returns its loss terms.
    ///
    /// `gradients` must be zero before. Afterwards, the first entry has the total of this rank; see [`Packing::sum_gradients`] for their
    /// number. `reference` has the log-probabilities that [`loss_reference`](Self::loss_reference) returned for these samples.
    ///
    /// # Errors
    /// If a kernel fails, or the run is interrupted.
    pub fn gradient(&self, samples: &[Sample], reference: Option<&[Vec<f32>]>, gradients: &[Gradients]) -> Result<UpdateReport> {
        let sequences: Vec<Sequence> = samples.iter().map(|sample| sample.sequence).collect();
        let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.response.len()).collect();
        let weights = self.settings.loss.aggregation.sequence_weights(&lengths);
        let add = |sums: &mut TokenSums, gradients: &Gradients, numbers: &[usize], packed: Packed| {
            let tokens = PackedTokens::of(samples, reference, numbers, &weights);
            self.micro_batch(&packed, &tokens, gradients, sums)
        };
        let sums = self.packing.sum_gradients(&sequences, gradients, self.policy.kernels(), add)?;
        Ok(UpdateReport::of_sums(&sums, lengths.iter().sum()))
    }

    fn micro_batch(&self, packed: &Packed, tokens: &PackedTokens, gradients: &Gradients, sums: &mut TokenSums) -> Result<()> {
        let (hidden, trace) = self.policy.forward(packed, self.packing.checkpointing)?;
        // A sequence-level ratio needs all log-probabilities of a response before the loss of any token, so the head runs twice.
        let log_ratios = match &tokens.old {
            Some(old) if self.settings.loss.ratio == Ratio::Sequence => {
                let scores = self.policy.score_hidden(&hidden, packed, self.temperature())?;
                Some(sequence_log_ratios(&packed.offsets, &scores.logprobs, old))
            }
            _ => None,
        };
        let objective = |first: usize, scores: &RowScores| {
            let range = first..first + scores.logprobs.len();
            let loss = token_loss(
                &self.settings.loss,
                Tokens {
                    logprobs: &scores.logprobs,
                    entropies: &scores.entropies,
                    old: tokens.old.as_ref().map(|old| &old[range.clone()]),
                    log_ratios: log_ratios.as_ref().map(|ratios| &ratios[range.clone()]),
                    reference: tokens.reference.as_ref().map(|reference| &reference[range.clone()]),
                    advantages: &tokens.advantages[range.clone()],
                    weights: &tokens.weights[range.clone()],
                },
            );
            sums.add(&loss.terms, &scores.logprobs, &tokens.sampled[range]);
            TokenGradients { d_logprobs: loss.d_logprobs, d_entropies: loss.d_entropies }
        };
        let (_, d_hidden) = self.policy.head_forward_backward(&hidden, packed, self.temperature(), gradients.of_head(), objective)?;
        gradients.backward(self.policy, packed, trace, d_hidden)
    }

    fn temperature(&self) -> f32 {
        self.settings.rollout.temperature
    }
}

/// Applies the gradient in `gradients[0]`, the sum over this rank: adds those of the other ranks, clips it, takes an AdamW step, merges adapters into the base weights, and sets all gradients to
/// zero. Returns the report with its gradient norm and learning rate set.
///
/// # Errors
/// [`NotFinite`](crate::optim::NotFinite) if the gradient is not finite; nothing has changed then. Other errors if a kernel fails.
pub fn apply(
    settings: &RunSettings,
    policy: &Decoder,
    lora: Option<&Lora>,
    mut report: UpdateReport,
    gradients: &[Gradients],
    optimizer: &mut AdamW,
) -> Result<UpdateReport> {
    let total = (settings.train.steps - settings.critic.warmup_steps) * settings.train.updates_per_rollout as u64;
    report.lr = settings.optim.learning_rate(optimizer.count + 1, total);
    let kernels = policy.kernels();
    report.grad_norm = optimizer.step(kernels, &parameters(policy, lora), &gradients[0].entries(), report.lr)?;
    lora.map_or(Ok(()), |lora| lora.merge(policy))?;
    gradients[0].clear(kernels)?;
    Ok(report)
}

/// Returns, for each token of a micro-batch, the log-ratio of its whole response. Response `s` has the tokens `offsets[s]..offsets[s + 1]`.
fn sequence_log_ratios(offsets: &[usize], new: &[f32], old: &[f32]) -> Vec<f32> {
    let mut ratios = Vec::with_capacity(new.len());
    for ends in offsets.windows(2) {
        let range = ends[0]..ends[1];
        ratios.extend(std::iter::repeat_n(sequence_log_ratio(&new[range.clone()], &old[range.clone()]), range.len()));
    }
    ratios
}

/// The inputs of the loss for all response tokens of a micro-batch, concatenated in the order of [`Packed::targets`].
struct PackedTokens {
    sampled: Vec<f32>,
    old: Option<Vec<f32>>,
    reference: Option<Vec<f32>>,
    advantages: Vec<f32>,
    weights: Vec<f32>,
}

impl PackedTokens {
    fn of(samples: &[Sample], reference: Option<&[Vec<f32>]>, numbers: &[usize], weights: &[f32]) -> Self {
        let numbered = || numbers.iter().map(|number| &samples[*number]);
        let weight = |number: &usize| std::iter::repeat_n(weights[*number], samples[*number].sequence.response.len());
        Self {
            sampled: numbered().flat_map(|sample| sample.sampled).copied().collect(),
            // Either all samples of a mini-batch have old log-probabilities, or none.
            old: numbered().map(|sample| sample.old.as_deref()).collect::<Option<Vec<_>>>().map(|old| old.concat()),
            reference: reference.map(|reference| numbers.iter().flat_map(|number| &reference[*number]).copied().collect()),
            advantages: numbered().flat_map(|sample| &sample.advantages).copied().collect(),
            weights: numbers.iter().flat_map(weight).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
