//! Settings that contradict each other: refused before any weight is read, each with what to set instead. What a single setting may be is in
//! `table`.

use anyhow::{Result, ensure};

use super::RunSettings;
use crate::config::Settings;
use crate::model::ModelConfig;
use crate::objective::{Baseline, KlEstimator, Scale, Surrogate};

impl RunSettings {
    /// Refuses what cannot be run, before any weight is read.
    pub fn validate(&self) -> Result<()> {
        self.check()?;
        let (rollout, train) = (&self.rollout, &self.train);
        self.reward.validate(rollout.max_new)?;
        rollout.refuse_truncation()?;
        self.critic.validate(&self.advantage, train)?;
        self.validate_algorithm()?;
        self.lora.validate()?;
        ensure!(
            train.updates_per_rollout.is_multiple_of(train.epochs),
            "train.updates_per_rollout is {}; it must be a multiple of train.epochs ({})",
            train.updates_per_rollout,
            train.epochs
        );
        ensure!(
            rollout.groups.is_multiple_of(self.updates_per_epoch()),
            "train.updates_per_rollout is {}; {} updates an epoch must divide rollout.groups ({}) evenly",
            train.updates_per_rollout,
            self.updates_per_epoch(),
            rollout.groups
        );
        Ok(())
    }

    /// Refuses what a model of this shape cannot have.
    ///
    /// # Errors
    /// When adapters have a rank above the model's width.
    pub fn validate_for(&self, config: &ModelConfig) -> Result<()> {
        let (rank, width) = (self.lora.rank, config.hidden);
        ensure!(
            rank <= width,
            "lora.rank is {rank}, above the width {width} of {}: such an adapter is larger than what it adapts; set it to at most {width}, usually 8 to 64",
            self.model
        );
        Ok(())
    }

    /// What is allowed and will surprise: a line each, told at the start.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.rollout.truncation_warning().into_iter().collect();
        if self.loss.kl > 0.0 && self.loss.kl_estimator == KlEstimator::K1 {
            warnings.push(
                "loss.kl_estimator is k1: as a term of the loss its expected gradient is 0, so that it adds noise and holds the policy to \
                 nothing; use k2 or k3, or k1 as reward.kl"
                    .to_owned(),
            );
        }
        warnings
    }

    /// Refuses settings of the algorithm that contradict each other.
    fn validate_algorithm(&self) -> Result<()> {
        let (rollout, loss, train, advantage) = (&self.rollout, &self.loss, &self.train, &self.advantage);
        let compares = self.compares_in_groups();
        let learns = loss.policy != 0.0;
        ensure!(
            !learns || !compares || rollout.group_size > 1,
            "rollout.group_size is {}; a group's mean as baseline needs at least 2: set it so, or advantage.baseline to none",
            rollout.group_size
        );
        ensure!(
            compares || advantage.scale != Scale::Group,
            "advantage.scale is group, which goes with the baselines group and leave-one-out: set it to batch or none"
        );
        let baseline = toml::Value::try_from(advantage.baseline)?;
        ensure!(
            !compares || advantage.gamma == 1.0,
            "advantage.gamma is {}, which advantage.baseline {} does not use: set it to 1, or the baseline to critic or none",
            advantage.gamma,
            baseline.as_str().unwrap_or_default()
        );
        ensure!(
            advantage.baseline == Baseline::Critic || advantage.lambda == 1.0,
            "advantage.lambda is {}, and only a critic uses it: set it to 1, or advantage.baseline to critic",
            advantage.lambda
        );
        ensure!(
            learns || advantage.baseline != Baseline::Critic,
            "a critic serves the policy loss, whose coefficient is 0: set loss.policy above 0, or advantage.baseline to none"
        );
        ensure!(
            rollout.resample == 0 || (learns && compares),
            "rollout.resample replaces groups whose rewards are all equal, which teach something here: set it to 0"
        );
        let most = if loss.surrogate == Surrogate::Cispo { "at most 1 (no lower bound)" } else { "below 1" };
        let fits = loss.clip_low < 1.0 || (loss.surrogate == Surrogate::Cispo && loss.clip_low == 1.0);
        ensure!(fits, "loss.clip_low is {}; it must be above 0 and {most}", loss.clip_low);
        ensure!(
            loss.kl == 0.0 || self.reward.kl == 0.0,
            "loss.kl is {} and reward.kl {}: KL belongs in one place; set the other to 0",
            loss.kl,
            self.reward.kl
        );
        ensure!(learns || self.reward.kl == 0.0, "reward.kl is {}, but loss.policy 0 learns from no reward: use loss.kl", self.reward.kl);
        let follows = train.reference_every > 0 || train.reference_decay > 0.0;
        ensure!(
            !follows || self.has_reference(),
            "train.reference_every and train.reference_decay move a reference, but loss.kl and reward.kl are 0: set one of them"
        );
        ensure!(
            train.reference_every == 0 || train.reference_decay == 0.0,
            "train.reference_every and train.reference_decay are two ways to move the reference: set one of them to 0"
        );
        ensure!(
            (loss.entropy_target > 0.0) == (loss.entropy_step > 0.0),
            "loss.entropy_target is {} and loss.entropy_step {}: both must be above 0, or both 0",
            loss.entropy_target,
            loss.entropy_step
        );
        ensure!(
            loss.entropy_target == 0.0 || (loss.entropy_steps == 0 && loss.entropy >= 0.0),
            "loss.entropy_target steers the coefficient from loss.entropy on: set loss.entropy_steps to 0 and loss.entropy to at least 0"
        );
        ensure!(
            loss.entropy_steps > 0 || loss.entropy_to == 0.0,
            "loss.entropy_to is {} and loss.entropy_steps 0: say over how many steps the coefficient moves there",
            loss.entropy_to
        );
        ensure!(
            rollout.temperature_steps > 0 || rollout.temperature_to == 1.0,
            "rollout.temperature_to is {} and rollout.temperature_steps 0: say over how many steps the temperature moves there",
            rollout.temperature_to
        );
        ensure!(
            rollout.temperature_steps == 0 || rollout.replay.is_empty(),
            "rollout.temperature_steps is {}, but recorded rollouts have the temperature that they have: set it to 0",
            rollout.temperature_steps
        );
        ensure!(
            rollout.resample == 0 || rollout.replay.is_empty(),
            "rollout.resample is {}, but recorded rollouts are not drawn again: set it to 0",
            rollout.resample
        );
        Ok(())
    }
}
