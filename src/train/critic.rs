//! PPO's critic: a copy of the policy as it starts, with a scalar head, that learns how much reward is still to come at each token of a
//! response. Owns its model, its optimizer and its share of a step; what it estimates takes the place of a group's mean as baseline.
//!
//! Conventions are verl's (`compute_gae_advantage_return`, `compute_value_loss`), which the published runs were made with: values are from
//! before the step's updates, the loss is a mean over the mini-batch's tokens, and the critic learns before the policy does.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::settings::{RunSettings, TrainSettings};
use super::update::{Sample, Updater, deal, recompute};
use crate::checkpoint::critic as state;
use crate::flow::Scored;
use crate::model::value::ValueGradients;
use crate::model::{Decoder, ValueModel};
use crate::objective::gae::{ValueTerms, explained_variance, gae, value_loss};
use crate::objective::{AdvantageSettings, Baseline, Estimate, Scale, whiten};
use crate::optim::{AdamW, OptimSettings};

/// How the critic learns. It trains all its weights, in a run with adapters too; its moments are held as `optim.states` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CriticSettings {
    /// Learning rate, constant; 0 where there is no critic.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// A value counts as moved from its old one by at most so much; 0 turns clipping off.
    pub clip: f32,
    /// Steps at the beginning in which the critic learns and the policy does not.
    pub warmup_steps: u64,
    /// Standard deviation of the head's weights as they begin.
    pub head_init: f32,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Largest global gradient norm; 0 turns clipping off.
    pub clip_norm: f64,
}

impl Default for CriticSettings {
    /// The published run's, but for the learning rate, which is 1e-5 there. The head begins as transformers makes one for a checkpoint's classes.
    fn default() -> Self {
        Self {
            lr: 0.0,
            weight_decay: 0.01,
            clip: 0.5,
            warmup_steps: 0,
            head_init: 0.02,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            clip_norm: 1.0,
        }
    }
}

impl CriticSettings {
    /// Refuses what contradicts itself.
    pub fn validate(&self, advantage: &AdvantageSettings, train: &TrainSettings) -> Result<()> {
        if advantage.baseline != Baseline::Critic {
            ensure!(self.lr == 0.0, "critic.lr is {}, but no critic is used: set advantage.baseline=critic, or critic.lr=0", self.lr);
            ensure!(self.warmup_steps == 0, "critic.warmup_steps is {}, but no critic is used: set it to 0", self.warmup_steps);
            return Ok(());
        }
        ensure!(self.lr > 0.0, "advantage.baseline is critic, and critic.lr is 0: set it to the critic's learning rate, 1e-5 for instance");
        ensure!(
            self.warmup_steps < train.steps,
            "critic.warmup_steps is {} of {} steps; the policy would never learn",
            self.warmup_steps,
            train.steps
        );
        Ok(())
    }

    fn optim(&self, settings: &OptimSettings) -> OptimSettings {
        let Self { lr, weight_decay, beta1, beta2, eps, clip_norm, .. } = *self;
        OptimSettings { lr, weight_decay, beta1, beta2, eps, clip_norm, states: settings.states, ..OptimSettings::default() }
    }
}

/// The critic of a run.
pub struct Critic {
    /// What values are computed by.
    pub model: ValueModel,
    /// Its own optimizer.
    pub optimizer: AdamW,
    /// One set for each lane, all zero between updates.
    gradients: Vec<ValueGradients>,
}

/// What a step measured of the critic, under verl's names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CriticReport {
    /// Sums over the tokens of all its updates; the loss is summed over updates.
    terms: ValueTerms,
    /// Gradient norms before clipping, summed over updates.
    grad_norm: f64,
    updates: f64,
    lr: f64,
    explained_variance: f64,
    values: Spread,
    returns: Spread,
    advantages: Spread,
}

/// Mean, largest and smallest of some numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Spread {
    mean: f64,
    max: f64,
    min: f64,
}

/// The reward of each token of each response: a response's own comes with its last token. `besides` is what tokens are rewarded apart from
/// that (a KL penalty), for every token of every response.
pub fn token_rewards(scored: &[Scored], besides: Option<&[Vec<f32>]>) -> Vec<Vec<f32>> {
    let of_one = |(number, scored): (usize, &Scored)| {
        let mut rewards = besides.map_or_else(|| vec![0.0; scored.rollout.completion.ids.len()], |besides| besides[number].clone());
        rewards.last_mut().into_iter().for_each(|last| *last += scored.reward);
        rewards
    };
    scored.iter().enumerate().map(of_one).collect()
}

/// What the values of responses say of them, given the reward of each token.
pub fn estimates(settings: &AdvantageSettings, rewards: &[Vec<f32>], values: &[Vec<f32>]) -> Vec<Estimate> {
    rewards.iter().zip(values).map(|(rewards, values)| gae(rewards, values, settings.gamma, settings.lambda)).collect()
}

/// The advantages that the policy learns from: those of all responses of the step, whitened where the settings say so.
pub fn advantages(settings: &AdvantageSettings, estimates: &[Estimate]) -> Vec<Vec<f32>> {
    let mut advantages: Vec<Vec<f32>> = estimates.iter().map(|estimate| estimate.advantages.clone()).collect();
    if settings.scale == Scale::Batch {
        whiten(&mut advantages);
    }
    advantages
}

impl Critic {
    /// A critic that begins as the policy is now, with gradients for so many lanes.
    pub fn new(settings: &RunSettings, policy: &Decoder, lanes: usize) -> Result<Self> {
        let model = ValueModel::new(policy, settings.seed, settings.critic.head_init)?;
        let optimizer = AdamW::new(settings.critic.optim(&settings.optim), policy.kernels(), &model.entries())?;
        let gradients = (0..lanes).map(|_| model.gradients()).collect::<Result<_>>()?;
        Ok(Self { model, optimizer, gradients })
    }

    /// The values of every response, as the critic is now.
    pub fn values(&self, updater: &Updater, samples: &[Sample]) -> Result<Vec<Vec<f32>>> {
        let micro_batches = updater.micro_batches(samples);
        let lanes = updater.lanes.count();
        let parts = updater.lanes.run(|lane| {
            let own = micro_batches.iter().skip(lane).step_by(lanes);
            own.map(|micro| {
                updater.interrupt.check()?;
                Ok((micro, self.model.values(&updater.pack(samples, micro))?))
            })
            .collect::<Result<Vec<_>>>()
        })?;
        let mut values = vec![Vec::new(); samples.len()];
        for (micro, flat) in parts.into_iter().flatten() {
            deal(&flat, samples, micro, |index, own| values[index] = own.to_vec());
        }
        Ok(values)
    }

    /// The gradient of the value loss over a mini-batch, summed over micro-batches into the critic's own sums. `known` has the estimates of
    /// these responses from before the step's first update; without them the values of this very pass are those, and one pass does for both.
    /// Gives the terms and the estimates.
    pub fn gradient(
        &self,
        updater: &Updater,
        samples: &[Sample],
        rewards: &[Vec<f32>],
        known: Option<&[Estimate]>,
    ) -> Result<(ValueTerms, Vec<Estimate>)> {
        let (settings, body) = (updater.settings, &self.model.body);
        let micro_batches = updater.micro_batches(samples);
        let lanes = updater.lanes.count();
        let recompute = recompute(&body.config, &body.target(), &settings.train, lanes);
        let tokens: usize = rewards.iter().map(Vec::len).sum();
        let weight = 1.0 / tokens.max(1) as f32;
        let parts = updater.lanes.run(|lane| {
            let (mut terms, mut estimates) = (ValueTerms::default(), Vec::new());
            for micro in micro_batches.iter().skip(lane).step_by(lanes) {
                updater.interrupt.check()?;
                let packed = updater.pack(samples, micro);
                let (hidden, trace) = body.forward(&packed, recompute)?;
                let flat = self.model.values_of(&hidden, &packed)?;
                let mut d_values = Vec::with_capacity(flat.len());
                deal(&flat, samples, micro, |index, values| {
                    let estimate = match known {
                        Some(known) => known[index].clone(),
                        None => gae(&rewards[index], values, settings.advantage.gamma, settings.advantage.lambda),
                    };
                    terms.add(&value_loss(values, &estimate, settings.critic.clip, weight, &mut d_values));
                    estimates.push((index, estimate));
                });
                self.model.backward(&hidden, &packed, trace, &d_values, &self.gradients[lane])?;
            }
            Ok((terms, estimates))
        })?;
        self.gradients[1..].iter().try_for_each(|other| self.gradients[0].add(other, body.kernels()))?;
        let (mut terms, mut estimates) = (ValueTerms::default(), vec![Estimate::default(); samples.len()]);
        for (part, of_part) in parts {
            terms.add(&part);
            of_part.into_iter().for_each(|(index, estimate)| estimates[index] = estimate);
        }
        Ok((terms, estimates))
    }

    /// The gradients that `gradient` left, by name.
    pub fn gradients(&self) -> &ValueGradients {
        &self.gradients[0]
    }

    /// Forgets a gradient that is incomplete.
    pub fn clear(&self) -> Result<()> {
        self.gradients.iter().try_for_each(|gradients| gradients.clear(self.model.body.kernels()))
    }

    /// The step that follows a gradient: clip and AdamW. The gradients are zero again afterwards. Adds the update to the report.
    pub fn apply(&mut self, terms: &ValueTerms, report: &mut CriticReport) -> Result<()> {
        let kernels = self.model.body.kernels();
        let lr = self.optimizer.settings.lr;
        let step = self.optimizer.step(kernels, &self.model.entries(), &self.gradients[0].entries(), lr);
        report.grad_norm += step.context("the critic did not learn")?;
        report.terms.add(terms);
        report.updates += 1.0;
        report.lr = lr;
        self.clear()
    }

    /// Writes what it needs to go on into `state/critic` of a checkpoint.
    pub fn save(&self, folder: &std::path::Path) -> Result<()> {
        state::save(&folder.join("critic"), &self.optimizer, &self.model.entries())
    }

    /// Goes on from there.
    pub fn load(&mut self, folder: &std::path::Path) -> Result<()> {
        state::load(&folder.join("critic"), &mut self.optimizer, &self.model.entries())
    }
}

impl CriticReport {
    /// What the step's estimates were, with the advantages that were made of them.
    pub fn observe(&mut self, estimates: &[Estimate], advantages: &[Vec<f32>]) {
        self.explained_variance = explained_variance(estimates);
        self.values = Spread::of(estimates.iter().flat_map(|estimate| &estimate.values));
        self.returns = Spread::of(estimates.iter().flat_map(|estimate| &estimate.returns));
        self.advantages = Spread::of(advantages.iter().flatten());
    }

    /// The step's metrics under verl's names.
    pub fn metrics(&self) -> [(&'static str, f64); 15] {
        let updates = self.updates.max(1.0);
        let Self { values, returns, advantages, terms, .. } = self;
        [
            ("critic/vf_loss", terms.loss / updates),
            ("critic/vf_clipfrac", terms.per_token(terms.clipped)),
            ("critic/vpred_mean", terms.per_token(terms.values)),
            ("critic/grad_norm", self.grad_norm / updates),
            ("critic/lr", self.lr),
            ("critic/vf_explained_var", self.explained_variance),
            ("critic/values/mean", values.mean),
            ("critic/values/max", values.max),
            ("critic/values/min", values.min),
            ("critic/returns/mean", returns.mean),
            ("critic/returns/max", returns.max),
            ("critic/returns/min", returns.min),
            ("critic/advantages/mean", advantages.mean),
            ("critic/advantages/max", advantages.max),
            ("critic/advantages/min", advantages.min),
        ]
    }
}

impl Spread {
    fn of<'a>(values: impl Iterator<Item = &'a f32>) -> Self {
        let (mut sum, mut count, mut max, mut min) = (0.0, 0.0, f32::NEG_INFINITY, f32::INFINITY);
        for value in values {
            (sum, count) = (sum + f64::from(*value), count + 1.0);
            (max, min) = (max.max(*value), min.min(*value));
        }
        if count == 0.0 { Self::default() } else { Self { mean: sum / count, max: f64::from(max), min: f64::from(min) } }
    }
}

#[cfg(test)]
mod tests;
