//! What settings contradict each other or cannot be run: refused before any weight is read, each with what to set instead.

use anyhow::{Result, ensure};

use super::RunSettings;
use crate::objective::{Baseline, Scale, Surrogate};
use crate::train::algorithm;

impl RunSettings {
    /// Refuses what cannot be run, before any weight is read.
    pub fn validate(&self) -> Result<()> {
        algorithm::by_name(&self.algo)?;
        let (rollout, loss, train, optim) = (&self.rollout, &self.loss, &self.train, &self.optim);
        ensure!(rollout.groups > 0 && rollout.max_new > 0, "rollout.groups and rollout.max_new must be at least 1");
        self.reward.validate(rollout.max_new)?;
        ensure!(rollout.group_size > 0, "rollout.group_size must be at least 1");
        ensure!(rollout.temperature > 0.0, "rollout.temperature is {}; training needs one above 0 to explore", rollout.temperature);
        ensure!(rollout.top_p > 0.0 && rollout.top_p <= 1.0, "rollout.top_p is {}; it must lie above 0 and at most at 1", rollout.top_p);
        ensure!((0.0..=1.0).contains(&rollout.min_p), "rollout.min_p is {}; it must lie between 0 and 1", rollout.min_p);
        self.critic.validate(&self.advantage, train)?;
        self.validate_algorithm()?;
        ensure!(loss.clip_high > 0.0, "loss.clip_high is {}; it must be positive", loss.clip_high);
        ensure!(optim.lr >= 0.0 && optim.lr.is_finite(), "optim.lr is {}; it must not be negative", optim.lr);
        let betas = [("beta1", optim.beta1), ("beta2", optim.beta2)];
        for (name, beta) in betas {
            ensure!((0.0..1.0).contains(&beta), "optim.{name} is {beta}; it must be at least 0 and below 1");
        }
        ensure!(optim.eps > 0.0, "optim.eps is {}; it must be above 0, or an element without gradient is 0/0", optim.eps);
        self.lora.validate()?;
        ensure!(self.eval.max_new > 0, "eval.max_new must be at least 1");
        ensure!(self.eval.saturation_window > 0, "eval.saturation_window must be at least 1");
        ensure!(train.steps > 0, "train.steps must be at least 1");
        ensure!(train.micro_batch_tokens > 0, "train.micro_batch_tokens must be at least 1");
        ensure!(
            train.epochs > 0 && train.updates_per_rollout > 0 && train.updates_per_rollout.is_multiple_of(train.epochs),
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
        ensure!(self.checkpoint.keep_last > 0, "checkpoint.keep_last must be at least 1, or the run could not be resumed");
        ensure!(self.checkpoint.max_shard_bytes > 0, "checkpoint.max_shard_bytes must be at least 1");
        Ok(())
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
        for (name, share) in [("gamma", advantage.gamma), ("lambda", advantage.lambda)] {
            ensure!((0.0..=1.0).contains(&share), "advantage.{name} is {share}; it must lie between 0 and 1");
        }
        let most = if loss.surrogate == Surrogate::Cispo { "at most 1 (no lower bound)" } else { "below 1" };
        let fits = loss.clip_low < 1.0 || (loss.surrogate == Surrogate::Cispo && loss.clip_low == 1.0);
        ensure!(loss.clip_low > 0.0 && fits, "loss.clip_low is {}; it must be above 0 and {most}", loss.clip_low);
        let finite = [("loss.policy", loss.policy), ("loss.kl", loss.kl), ("loss.entropy", loss.entropy), ("reward.kl", self.reward.kl)];
        for (name, coefficient) in finite {
            ensure!(coefficient.is_finite(), "{name} is {coefficient}; it must be a finite number");
        }
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
            (0.0..1.0).contains(&train.reference_decay),
            "train.reference_decay is {}; it must be at least 0 and below 1",
            train.reference_decay
        );
        ensure!(
            loss.entropy_target >= 0.0 && loss.entropy_step >= 0.0 && (loss.entropy_target > 0.0) == (loss.entropy_step > 0.0),
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
        ensure!(loss.entropy_to.is_finite(), "loss.entropy_to is {}; it must be a finite number", loss.entropy_to);
        ensure!(
            rollout.temperature_steps == 0 || rollout.temperature_to > 0.0,
            "rollout.temperature_to is {}; training needs one above 0 to explore",
            rollout.temperature_to
        );
        ensure!(
            rollout.resample == 0 || rollout.replay.is_empty(),
            "rollout.resample is {}, but recorded rollouts are not drawn again: set it to 0",
            rollout.resample
        );
        Ok(())
    }
}
