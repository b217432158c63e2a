//! Checks settings that contradict each other, before any weights load. Each error says what to set instead. Ranges of single settings are
//! in `table`.

use anyhow::{Result, ensure};

use super::RunSettings;
use crate::config::Settings;
use crate::kernels::DeviceChoice;
use crate::model::ModelConfig;
use crate::objective::{Baseline, KlEstimator, Scale, Surrogate};
use crate::train::shards::shards_of_rank;

impl RunSettings {
    /// Checks everything that needs no model.
    ///
    /// # Errors
    /// If a setting is outside its range, or settings contradict each other.
    pub fn validate(&self) -> Result<()> {
        self.check()?;
        let (rollout, train) = (&self.rollout, &self.train);
        self.reward.validate(rollout.max_new_tokens)?;
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
            "train.updates_per_rollout is {}, which makes {} updates per epoch; that number must divide rollout.groups ({})",
            train.updates_per_rollout,
            self.updates_per_epoch(),
            rollout.groups
        );
        ensure!(
            train.shards == 0 || train.shards.is_power_of_two(),
            "train.shards is {}; it must be 0 or a power of two, such as {}",
            train.shards,
            train.shards.next_power_of_two()
        );
        ensure!(
            train.shards == 0 || train.workers == 0,
            "train.shards is {} and train.workers is {}, but shards replace workers in fixing the order of sums: set one of them to 0",
            train.shards,
            train.workers
        );
        Ok(())
    }

    /// Checks that a number of processes can share the run.
    ///
    /// # Errors
    /// If there are several processes but no shards, or the processes cannot share the shards equally.
    pub fn validate_for_processes(&self, processes: usize) -> Result<()> {
        let shards = self.train.shards;
        ensure!(
            shards > 0 || processes == 1,
            "{processes} processes share one run only if its gradient is summed in an order that does not depend on their number: add --set train.shards={}",
            processes.next_power_of_two()
        );
        ensure!(
            processes == 1 || !matches!(self.compute.device, DeviceChoice::Cuda(1..)),
            "compute.device is {}, but each of the {processes} processes takes a GPU of its own: set it to cuda",
            self.compute.device
        );
        if shards > 0 { shards_of_rank(shards, processes).map(drop) } else { Ok(()) }
    }

    /// Checks the settings against a model's shape.
    ///
    /// # Errors
    /// If `lora.rank` is above the model's width.
    pub fn validate_for(&self, config: &ModelConfig) -> Result<()> {
        let (rank, width) = (self.lora.rank, config.hidden);
        ensure!(
            rank <= width,
            "lora.rank is {rank}, above the width {width} of {}, so an adapter would be larger than its projection: set it to at most {width}, usually 8 to 64",
            self.model
        );
        Ok(())
    }

    /// Returns warnings about valid but surprising settings, one line each, to print at the start of a run.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.rollout.truncation_warning().into_iter().collect();
        if self.loss.kl > 0.0 && self.loss.kl_estimator == KlEstimator::K1 {
            warnings.push(
                "loss.kl_estimator is k1: in the loss its expected gradient is 0, so it adds noise and does not constrain the policy; use k2 or \
                 k3, or k1 in reward.kl"
                    .to_owned(),
            );
        }
        warnings
    }

    /// Checks the settings of the algorithm against each other.
    fn validate_algorithm(&self) -> Result<()> {
        let (rollout, loss, train, advantage) = (&self.rollout, &self.loss, &self.train, &self.advantage);
        let has_group_baseline = self.compares_in_groups();
        let has_policy_loss = loss.policy != 0.0;
        ensure!(
            !has_policy_loss || !has_group_baseline || rollout.group_size > 1,
            "rollout.group_size is {}, but a group's mean as the baseline needs at least 2 responses: increase it, or set advantage.baseline to none",
            rollout.group_size
        );
        ensure!(
            has_group_baseline || advantage.scale != Scale::Group,
            "advantage.scale is group, which needs the baseline group or leave-one-out: set it to batch or none"
        );
        let baseline = toml::Value::try_from(advantage.baseline)?;
        ensure!(
            !has_group_baseline || advantage.gamma == 1.0,
            "advantage.gamma is {}, but the baseline {} does not use it: set it to 1, or advantage.baseline to critic or none",
            advantage.gamma,
            baseline.as_str().unwrap_or_default()
        );
        ensure!(
            advantage.baseline == Baseline::Critic || advantage.lambda == 1.0,
            "advantage.lambda is {}, but only a critic uses it: set it to 1, or advantage.baseline to critic",
            advantage.lambda
        );
        ensure!(
            has_policy_loss || advantage.baseline != Baseline::Critic,
            "advantage.baseline is critic, but the policy loss that would use it is off: set loss.policy above 0, or advantage.baseline to none"
        );
        ensure!(
            rollout.dynamic_sampling == 0 || (has_policy_loss && has_group_baseline),
            "rollout.dynamic_sampling replaces groups whose rewards are all equal, but here these groups contribute to the loss: set it to 0"
        );
        let upper = if loss.surrogate == Surrogate::Cispo { "at most 1 (no lower bound)" } else { "below 1" };
        let fits = loss.clip_low < 1.0 || (loss.surrogate == Surrogate::Cispo && loss.clip_low == 1.0);
        ensure!(fits, "loss.clip_low is {}; it must be above 0 and {upper}", loss.clip_low);
        ensure!(
            loss.kl == 0.0 || self.reward.kl == 0.0,
            "loss.kl is {} and reward.kl is {}, but KL belongs in one of them: set the other to 0",
            loss.kl,
            self.reward.kl
        );
        ensure!(
            has_policy_loss || self.reward.kl == 0.0,
            "reward.kl is {}, but loss.policy is 0, which ignores rewards: use loss.kl",
            self.reward.kl
        );
        let updates_reference = train.reference_every > 0 || train.reference_decay > 0.0;
        ensure!(
            !updates_reference || self.has_reference(),
            "train.reference_every and train.reference_decay update a reference model, but loss.kl and reward.kl are 0: set one of these"
        );
        ensure!(
            train.reference_every == 0 || train.reference_decay == 0.0,
            "train.reference_every and train.reference_decay both update the reference model: set one of them to 0"
        );
        ensure!(
            (loss.entropy_target > 0.0) == (loss.entropy_step > 0.0),
            "loss.entropy_target is {} and loss.entropy_step is {}: set both above 0, or both to 0",
            loss.entropy_target,
            loss.entropy_step
        );
        ensure!(
            loss.entropy_target == 0.0 || (loss.entropy_steps == 0 && loss.entropy >= 0.0),
            "loss.entropy_target adapts the coefficient, starting from loss.entropy: set loss.entropy_steps to 0 and loss.entropy to at least 0"
        );
        ensure!(
            loss.entropy_steps > 0 || loss.entropy_to == 0.0,
            "loss.entropy_to is {}, but loss.entropy_steps is 0: set it to the length of the schedule in steps",
            loss.entropy_to
        );
        ensure!(
            rollout.temperature_steps > 0 || rollout.temperature_to == 1.0,
            "rollout.temperature_to is {}, but rollout.temperature_steps is 0: set it to the length of the schedule in steps",
            rollout.temperature_to
        );
        ensure!(
            rollout.temperature_steps == 0 || rollout.replay.is_empty(),
            "rollout.temperature_steps is {}, but the temperature of recorded rollouts is fixed: set it to 0",
            rollout.temperature_steps
        );
        ensure!(
            rollout.dynamic_sampling == 0 || rollout.replay.is_empty(),
            "rollout.dynamic_sampling is {}, but recorded rollouts cannot be sampled again: set it to 0",
            rollout.dynamic_sampling
        );
        Ok(())
    }
}
