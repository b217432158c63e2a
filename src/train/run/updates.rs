//! A step's updates: what the critic says, then the policy's mini-batches, each again with less at once where memory is used up.

use std::time::Instant;

use anyhow::{Context, Error, Result};
use candle_core::Tensor;

use super::failure::Standing;
use super::{Run, trained};
use crate::flow::Scored;
use crate::kernels::is_out_of_memory;
use crate::optim::NotFinite;
use crate::train::advantages::{advantages, penalties};
use crate::train::critic::{self, Critic, CriticReport};
use crate::train::measures::{CriticMeasures, Updated};
use crate::train::update::{Sample, UpdateReport, Updater, apply};

/// Micro-batches are not made smaller than this when memory is used up.
const LEAST_MICRO_BATCH: usize = 256;

impl Run<'_> {
    /// The step's updates of critic and policy.
    pub(super) fn update(&mut self, scored: &[Scored]) -> Result<Updated> {
        let _span = tracing::info_span!("update").entered();
        let mut samples: Vec<Sample> = scored.iter().map(|scored| Sample { scored, advantages: Vec::new(), old: None }).collect();
        if self.inputs.replay.is_some() {
            samples.iter_mut().for_each(|sample| sample.old = Some(sample.scored.rollout.completion.sampled_logprobs().to_vec()));
        } else if self.needs_old_logprobs() {
            let old = self.within_memory(|run| run.updater().logprobs(&samples))?;
            samples.iter_mut().zip(old).for_each(|(sample, old)| sample.old = Some(old));
        }
        let penalties = self.penalties(&samples)?;
        let penalty = penalties.iter().flatten().flatten().map(|penalty| f64::from(*penalty)).sum::<f64>() / scored.len().max(1) as f64;
        let mut skipped = None;
        let (advantages, critic) = match self.learn_values(&samples, &critic::token_rewards(scored, penalties.as_deref()), &mut skipped)? {
            Some((advantages, measures)) => (advantages, Some(measures)),
            None => (advantages(&self.settings, scored, penalties.as_deref()), None),
        };
        if self.step < self.settings.critic.warmup_steps {
            self.ensure_weights()?;
            return Ok(Updated { report: UpdateReport::default(), critic, penalty, skipped });
        }
        samples.iter_mut().zip(advantages).for_each(|(sample, advantages)| sample.advantages = advantages);
        let mut reports = Vec::new();
        let size = samples.len() / self.settings.updates_per_epoch();
        for mini_batch in (0..self.settings.train.epochs).flat_map(|_| samples.chunks(size)) {
            let report = self.within_memory(|run| run.updater().gradient(mini_batch, &run.gradients))?;
            if let Some(path) = self.inputs.dump_gradients.take() {
                let gradients = self.gradients[0].entries();
                let gradients: Vec<Option<&Tensor>> = gradients.into_iter().map(|(_, tensor)| Some(tensor)).collect();
                trained(&self.inputs.model.decoder, self.lora.as_ref()).write(&path, &gradients)?;
            }
            reports.push(self.apply(report, &mut skipped)?);
        }
        Ok(Updated { report: UpdateReport::mean(&reports), critic, penalty, skipped })
    }

    /// The policy's update by the gradient that was just computed. One whose loss or gradient is not finite is skipped, and `skipped` says why;
    /// its norm is NaN then.
    fn apply(&mut self, report: UpdateReport, skipped: &mut Option<String>) -> Result<UpdateReport> {
        let before = std::mem::replace(&mut self.standing, Standing::Changing);
        let (policy, lora) = (&self.inputs.model.decoder, self.lora.as_ref());
        let applied = if report.terms.loss(&self.now.loss).is_finite() {
            apply(&self.settings, policy, lora, report, &self.gradients, &mut self.optimizer)
        } else {
            Err(NotFinite { what: "the loss".to_owned() }.into())
        };
        let report = match applied {
            Ok(report) => report,
            Err(error) => {
                skipped.get_or_insert(reason(error)?);
                self.standing = before;
                self.gradients.iter().try_for_each(|gradients| gradients.clear(policy.kernels()))?;
                return Ok(UpdateReport { grad_norm: f64::NAN, ..report });
            }
        };
        self.ensure_weights()?;
        Ok(report)
    }

    /// Whether a pass before the first update is worth its time. For ratios: where the policy learns by several updates. For KL in the reward: on
    /// a GPU, where the sampler's log-probabilities are off the trainer's by rounding, which whitening would make large.
    pub(super) fn needs_old_logprobs(&self) -> bool {
        let (settings, kernels) = (&self.settings, self.inputs.model.decoder.kernels());
        let warms_up = self.step < settings.critic.warmup_steps;
        let for_ratios = settings.train.updates_per_rollout > 1 && settings.loss.policy != 0.0 && !warms_up;
        for_ratios || (settings.reward.kl != 0.0 && !kernels.device().is_cpu())
    }

    /// What KL in the reward takes from each token; none where its coefficient is 0. The policy's log-probabilities are the old ones where
    /// there is a pass for them, else the sampler's, which on the CPU are the same to the bit.
    pub(super) fn penalties(&mut self, samples: &[Sample]) -> Result<Option<Vec<Vec<f32>>>> {
        if self.settings.reward.kl == 0.0 {
            return Ok(None);
        }
        let reference = self.within_memory(|run| run.updater().reference_logprobs(samples))?;
        let sampled = |sample: &Sample| sample.scored.rollout.completion.sampled_logprobs().to_vec();
        let policy = |sample: &'_ Sample<'_>| sample.old.clone().unwrap_or_else(|| sampled(sample));
        let policy: Vec<Vec<f32>> = samples.iter().map(policy).collect();
        Ok(Some(penalties(&self.settings, &policy, &reference)))
    }

    /// The advantages of a step by its critic, if there is one, from the rewards of all tokens. The critic learns then: with one update in the
    /// very pass that gives the values, with several against the values from before them, mini-batch by mini-batch.
    pub(super) fn learn_values(
        &mut self,
        samples: &[Sample],
        rewards: &[Vec<f32>],
        skipped: &mut Option<String>,
    ) -> Result<Option<(Vec<Vec<f32>>, CriticMeasures)>> {
        if self.critic.is_none() {
            return Ok(None);
        }
        let _span = tracing::info_span!("critic").entered();
        let began = Instant::now();
        let mut report = CriticReport::default();
        let mut known = None;
        if self.settings.train.updates_per_rollout > 1 {
            let values = self.within_memory(|run| run.critic()?.values(&run.updater(), samples))?;
            known = Some(critic::estimates(&self.settings.advantage, rewards, &values));
        }
        let mut estimates = known.clone().unwrap_or_default();
        let size = samples.len() / self.settings.updates_per_epoch();
        for (number, samples) in (0..self.settings.train.epochs).flat_map(|_| samples.chunks(size).enumerate()) {
            let range = number * size..number * size + samples.len();
            let of_known = known.as_ref().map(|known| &known[range.clone()]);
            let (terms, of_these) =
                self.within_memory(|run| run.critic()?.gradient(&run.updater(), samples, &rewards[range.clone()], of_known))?;
            if known.is_none() {
                estimates.extend(of_these);
            }
            let before = std::mem::replace(&mut self.standing, Standing::Changing);
            if let Some(critic) = &mut self.critic
                && let Err(error) = critic.apply(&terms, &mut report)
            {
                skipped.get_or_insert(format!("the critic's: {}", reason(error)?));
                self.standing = before;
                critic.clear()?;
            }
        }
        let advantages = critic::advantages(&self.settings.advantage, &estimates);
        report.observe(&estimates, &advantages);
        Ok(Some((advantages, CriticMeasures { report, elapsed_s: began.elapsed().as_secs_f64() })))
    }

    pub(super) fn critic(&self) -> Result<&Critic> {
        self.critic.as_ref().context("this run has no critic")
    }

    pub(super) fn updater(&self) -> Updater<'_> {
        let reference = self.reference.as_ref().map(|reference| &reference.decoder);
        Updater { settings: &self.now, lanes: &self.lanes, policy: &self.inputs.model.decoder, reference, interrupt: self.heeded() }
    }

    /// Does the work again with micro-batches of half the size where a device's memory is used up: the gradient does not depend on it. Later
    /// steps begin with that size.
    pub(super) fn within_memory<T>(&mut self, work: impl Fn(&Self) -> Result<T>) -> Result<T> {
        loop {
            let tokens = self.settings.train.micro_batch_tokens;
            match work(self) {
                Err(error) if is_out_of_memory(&error) && tokens > LEAST_MICRO_BATCH => {
                    let kernels = self.inputs.model.decoder.kernels();
                    self.gradients.iter().try_for_each(|gradients| gradients.clear(kernels))?;
                    self.critic.as_ref().map_or(Ok(()), Critic::clear)?;
                    self.settings.train.micro_batch_tokens = tokens / 2;
                    self.now.train.micro_batch_tokens = tokens / 2;
                    self.console.note(&format!(
                        "the device's memory is used up: from this step on, micro-batches have {} tokens instead of {tokens}",
                        tokens / 2
                    ));
                }
                done => return done,
            }
        }
    }
}

/// Why an update was skipped; other errors are errors.
fn reason(error: Error) -> Result<String> {
    error.downcast_ref::<NotFinite>().map(ToString::to_string).ok_or(error)
}
