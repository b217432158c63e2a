//! Performs a step's updates, first of the critic and then of the policy. On out-of-memory, retries with smaller micro-batches.

use anyhow::{Context, Error, Result};

use super::failure::PolicyState;
use super::{Run, trained};
use crate::flow::ScoredRollout;
use crate::kernels::is_out_of_memory;
use crate::metrics::Phase;
use crate::model::gradients::GradientSum;
use crate::objective::{Estimate, ResponseRewards, advantages};
use crate::optim::NotFinite;
use crate::train::critic::{self, Critic, CriticReport};
use crate::train::measures::Updated;
use crate::train::plan::ActivationPlan;
use crate::train::settings::RunSettings;
use crate::train::shards::Shards;
use crate::train::update::{Packing, Sample, Sequence, UpdateReport, Updater, apply};

/// An out-of-memory error is final if micro-batches have at most this many tokens.
const MIN_MICRO_BATCH_TOKENS: usize = 256;

impl Run<'_> {
    /// Performs the step's updates of the critic and the policy.
    pub(super) fn update(&mut self, settings: &RunSettings, scored: &[ScoredRollout]) -> Result<Updated> {
        let _span = tracing::info_span!("update").entered();
        let rollouts = || scored.iter().map(|scored| &scored.rollout);
        let mut samples: Vec<Sample> = rollouts().map(|rollout| Sample::of(&rollout.prompt.ids, &rollout.completion)).collect();
        let sequences: Vec<Sequence> = samples.iter().map(|sample| sample.sequence).collect();
        if self.inputs.replay.is_some() {
            samples.iter_mut().for_each(|sample| sample.old = Some(sample.sampled.to_vec()));
        } else if self.needs_old_logprobs(settings) {
            self.begin("scoring responses");
            let old = self.retry_on_out_of_memory(|run| run.updater(settings).logprobs(&sequences))?;
            samples.iter_mut().zip(old).for_each(|(sample, old)| sample.old = Some(old));
        }
        self.stopwatch.lap(Phase::Update);
        let penalties = self.kl_penalties(settings, &samples, &sequences)?;
        let penalty = penalties.iter().flatten().map(|penalty| f64::from(*penalty)).sum::<f64>() / scored.len().max(1) as f64;
        self.stopwatch.lap(Phase::Reference);
        let rewards: Vec<ResponseRewards> =
            scored.iter().zip(&penalties).map(|(scored, tokens)| ResponseRewards { outcome: scored.reward, tokens }).collect();
        let mut skipped = None;
        let mut learned = self.update_critic(settings, &sequences, &rewards, &mut skipped)?;
        let estimates = learned.as_ref().map(|(estimates, _)| estimates.as_slice());
        let advantages = advantages(&settings.advantage, settings.rollout.group_size, &rewards, estimates);
        if let Some((estimates, report)) = &mut learned {
            report.observe(estimates, &advantages);
            self.stopwatch.lap(Phase::Critic);
        }
        let critic = learned.map(|(_, report)| report);
        if self.step < settings.critic.warmup_steps {
            self.ensure_weights()?;
            self.stopwatch.lap(Phase::Critic);
            return Ok(Updated { report: UpdateReport::default(), critic, penalty, skipped });
        }
        samples.iter_mut().zip(advantages).for_each(|(sample, advantages)| sample.advantages = advantages);
        let report = self.update_policy(settings, &samples, &mut skipped)?;
        Ok(Updated { report, critic, penalty, skipped })
    }

    /// Updates the policy once per mini-batch in every epoch. Returns the mean of the reports.
    fn update_policy(&mut self, settings: &RunSettings, samples: &[Sample], skipped: &mut Option<String>) -> Result<UpdateReport> {
        let mut reports = Vec::new();
        let size = samples.len() / settings.updates_per_epoch();
        for mini_batch in (0..settings.train.epochs).flat_map(|_| samples.chunks(size)) {
            if self.reference.is_some() {
                self.begin("scoring with the reference");
            }
            let reference = self.retry_on_out_of_memory(|run| run.updater(settings).loss_reference(mini_batch))?;
            self.stopwatch.lap(Phase::Reference);
            self.begin("update micro-batch");
            let report =
                self.retry_on_out_of_memory(|run| run.updater(settings).gradient(mini_batch, reference.as_deref(), &run.gradients))?;
            if let Some(path) = self.inputs.dump_gradients.take() {
                let gradients = self.gradients[0].entries();
                let mut source = |number: usize| Ok(gradients[number].1.clone());
                trained(&self.inputs.model.decoder, self.lora.as_ref()).write(&path, &mut source)?;
            }
            self.stopwatch.lap(Phase::Update);
            self.begin("optimizer step");
            reports.push(self.apply(settings, report, skipped)?);
            self.stopwatch.lap(Phase::Optimizer);
        }
        Ok(UpdateReport::mean(&reports))
    }

    /// Applies the gradient that was just computed to the policy. If the loss or the gradient is not finite, skips the update, stores the
    /// step's first such reason in `skipped`, and reports a gradient norm of NaN.
    fn apply(&mut self, settings: &RunSettings, report: UpdateReport, skipped: &mut Option<String>) -> Result<UpdateReport> {
        let before = std::mem::replace(&mut self.policy_state, PolicyState::Updating);
        let (policy, lora) = (&self.inputs.model.decoder, self.lora.as_ref());
        let applied = if report.terms.loss(&settings.loss).is_finite() {
            apply(settings, policy, lora, report, &self.gradients, &mut self.optimizer)
        } else {
            Err(NotFinite { what: "the loss".to_owned() }.into())
        };
        let report = match applied {
            Ok(report) => report,
            Err(error) => {
                skipped.get_or_insert(skip_reason(error)?);
                self.policy_state = before;
                self.gradients.iter().try_for_each(|gradients| gradients.clear(policy.kernels()))?;
                return Ok(UpdateReport { grad_norm: f64::NAN, ..report });
            }
        };
        self.ensure_weights()?;
        Ok(report)
    }

    /// True if log-probabilities must be computed before the first update. Ratios need them if a step has several updates. KL in the reward
    /// needs them on a GPU, where the sampler's log-probabilities differ from the trainer's by rounding, which whitening would amplify.
    fn needs_old_logprobs(&self, settings: &RunSettings) -> bool {
        let warms_up = self.step < settings.critic.warmup_steps;
        let for_ratios = settings.train.updates_per_rollout > 1 && settings.loss.policy != 0.0 && !warms_up;
        for_ratios || (settings.reward.kl != 0.0 && !self.inputs.model.decoder.kernels().device().is_cpu())
    }

    /// Returns the KL penalty of each response token. Uses the policy's old log-probabilities if they were computed, or else the sampler's,
    /// which are bit-identical on the CPU.
    fn kl_penalties(&mut self, settings: &RunSettings, samples: &[Sample], sequences: &[Sequence]) -> Result<Vec<Vec<f32>>> {
        if settings.reward.kl == 0.0 {
            return Ok(sequences.iter().map(|sequence| vec![0.0; sequence.response.len()]).collect());
        }
        self.begin("scoring with the reference");
        let reference = self.retry_on_out_of_memory(|run| run.updater(settings).reference_logprobs(sequences))?;
        let policy = |sample: &Sample| sample.old.clone().unwrap_or_else(|| sample.sampled.to_vec());
        let policy: Vec<Vec<f32>> = samples.iter().map(policy).collect();
        Ok(settings.reward.kl_estimator.penalties(settings.reward.kl, &policy, &reference))
    }

    /// Updates the critic and returns the estimates for each response; `None` without a critic. With one update per step, the training pass
    /// also computes the values. With several, values are computed first, and every mini-batch learns from the estimates based on them.
    fn update_critic(
        &mut self,
        settings: &RunSettings,
        sequences: &[Sequence],
        rewards: &[ResponseRewards],
        skipped: &mut Option<String>,
    ) -> Result<Option<(Vec<Estimate>, CriticReport)>> {
        if self.critic.is_none() {
            return Ok(None);
        }
        let _span = tracing::info_span!("critic").entered();
        let rewards: Vec<Vec<f32>> = rewards.iter().map(ResponseRewards::by_token).collect();
        let mut report = CriticReport::default();
        let mut known = None;
        if settings.train.updates_per_rollout > 1 {
            self.begin("critic values");
            let values = self.retry_on_out_of_memory(|run| run.critic()?.values(&run.packing(), sequences))?;
            known = Some(critic::estimates(&settings.advantage, &rewards, &values));
        }
        let mut estimates = known.clone().unwrap_or_default();
        let size = sequences.len() / settings.updates_per_epoch();
        for (number, sequences) in (0..settings.train.epochs).flat_map(|_| sequences.chunks(size).enumerate()) {
            let range = number * size..number * size + sequences.len();
            let (rewards, known_here) = (&rewards[range.clone()], known.as_ref().map(|known| &known[range.clone()]));
            self.begin("critic micro-batch");
            let (terms, of_these) =
                self.retry_on_out_of_memory(|run| run.critic()?.gradient(&run.packing(), settings, sequences, rewards, known_here))?;
            if known.is_none() {
                estimates.extend(of_these);
            }
            let before = std::mem::replace(&mut self.policy_state, PolicyState::Updating);
            if let Some(critic) = &mut self.critic
                && let Err(error) = critic.apply(&terms, &mut report)
            {
                skipped.get_or_insert(format!("in the critic, {}", skip_reason(error)?));
                self.policy_state = before;
                critic.clear()?;
            }
        }
        Ok(Some((estimates, report)))
    }

    fn critic(&self) -> Result<&Critic> {
        self.critic.as_ref().context("this run has no critic")
    }

    /// Shows which work begins. Micro-batches are counted.
    fn begin(&self, what: &str) {
        self.console.progress().begin(what);
    }

    fn packing(&self) -> Packing<'_> {
        let ActivationPlan { micro_batch_tokens, checkpointing } = self.activations;
        let progress = Some(self.console.progress());
        let count = self.settings.train.shards;
        let shards = (count > 0).then_some(Shards { world: &self.inputs.world, count });
        Packing { workers: &self.workers, micro_batch_tokens, checkpointing, interrupt: self.active_interrupt(), progress, shards }
    }

    pub(super) fn updater<'s>(&'s self, settings: &'s RunSettings) -> Updater<'s> {
        let reference = self.reference.as_ref().map(|reference| &reference.decoder);
        Updater { settings, packing: self.packing(), policy: &self.inputs.model.decoder, reference }
    }

    /// Runs `work`. On out-of-memory, retries with micro-batches of half the size, which changes the gradient only by rounding. Later steps
    /// keep the smaller size.
    pub(super) fn retry_on_out_of_memory<T>(&mut self, work: impl Fn(&Self) -> Result<T>) -> Result<T> {
        loop {
            let tokens = self.activations.micro_batch_tokens;
            match work(self) {
                Err(error) if is_out_of_memory(&error) && tokens > MIN_MICRO_BATCH_TOKENS => {
                    let kernels = self.inputs.model.decoder.kernels();
                    self.gradients.iter().try_for_each(|gradients| gradients.clear(kernels))?;
                    self.critic.as_ref().map_or(Ok(()), Critic::clear)?;
                    self.activations.micro_batch_tokens = tokens / 2;
                    self.console.warn(&format!(
                        "the device is out of memory: from now on, micro-batches have {} tokens instead of {tokens}",
                        tokens / 2
                    ));
                }
                done => return done,
            }
        }
    }
}

/// Returns why an update was skipped, if its loss or gradient was not finite; returns any other error.
fn skip_reason(error: Error) -> Result<String> {
    error.downcast_ref::<NotFinite>().map(ToString::to_string).ok_or(error)
}
