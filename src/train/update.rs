//! One optimizer update from responses with advantages: one sweep of loss and gradient over packed micro-batches, then AdamW. `packing` divides
//! sequences into micro-batches, `scoring` gives log-probabilities without a gradient, `report` adds up what an update measured.

mod packing;
mod report;
mod scoring;

use anyhow::Result;

use super::settings::RunSettings;
use crate::flow::Completion;
use crate::kernels::RowScores;
use crate::model::gradients::parameters;
use crate::model::head::TokenGradients;
use crate::model::{Decoder, Gradients, Lora, Packed};
use crate::objective::loss::{sequence_log_ratio, token_loss};
use crate::objective::{Ratio, Tokens};
use crate::optim::AdamW;
pub use packing::{Packing, Sequence, by_sequence, deal, micro_batch_count};
use report::LaneSums;
pub use report::UpdateReport;
pub use scoring::{PolicyScorer, logprobs};

/// A response with what the loss needs of it: a number for each of its tokens.
#[derive(Clone, Debug)]
pub struct Sample<'a> {
    /// Its tokens.
    pub sequence: Sequence<'a>,
    /// Log-probabilities that the sampler recorded.
    pub sampled: &'a [f32],
    /// Advantages.
    pub advantages: Vec<f32>,
    /// Log-probabilities under the policy that the ratio is taken to; none for a ratio of 1.
    pub old: Option<Vec<f32>>,
}

impl<'a> Sample<'a> {
    /// A sampled response, without advantages and without an old policy.
    pub fn of(prompt: &'a [u32], completion: &'a Completion) -> Self {
        let sequence = Sequence::of(prompt, completion);
        Self { sequence, sampled: completion.sampled_logprobs(), advantages: Vec::new(), old: None }
    }
}

/// Computes with the policy: log-probabilities, and the gradient of the loss.
#[derive(Clone, Copy)]
pub struct Updater<'a> {
    /// The settings of the step.
    pub settings: &'a RunSettings,
    /// How sequences become micro-batches.
    pub packing: Packing<'a>,
    /// The policy.
    pub policy: &'a Decoder,
    /// The policy that a KL term holds to; none where there is no such term.
    pub reference: Option<&'a Decoder>,
}

impl Updater<'_> {
    /// The gradient of the loss over a mini-batch, summed over micro-batches into `gradients` (one per lane, all zero before; the sum ends in
    /// the first), and its terms. `reference` are the reference's log-probabilities of each sample's tokens, as
    /// [`loss_reference`](Self::loss_reference) gives them.
    pub fn gradient(&self, samples: &[Sample], reference: Option<&[Vec<f32>]>, gradients: &[Gradients]) -> Result<UpdateReport> {
        let sequences: Vec<Sequence> = samples.iter().map(|sample| sample.sequence).collect();
        let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.response.len()).collect();
        let weights = self.settings.loss.aggregation.sequence_weights(&lengths);
        let sums = self.packing.on_lanes(&sequences, |sums: &mut LaneSums, lane, numbers, packed| {
            let tokens = Flat::of(samples, reference, numbers, &weights);
            self.micro_batch(&packed, &tokens, &gradients[lane], sums)
        })?;
        gradients[1..].iter().try_for_each(|other| gradients[0].add(other, self.policy.kernels()))?;
        Ok(UpdateReport::of_lanes(&sums, lengths.iter().sum()))
    }

    fn micro_batch(&self, packed: &Packed, tokens: &Flat, gradients: &Gradients, sums: &mut LaneSums) -> Result<()> {
        let (hidden, trace) = self.policy.forward(packed, self.packing.recompute)?;
        // A response's ratio needs all its log-probabilities before the loss of any token is known: the head is swept twice.
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
        let (_, d_hidden) = self.policy.head_sweep(&hidden, packed, self.temperature(), gradients.of_head(), objective)?;
        gradients.backward(self.policy, packed, trace, d_hidden)
    }

    fn temperature(&self) -> f32 {
        self.settings.rollout.temperature
    }
}

/// The step that follows a gradient: clip and AdamW; adapters are then merged. The gradients are zero again afterwards. Completes the gradient's
/// report.
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
    gradients.iter().try_for_each(|gradients| gradients.clear(kernels))?;
    Ok(report)
}

/// For each token of a micro-batch the log of its whole response's ratio; response `s` has the tokens `offsets[s]..offsets[s + 1]`.
fn sequence_log_ratios(offsets: &[usize], new: &[f32], old: &[f32]) -> Vec<f32> {
    let mut ratios = Vec::with_capacity(new.len());
    for ends in offsets.windows(2) {
        let range = ends[0]..ends[1];
        ratios.extend(std::iter::repeat_n(sequence_log_ratio(&new[range.clone()], &old[range.clone()]), range.len()));
    }
    ratios
}

/// The numbers of a micro-batch's response tokens laid end to end, as [`Packed::targets`] has them.
struct Flat {
    sampled: Vec<f32>,
    old: Option<Vec<f32>>,
    reference: Option<Vec<f32>>,
    advantages: Vec<f32>,
    weights: Vec<f32>,
}

impl Flat {
    fn of(samples: &[Sample], reference: Option<&[Vec<f32>]>, numbers: &[usize], weights: &[f32]) -> Self {
        let numbered = || numbers.iter().map(|number| &samples[*number]);
        let weight = |number: &usize| std::iter::repeat_n(weights[*number], samples[*number].sequence.response.len());
        Self {
            sampled: numbered().flat_map(|sample| sample.sampled).copied().collect(),
            // A mini-batch has them of all its samples or of none.
            old: numbered().map(|sample| sample.old.as_deref()).collect::<Option<Vec<_>>>().map(|old| old.concat()),
            reference: reference.map(|reference| numbers.iter().flat_map(|number| &reference[*number]).copied().collect()),
            advantages: numbered().flat_map(|sample| &sample.advantages).copied().collect(),
            weights: numbers.iter().flat_map(weight).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
