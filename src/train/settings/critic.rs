//! The settings `critic.*`.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::TrainSettings;
use crate::objective::{AdvantageSettings, Baseline};
use crate::optim::OptimSettings;

/// How the critic is trained. It trains all its weights, even in a run with LoRA adapters. `optim.states` also sets the precision of its
/// moments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CriticSettings {
    /// Learning rate, constant; 0 without a critic.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Clip range of the value loss: how far a value may move from its old one; 0 turns clipping off.
    pub clip: f32,
    /// Initial steps that train only the critic, not the policy.
    pub warmup_steps: u64,
    /// Standard deviation of the value head's initial weights.
    pub head_init: f32,
    /// Decay rate of the first moment.
    pub beta1: f64,
    /// Decay rate of the second moment.
    pub beta2: f64,
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Maximum global gradient norm; 0 turns clipping off.
    pub clip_norm: f64,
}

impl Default for CriticSettings {
    /// The published run's settings, except the learning rate (1e-5 there). The head is initialized like a classification head in
    /// transformers.
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
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// If `lr` or `warmup_steps` is set without a critic, or if with a critic `lr` is 0 or the warm-up lasts for all steps.
    pub fn validate(&self, advantage: &AdvantageSettings, train: &TrainSettings) -> Result<()> {
        if advantage.baseline != Baseline::Critic {
            ensure!(self.lr == 0.0, "critic.lr is {}, but no critic is used: set advantage.baseline=critic, or critic.lr=0", self.lr);
            ensure!(self.warmup_steps == 0, "critic.warmup_steps is {}, but no critic is used: set it to 0", self.warmup_steps);
            return Ok(());
        }
        ensure!(self.lr > 0.0, "advantage.baseline is critic, but critic.lr is 0: set it to the critic's learning rate, for example 1e-5");
        ensure!(
            self.warmup_steps < train.steps,
            "critic.warmup_steps is {} of {} steps, so the policy would never learn: lower it",
            self.warmup_steps,
            train.steps
        );
        Ok(())
    }

    /// Returns the settings of the critic's optimizer. The precision of its moments is the policy's.
    pub fn optim(&self, policy: &OptimSettings) -> OptimSettings {
        let Self { lr, weight_decay, beta1, beta2, eps, clip_norm, .. } = *self;
        OptimSettings { lr, weight_decay, beta1, beta2, eps, clip_norm, states: policy.states, ..OptimSettings::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::RunSettings;
    use super::*;
    use crate::objective::Scale;

    #[test]
    fn validate_rejects_contradictions() {
        let check = |change: fn(&mut RunSettings), expected: &str| {
            let mut settings = RunSettings::demonstration();
            settings.advantage = AdvantageSettings { baseline: Baseline::Critic, scale: Scale::Batch, gamma: 0.9, lambda: 0.8 };
            settings.critic.lr = 1e-3;
            change(&mut settings);
            let message = settings.validate().map_or_else(|error| error.to_string(), |()| String::new());
            assert!(message.contains(expected) && message.is_empty() == expected.is_empty(), "{message}");
        };
        check(|_| (), "");
        check(|s| s.critic.lr = 0.0, "critic.lr is 0: set it");
        check(|s| s.critic.lr = -1.0, "critic.lr is -1");
        check(|s| s.advantage.scale = Scale::Group, "set it to batch or none");
        check(|s| s.advantage.baseline = Baseline::Group, "no critic is used: set advantage.baseline=critic, or critic.lr=0");
        check(|s| s.critic.warmup_steps = 300, "the policy would never learn");
        check(|s| s.advantage.lambda = 1.5, "advantage.lambda is 1.5");
        check(|s| s.critic.clip = -0.5, "critic.clip is -0.5");
        check(|s| (s.advantage, s.critic.lr, s.critic.warmup_steps) = (AdvantageSettings::default(), 0.0, 3), "critic.warmup_steps is 3");
    }
}
