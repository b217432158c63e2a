//! One optimizer update from responses with advantages: packed micro-batches, one sweep of loss and gradient, AdamW.

use std::collections::HashMap;

use anyhow::Result;

use super::settings::{RunSettings, TrainSettings};
use crate::flow::{Kept, Scored};
use crate::interrupt::Interrupt;
use crate::kernels::{RowScores, Target};
use crate::lanes::Lanes;
use crate::model::decoder::Recompute;
use crate::model::gradients::parameters;
use crate::model::head::{Scores, TokenGradients};
use crate::model::{Decoder, Gradients, Lora, ModelConfig, Packed};
use crate::objective::loss::{sequence_log_ratio, token_loss};
use crate::objective::{Ratio, Terms, Tokens};
use crate::optim::AdamW;

/// Most memory for kept activations on the CPU before `recompute = "auto"` gives up keeping them: 4 GiB, a share that a laptop has.
const KEPT_BYTES: u64 = 4 << 30;

/// What an update reports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UpdateReport {
    /// The terms of the loss.
    pub terms: Terms,
    /// The gradient's global norm before clipping.
    pub grad_norm: f64,
    /// The learning rate.
    pub lr: f64,
    /// Largest distance between the trainer's log-probability of a token and the sampler's.
    pub gap_max: f64,
    /// Mean distance.
    pub gap_mean: f64,
}

impl UpdateReport {
    /// The mean over the updates of one rollout batch; the gap is the first one's.
    pub fn mean(reports: &[Self]) -> Self {
        let n = reports.len().max(1) as f64;
        let mut mean = Self::default();
        for report in reports {
            mean.terms.add(&report.terms);
            mean.grad_norm += report.grad_norm / n;
            mean.lr += report.lr / n;
        }
        let terms = &mut mean.terms;
        [&mut terms.policy, &mut terms.kl, &mut terms.entropy].into_iter().for_each(|term| *term /= n);
        // After the first update the policy is not the one that sampled.
        if let Some(first) = reports.first() {
            (mean.gap_max, mean.gap_mean) = (first.gap_max, first.gap_mean);
        }
        mean
    }
}

/// A response with what the loss needs of it.
#[derive(Clone)]
pub struct Sample<'a> {
    /// The response.
    pub scored: &'a Scored,
    /// The advantage of each of its tokens.
    pub advantages: Vec<f32>,
    /// Log-probabilities under the policy that the ratio is taken to; none for a ratio of 1.
    pub old: Option<Vec<f32>>,
}

/// Updates the policy.
pub struct Updater<'a> {
    /// The settings.
    pub settings: &'a RunSettings,
    /// Where micro-batches are dealt to.
    pub lanes: &'a Lanes,
    /// The policy.
    pub policy: &'a Decoder,
    /// The policy that a KL term holds to; none where there is no such term.
    pub reference: Option<&'a Decoder>,
    /// Looked at before every micro-batch.
    pub interrupt: &'a Interrupt,
}

/// Which activations are computed again: `auto` keeps them as long as those of all micro-batches in progress take 4 GiB at most on the CPU, and
/// half of what is free on a GPU.
pub fn recompute(config: &ModelConfig, target: &Target, settings: &TrainSettings, lanes: usize) -> Recompute {
    let kept = (config.activation_bytes(target) * settings.micro_batch_tokens * lanes) as u64;
    match settings.recompute {
        Recompute::Auto if kept > target.free.map_or(KEPT_BYTES, |free| free / 2) => Recompute::All,
        Recompute::Auto => Recompute::None,
        chosen => chosen,
    }
}

/// Micro-batches for so many responses of so many tokens together: at least one a lane.
pub fn micro_batch_count(settings: &TrainSettings, lanes: usize, responses: usize, tokens: usize) -> usize {
    tokens.div_ceil(settings.micro_batch_tokens).max(lanes).clamp(1, responses.max(1))
}

/// A prompt with its responses, `(number, tokens)`.
struct PromptRows {
    rows: usize,
    responses: Vec<(usize, usize)>,
}

/// Micro-batches of at most `budget` rows, each prompt counted once in each that has responses to it; a response that exceeds it with its prompt
/// is alone. Smaller ones where a lane would have nothing to do.
fn cut(prompts: &[PromptRows], budget: usize, lanes: usize) -> Vec<Vec<usize>> {
    let all = |prompt: &PromptRows| prompt.rows + prompt.responses.iter().map(|(_, tokens)| tokens).sum::<usize>();
    let budget = budget.min(prompts.iter().map(all).sum::<usize>().div_ceil(lanes));
    let (mut batches, mut rows) = (vec![Vec::new()], 0);
    for prompt in prompts {
        let mut packed = false;
        for (index, tokens) in &prompt.responses {
            if rows > 0 && rows + tokens + if packed { 0 } else { prompt.rows } > budget {
                batches.push(Vec::new());
                (rows, packed) = (0, false);
            }
            rows += tokens + if packed { 0 } else { prompt.rows };
            packed = true;
            if let Some(batch) = batches.last_mut() {
                batch.push(*index);
            }
        }
    }
    batches
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

/// A mini-batch in its parts.
struct MiniBatch<'a> {
    samples: &'a [Sample<'a>],
    /// Each sequence's weight in the loss.
    weights: Vec<f32>,
    /// Numbers of the samples in each micro-batch.
    micro_batches: Vec<Vec<usize>>,
    /// The reference's log-probabilities of each micro-batch, where it is streamed: it scores all at once. A resident one scores each beside the
    /// policy.
    streamed: Option<Vec<Scores>>,
    recompute: Recompute,
}

impl Updater<'_> {
    /// The log-probabilities of every response under the policy as it is now.
    pub fn logprobs(&self, samples: &[Sample]) -> Result<Vec<Vec<f32>>> {
        let micro_batches = self.micro_batches(samples);
        let lanes = self.lanes.count();
        let scored = self.lanes.run(|lane| {
            let own = micro_batches.iter().skip(lane).step_by(lanes);
            own.map(|micro| {
                self.interrupt.check()?;
                Ok((micro, self.policy.score(&self.pack(samples, micro), self.temperature())?))
            })
            .collect::<Result<Vec<_>>>()
        })?;
        Ok(by_response(samples, scored.into_iter().flatten()))
    }

    /// The log-probabilities of every response under the reference; none without one.
    pub fn reference_logprobs(&self, samples: &[Sample]) -> Result<Vec<Vec<f32>>> {
        let Some(reference) = self.reference else { return Ok(Vec::new()) };
        if !self.settings.train.stream_reference {
            return Updater { policy: reference, reference: None, ..*self }.logprobs(samples);
        }
        let micro_batches = self.micro_batches(samples);
        let packed: Vec<Packed> = micro_batches.iter().map(|micro| self.pack(samples, micro)).collect();
        let scored = reference.score_all(&packed, self.temperature())?;
        Ok(by_response(samples, micro_batches.iter().zip(scored)))
    }

    /// The gradient of the loss over a mini-batch, summed over micro-batches into `gradients` (one per lane, all zero before; the sum ends in
    /// the first), and its terms.
    pub fn gradient(&self, samples: &[Sample], gradients: &[Gradients]) -> Result<UpdateReport> {
        let lengths: Vec<usize> = samples.iter().map(|sample| sample.scored.rollout.completion.ids.len()).collect();
        let lanes = self.lanes.count();
        let batch = self.mini_batch(samples, &lengths)?;
        let parts = self.lanes.run(|lane| {
            let mut part = Part::default();
            for number in (lane..batch.micro_batches.len()).step_by(lanes) {
                self.micro_batch(&batch, number, &gradients[lane], &mut part)?;
            }
            Ok(part)
        })?;
        gradients[1..].iter().try_for_each(|other| gradients[0].add(other, self.policy.kernels()))?;
        let mut report = UpdateReport::default();
        let mut gap_sum = 0.0;
        for part in parts {
            report.terms.add(&part.terms);
            report.gap_max = report.gap_max.max(part.gap_max);
            gap_sum += part.gap_sum;
        }
        report.gap_mean = gap_sum / lengths.iter().sum::<usize>().max(1) as f64;
        Ok(report)
    }

    fn mini_batch<'b>(&self, samples: &'b [Sample<'b>], lengths: &[usize]) -> Result<MiniBatch<'b>> {
        let micro_batches = self.micro_batches(samples);
        let streamed = match self.loss_reference().filter(|_| self.settings.train.stream_reference) {
            Some(reference) => {
                let packed: Vec<Packed> = micro_batches.iter().map(|micro| self.pack(samples, micro)).collect();
                Some(reference.score_all(&packed, self.temperature())?)
            }
            None => None,
        };
        let weights = self.settings.loss.aggregation.sequence_weights(lengths);
        let recompute = recompute(&self.policy.config, &self.policy.target(), &self.settings.train, self.lanes.count());
        Ok(MiniBatch { samples, weights, micro_batches, streamed, recompute })
    }

    fn micro_batch(&self, batch: &MiniBatch, number: usize, gradients: &Gradients, part: &mut Part) -> Result<()> {
        self.interrupt.check()?;
        let micro = &batch.micro_batches[number];
        let packed = self.pack(batch.samples, micro);
        let tokens = Flat::of(batch.samples, micro, &batch.weights);
        let resident = match (&batch.streamed, self.loss_reference()) {
            (None, Some(reference)) => Some(reference.score(&packed, self.temperature())?),
            _ => None,
        };
        let reference = resident.as_ref().or(batch.streamed.as_ref().map(|scores| &scores[number]));
        let (hidden, trace) = self.policy.forward(&packed, batch.recompute)?;
        // A response's ratio needs all its log-probabilities before the loss of any token is known: the head is swept twice.
        let log_ratios = match &tokens.old {
            Some(old) if self.settings.loss.ratio == Ratio::Sequence => {
                let scores = self.policy.score_hidden(&hidden, &packed, self.temperature())?;
                Some(sequence_log_ratios(batch.samples, micro, &scores.logprobs, old))
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
                    reference: reference.map(|reference| &reference.logprobs[range.clone()]),
                    advantages: &tokens.advantages[range.clone()],
                    weights: &tokens.weights[range.clone()],
                },
            );
            part.terms.add(&loss.terms);
            for (trained, sampled) in scores.logprobs.iter().zip(&tokens.sampled[range]) {
                let gap = f64::from((trained - sampled).abs());
                part.gap_max = part.gap_max.max(gap);
                part.gap_sum += gap;
            }
            TokenGradients { d_logprobs: loss.d_logprobs, d_entropies: loss.d_entropies }
        };
        let (_, d_hidden) = self.policy.head_sweep(&hidden, &packed, self.temperature(), gradients.of_head(), objective)?;
        gradients.backward(self.policy, &packed, trace, d_hidden)
    }

    /// The reference, where the loss compares with it.
    fn loss_reference(&self) -> Option<&Decoder> {
        self.reference.filter(|_| self.settings.loss.kl != 0.0)
    }

    fn temperature(&self) -> f32 {
        self.settings.rollout.temperature
    }

    /// Responses to one prompt are dealt to micro-batches in turn: enough of them that none exceeds the token budget by more than the prompt and
    /// the unevenness of lengths, and at least one a lane. Responses to several prompts are cut prompt after prompt.
    pub(super) fn micro_batches(&self, samples: &[Sample]) -> Vec<Vec<usize>> {
        let (mut prompts, mut numbers) = (Vec::<PromptRows>::new(), HashMap::<&[u32], usize>::new());
        for (index, sample) in samples.iter().enumerate() {
            let rollout = &sample.scored.rollout;
            let number = *numbers.entry(&rollout.prompt.ids).or_insert_with(|| {
                prompts.push(PromptRows { rows: rollout.prompt.ids.len(), responses: Vec::new() });
                prompts.len() - 1
            });
            prompts[number].responses.push((index, rollout.completion.ids.len()));
        }
        if prompts.len() > 1 {
            return cut(&prompts, self.settings.train.micro_batch_tokens, self.lanes.count());
        }
        let tokens: usize = samples.iter().map(|sample| sample.scored.rollout.completion.ids.len()).sum();
        let count = micro_batch_count(&self.settings.train, self.lanes.count(), samples.len(), tokens);
        (0..count).map(|first| (first..samples.len()).step_by(count).collect()).collect()
    }

    /// Packs responses, each distinct run of equal prompts once.
    pub(super) fn pack(&self, samples: &[Sample], micro: &[usize]) -> Packed {
        let mut groups: Vec<(&[u32], Vec<&[u32]>)> = Vec::new();
        for index in micro {
            let rollout = &samples[*index].scored.rollout;
            match groups.last_mut() {
                Some((prompt, responses)) if *prompt == &*rollout.prompt.ids => responses.push(&rollout.completion.ids),
                _ => groups.push((&rollout.prompt.ids, vec![&rollout.completion.ids])),
            }
        }
        Packed { kept: kept(samples, micro), ..Packed::of_responses(groups) }
    }
}

/// The tokens that the sampler kept, for each token of a micro-batch; none at all where nothing was truncated.
fn kept(samples: &[Sample], micro: &[usize]) -> Kept {
    let completions = || micro.iter().map(|index| &samples[*index].scored.rollout.completion);
    let mut kept = Kept::default();
    if completions().all(|completion| completion.truncated.as_ref().is_none_or(|truncated| truncated.kept.is_whole())) {
        return kept;
    }
    for completion in completions() {
        match &completion.truncated {
            Some(truncated) => kept.append(&truncated.kept),
            None => completion.ids.iter().for_each(|_| kept.push_whole()),
        }
    }
    kept
}

/// Gives each response of a micro-batch its share of numbers that lie end to end.
pub fn deal(flat: &[f32], samples: &[Sample], micro: &[usize], mut take: impl FnMut(usize, &[f32])) {
    let mut rest = flat;
    for index in micro {
        let (own, after) = rest.split_at(samples[*index].scored.rollout.completion.ids.len());
        take(*index, own);
        rest = after;
    }
}

/// Log-probabilities of micro-batches, each with the numbers of its samples, by sample.
fn by_response<'a>(samples: &[Sample], scored: impl Iterator<Item = (&'a Vec<usize>, Scores)>) -> Vec<Vec<f32>> {
    let mut logprobs = vec![Vec::new(); samples.len()];
    for (micro, scores) in scored {
        deal(&scores.logprobs, samples, micro, |index, own| logprobs[index] = own.to_vec());
    }
    logprobs
}

/// For each token of a micro-batch the log of its whole response's ratio.
fn sequence_log_ratios(samples: &[Sample], micro: &[usize], new: &[f32], old: &[f32]) -> Vec<f32> {
    let (mut ratios, mut start) = (Vec::with_capacity(new.len()), 0);
    for index in micro {
        let length = samples[*index].scored.rollout.completion.ids.len();
        let range = start..start + length;
        ratios.extend(std::iter::repeat_n(sequence_log_ratio(&new[range.clone()], &old[range]), length));
        start += length;
    }
    ratios
}

#[derive(Default)]
struct Part {
    terms: Terms,
    gap_max: f64,
    gap_sum: f64,
}

/// The tokens of a micro-batch laid end to end, as `Packed::targets` has them.
struct Flat {
    sampled: Vec<f32>,
    old: Option<Vec<f32>>,
    advantages: Vec<f32>,
    weights: Vec<f32>,
}

impl Flat {
    fn of(samples: &[Sample], micro: &[usize], weights: &[f32]) -> Self {
        let has_old = micro.iter().all(|index| samples[*index].old.is_some());
        let mut flat = Self { sampled: Vec::new(), old: has_old.then(Vec::new), advantages: Vec::new(), weights: Vec::new() };
        for index in micro {
            let sample = &samples[*index];
            let sampled = sample.scored.rollout.completion.sampled_logprobs();
            flat.sampled.extend_from_slice(sampled);
            flat.advantages.extend_from_slice(&sample.advantages);
            flat.weights.extend(std::iter::repeat_n(weights[*index], sampled.len()));
            if let (Some(flat), Some(old)) = (&mut flat.old, &sample.old) {
                flat.extend_from_slice(old);
            }
        }
        flat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_to_several_prompts_are_cut_within_the_budget() {
        let prompt = |rows, responses: &[(usize, usize)]| PromptRows { rows, responses: responses.to_vec() };
        // Prompts that take turns in the batch stand together in their micro-batches.
        let prompts = [prompt(10, &[(0, 5), (2, 5), (4, 5)]), prompt(20, &[(1, 5), (3, 90), (5, 5)])];
        assert_eq!(cut(&prompts, 50, 1), [vec![0, 2, 4, 1], vec![3], vec![5]]);
        assert_eq!(cut(&prompts, 1000, 1), [[0, 2, 4, 1, 3, 5]]);
        assert_eq!(cut(&prompts[..1], 1000, 2), [[0], [2], [4]]);
    }
}
