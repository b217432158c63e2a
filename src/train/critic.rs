//! PPO's critic: a copy of the policy as it starts, with a scalar head, that learns how much reward is still to come at each token of a
//! response. Owns its model, its optimizer and its share of a step; what it estimates takes the place of a group's mean as baseline.
//!
//! Conventions are verl's (`compute_gae_advantage_return`, `compute_value_loss`), which the published runs were made with: values are from
//! before the step's updates, the loss is a mean over the mini-batch's tokens, and the critic learns before the policy does.

use anyhow::{Context, Result};

use super::settings::RunSettings;
use super::update::{Packing, Sequence, by_sequence, deal};
use crate::checkpoint::critic as state;
use crate::model::value::ValueGradients;
use crate::model::{Decoder, ValueModel};
use crate::objective::gae::{ValueTerms, explained_variance, gae, value_loss};
use crate::objective::{AdvantageSettings, Estimate};
use crate::optim::AdamW;

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

/// What a lane adds up: the terms of the loss, and the estimates of its sequences by their numbers.
type LaneSums = (ValueTerms, Vec<(usize, Estimate)>);

/// What the values of responses say of them, given the reward of each token.
pub fn estimates(settings: &AdvantageSettings, rewards: &[Vec<f32>], values: &[Vec<f32>]) -> Vec<Estimate> {
    rewards.iter().zip(values).map(|(rewards, values)| gae(rewards, values, settings.gamma, settings.lambda)).collect()
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
    pub fn values(&self, packing: &Packing, sequences: &[Sequence]) -> Result<Vec<Vec<f32>>> {
        let lanes = packing.on_lanes(sequences, |values: &mut Vec<(Vec<usize>, Vec<f32>)>, _, numbers, packed| {
            values.push((numbers.to_vec(), self.model.values(&packed)?));
            Ok(())
        })?;
        Ok(by_sequence(sequences, lanes.into_iter().flatten()))
    }

    /// The gradient of the value loss over a mini-batch, summed over micro-batches into the critic's own sums. `rewards` are those of each token.
    /// `known` has the estimates of these responses from before the step's first update; without them the values of this very pass are those,
    /// and one pass does for both. Gives the terms and the estimates.
    pub fn gradient(
        &self,
        packing: &Packing,
        settings: &RunSettings,
        sequences: &[Sequence],
        rewards: &[Vec<f32>],
        known: Option<&[Estimate]>,
    ) -> Result<(ValueTerms, Vec<Estimate>)> {
        let body = &self.model.body;
        let tokens: usize = rewards.iter().map(Vec::len).sum();
        let weight = 1.0 / tokens.max(1) as f32;
        let lanes = packing.on_lanes(sequences, |(terms, estimates): &mut LaneSums, lane, numbers, packed| {
            let (hidden, trace) = body.forward(&packed, packing.recompute)?;
            let flat = self.model.values_of(&hidden, &packed)?;
            let mut d_values = Vec::with_capacity(flat.len());
            deal(&flat, sequences, numbers, |number, values| {
                let estimate = match known {
                    Some(known) => known[number].clone(),
                    None => gae(&rewards[number], values, settings.advantage.gamma, settings.advantage.lambda),
                };
                terms.add(&value_loss(values, &estimate, settings.critic.clip, weight, &mut d_values));
                estimates.push((number, estimate));
            });
            self.model.backward(&hidden, &packed, trace, &d_values, &self.gradients[lane])
        })?;
        self.gradients[1..].iter().try_for_each(|other| self.gradients[0].add(other, body.kernels()))?;
        let (mut terms, mut estimates) = (ValueTerms::default(), vec![Estimate::default(); sequences.len()]);
        for (of_lane, estimated) in lanes {
            terms.add(&of_lane);
            estimated.into_iter().for_each(|(number, estimate)| estimates[number] = estimate);
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
        state::load(&folder.join("critic"), self.model.body.kernels(), &mut self.optimizer, &self.model.entries())
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
