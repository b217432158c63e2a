//! PPO's critic: a copy of the initial policy with a scalar head, which predicts the remaining reward at each token of a response. Its
//! estimates replace the group mean as the baseline. Owns the value model, its optimizer and the critic's updates in a step.
//!
//! Follows the conventions of verl, which the published runs used (`compute_gae_advantage_return`, `compute_value_loss`): values are
//! computed before the step's updates, the loss is a mean over the tokens of the mini-batch, and the critic is updated before the policy.

use anyhow::{Context, Result};

use super::settings::RunSettings;
use super::update::{Packing, Sequence, split_by_sequence};
use crate::checkpoint::critic as state;
use crate::dist::World;
use crate::model::gradients::GradientSum;
use crate::model::value::ValueGradients;
use crate::model::{Decoder, Packed, ValueModel};
use crate::objective::gae::{ValueTerms, explained_variance, gae, value_loss};
use crate::objective::{AdvantageSettings, Estimate};
use crate::optim::AdamW;
use crate::output::Progress;

/// The critic of a run.
pub struct Critic {
    /// The value model.
    pub model: ValueModel,
    /// The critic's optimizer.
    pub optimizer: AdamW,
    /// The sets of gradients that [`Packing::sum_gradients`] needs, all zero between updates.
    gradients: Vec<ValueGradients>,
}

/// The measurements of the critic in a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CriticReport {
    /// Sums over the tokens of all updates; the loss is summed over updates.
    terms: ValueTerms,
    /// Gradient norms before clipping, summed over updates.
    grad_norm: f64,
    /// The number of updates.
    updates: f64,
    lr: f64,
    explained_variance: f64,
    values: Spread,
    returns: Spread,
    advantages: Spread,
}

/// The mean, maximum and minimum of some numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Spread {
    mean: f64,
    max: f64,
    min: f64,
}

/// The results of one worker or one shard: the sum of its loss terms, and the estimates of its sequences with their indices.
type Estimated = (ValueTerms, Vec<(usize, Estimate)>);

/// Computes the GAE estimates of each response. `rewards` and `values` have one list per response with one number per token.
pub fn estimates(settings: &AdvantageSettings, rewards: &[Vec<f32>], values: &[Vec<f32>]) -> Vec<Estimate> {
    rewards.iter().zip(values).map(|(rewards, values)| gae(rewards, values, settings.gamma, settings.lambda)).collect()
}

impl Critic {
    /// Creates a critic from the current policy, with `sets` sets of gradients. The optimizer's states are divided among the ranks.
    ///
    /// # Errors
    /// If the model's tensors cannot be copied or allocated.
    pub fn new(settings: &RunSettings, policy: &Decoder, sets: usize, world: &World) -> Result<Self> {
        let model = ValueModel::new(policy, settings.seed, settings.critic.head_init)?;
        let optimizer = AdamW::new(settings.critic.optim(&settings.optim), policy.kernels(), &model.entries(), world)?;
        let gradients = (0..sets).map(|_| model.gradients()).collect::<Result<_>>()?;
        Ok(Self { model, optimizer, gradients })
    }

    /// Computes the values of each response, one per response token.
    ///
    /// # Errors
    /// If a kernel fails, or the run is interrupted.
    pub fn values(&self, packing: &Packing, sequences: &[Sequence]) -> Result<Vec<Vec<f32>>> {
        packing.score(sequences, |packed| self.model.values(&packed))
    }

    /// Computes the gradient of the value loss over a mini-batch and adds it to the critic's gradients, which must be zero before. Returns
    /// the loss terms, and the estimates of each sequence.
    ///
    /// `rewards` has one reward per response token. `known` has the estimates from before the step's first update; if it is `None`, this
    /// pass also computes the estimates, from its own values.
    ///
    /// # Errors
    /// If a kernel fails, or the run is interrupted.
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
        let add = |(terms, estimates): &mut Estimated, gradients: &ValueGradients, numbers: &[usize], packed: Packed| {
            let (hidden, trace) = body.forward(&packed, packing.checkpointing)?;
            let flat = self.model.values_of(&hidden, &packed)?;
            let mut d_values = Vec::with_capacity(flat.len());
            split_by_sequence(&flat, sequences, numbers, |number, values| {
                let estimate = match known {
                    Some(known) => known[number].clone(),
                    None => gae(&rewards[number], values, settings.advantage.gamma, settings.advantage.lambda),
                };
                terms.add(&value_loss(values, &estimate, settings.critic.clip, weight, &mut d_values));
                estimates.push((number, estimate));
            });
            self.model.backward(&hidden, &packed, trace, &d_values, gradients)
        };
        let sums = packing.sum_gradients(sequences, &self.gradients, body.kernels(), add)?;
        let (mut terms, mut estimates) = (ValueTerms::default(), vec![Estimate::default(); sequences.len()]);
        for (some_terms, estimated) in sums {
            terms.add(&some_terms);
            estimated.into_iter().for_each(|(number, estimate)| estimates[number] = estimate);
        }
        Ok((terms, estimates))
    }

    /// Returns the gradient that the last call of [`gradient`](Self::gradient) computed.
    pub fn gradients(&self) -> &ValueGradients {
        &self.gradients[0]
    }

    /// Sets the gradients to zero.
    ///
    /// # Errors
    /// If a kernel fails.
    pub fn clear(&self) -> Result<()> {
        self.gradients.iter().try_for_each(|gradients| gradients.clear(self.model.body.kernels()))
    }

    /// Applies the gradient: clips it, takes an AdamW step, sets the gradients to zero, and adds the update to the report.
    ///
    /// # Errors
    /// [`NotFinite`](crate::optim::NotFinite) if the gradient is not finite; nothing has changed then. Other errors if a kernel fails.
    pub fn apply(&mut self, terms: &ValueTerms, report: &mut CriticReport) -> Result<()> {
        let kernels = self.model.body.kernels();
        let lr = self.optimizer.settings.lr;
        let step = self.optimizer.step(kernels, &self.model.entries(), &self.gradients[0].entries(), lr);
        report.grad_norm += step.context("cannot update the critic")?;
        report.terms.add(terms);
        report.updates += 1.0;
        report.lr = lr;
        self.clear()
    }

    /// Writes weights and moments to `critic/` in a checkpoint state. Rank 0 calls it, while the others send the states of
    /// [`optimizer`](Self::optimizer).
    ///
    /// # Errors
    /// If a file cannot be written, or another rank does not send its states.
    pub fn save(&self, folder: &std::path::Path) -> Result<()> {
        state::save(&folder.join("critic"), &self.optimizer, &self.model.entries())
    }

    /// Restores weights and moments from `critic/` in a checkpoint state. Counts the bytes in `shown`.
    ///
    /// # Errors
    /// If a file is missing, or does not match the model.
    pub fn load(&mut self, folder: &std::path::Path, shown: &Progress) -> Result<()> {
        state::load(&folder.join("critic"), self.model.body.kernels(), &mut self.optimizer, &self.model.entries(), shown)
    }
}

impl CriticReport {
    /// Records statistics of the step's estimates and of the advantages computed from them.
    pub fn observe(&mut self, estimates: &[Estimate], advantages: &[Vec<f32>]) {
        self.explained_variance = explained_variance(estimates);
        self.values = Spread::of(estimates.iter().flat_map(|estimate| &estimate.values));
        self.returns = Spread::of(estimates.iter().flat_map(|estimate| &estimate.returns));
        self.advantages = Spread::of(advantages.iter().flatten());
    }

    /// Returns the step's metrics under verl's names. With one update, the mean prediction is the mean value, which has its own name.
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        let updates = self.updates.max(1.0);
        let Self { values, returns, advantages, terms, .. } = self;
        let mut metrics = vec![
            ("critic/vf_loss", terms.loss / updates),
            ("critic/vf_clipfrac", terms.per_token(terms.clipped)),
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
        ];
        if self.updates > 1.0 {
            metrics.push(("critic/vpred_mean", terms.per_token(terms.values)));
        }
        metrics
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
