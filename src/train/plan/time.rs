//! Estimates the time of a run: the operations that follow from parameters and tokens, at this machine's measured rate, and the key/value
//! cache that decoding reads, at the measured memory bandwidth. A run takes longer, because sampling, the optimizer's pass and grading are
//! not counted.

use anyhow::Result;

use super::{Plan, machine};
use crate::kernels::{BLOCK, Kernels};
use crate::model::decoder::{ActivationCheckpointing, Cache};
use crate::train::update::micro_batch_count;
use crate::workers::Workers;

/// Measured rates of a machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Operations per second of products with one row per running sequence.
    pub decoding_flops: f64,
    /// Operations per second of products with many rows.
    pub training_flops: f64,
    /// Bytes of memory read per second.
    pub bandwidth: f64,
}

/// Estimated times if all responses have the same length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// The number of tokens in a response.
    pub mean_tokens: usize,
    /// Seconds for the rollouts of one step.
    pub rollouts: f64,
    /// Seconds for the update of one step.
    pub update: f64,
    /// Seconds for one evaluation.
    pub evaluation: f64,
    /// Seconds for the remaining steps and evaluations.
    pub run: f64,
}

impl Plan<'_> {
    /// Measures this machine for about 0.6 seconds.
    ///
    /// # Errors
    /// If a kernel fails, or the workers cannot be started.
    pub fn rates(&self, kernels: &dyn Kernels) -> Result<Rates> {
        let workers = Workers::new(self.workers)?;
        let responses = self.settings.rollout.groups * self.settings.rollout.group_size;
        let running = (self.settings.rollout.engine.resolved(&self.target).max_running.min(responses) / self.workers).max(1);
        let training_rows = if self.target.is_gpu { 8192 } else { 512 };
        Ok(Rates {
            decoding_flops: machine::measure_flops(self.config, kernels, &workers, running, 0.25)?,
            training_flops: machine::measure_flops(self.config, kernels, &workers, training_rows, 0.25)?,
            bandwidth: machine::measure_bandwidth(kernels, 0.1)?,
        })
    }

    /// Returns the number of evaluations that remain, including those of the base model and the last step.
    pub fn evaluations(&self) -> u64 {
        let (settings, done) = (self.settings, self.work.done);
        if self.work.evaluations.is_empty() {
            return 0;
        }
        let at = |every: u64, step: u64| step.checked_div(every).unwrap_or(0);
        let (every, steps) = (settings.eval.every, settings.train.steps);
        let last = u64::from(every == 0 || !steps.is_multiple_of(every));
        u64::from(done == 0) + at(every, steps) - at(every, done) + last
    }

    /// Estimates times for responses with `mean_tokens` tokens.
    pub fn times(&self, rates: Rates, mean_tokens: usize) -> Times {
        let settings = self.settings;
        let forward = 2.0 * self.config.matmul_parameters() as f64;
        let responses = settings.rollout.groups * settings.rollout.group_size;
        let prompts: usize = self.work.prompts.iter().take(settings.rollout.groups).sum();
        let longest = self.work.prompts.iter().max().copied().unwrap_or(0);
        let sampled = (responses * mean_tokens + prompts * self.workers) as f64;
        // Each new token reads the keys and values of all earlier tokens: the prompt and, on average, half of the response.
        let token_bytes = (Cache::block_bytes(self.config, &self.target) / BLOCK) as f64;
        let cached = |tokens: usize, before: f64| tokens as f64 * (before + mean_tokens as f64 / 2.0) * token_bytes / rates.bandwidth;
        let rollouts = forward * sampled / rates.decoding_flops + cached(responses * mean_tokens, longest as f64);
        let rollouts = if settings.rollout.replay.is_empty() { rollouts } else { 0.0 };

        let batches = micro_batch_count(self.memory.activations.micro_batch_tokens, self.workers, responses, responses * mean_tokens);
        let trained = (responses * mean_tokens + batches * longest) as f64;
        let update = self.passes() * forward * trained / rates.training_flops;
        let evaluated = |load: &crate::rollout::limits::EngineLoad| {
            load.requests * mean_tokens.min(load.max_new_tokens) + load.prompts.iter().sum::<usize>()
        };
        let evaluation = forward * self.work.evaluations.iter().map(evaluated).sum::<usize>() as f64 / rates.decoding_flops;
        let steps = settings.train.steps.saturating_sub(self.work.done) as f64;
        let run = steps * (rollouts + update) + self.evaluations() as f64 * evaluation;
        Times { mean_tokens, rollouts, update, evaluation, run }
    }

    /// Returns the cost of a step's updates, in forward passes over all its tokens. Policy and critic each cost 3 per epoch, 1 more per
    /// epoch if whole blocks are recomputed, and 1 per step for old log-probabilities or values if there are several updates. The reference
    /// costs 1 per epoch for KL in the loss, and 1 per step for KL in the reward.
    pub fn passes(&self) -> f64 {
        let (loss, reward, train) = (&self.settings.loss, &self.settings.reward, &self.settings.train);
        let count = |condition: bool| f64::from(u8::from(condition));
        let (epochs, models) = (train.epochs as f64, 1.0 + count(self.settings.has_critic()));
        let epoch = 3.0 + count(self.memory.activations.checkpointing == ActivationCheckpointing::Full);
        let before = count(train.updates_per_rollout > 1);
        models * (epochs * epoch + before) + epochs * count(loss.kl != 0.0) + count(reward.kl != 0.0)
    }
}

/// Formats seconds as hours with two significant digits.
pub(super) fn hours(seconds: f64) -> String {
    match seconds / 3600.0 {
        hours @ 0.0..10.0 => format!("{hours:.1} h"),
        hours => format!("{hours:.0} h"),
    }
}

/// Formats seconds in the largest suitable unit.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        0.0..1.0 => format!("{seconds:.2} s"),
        1.0..120.0 => format!("{seconds:.0} s"),
        120.0..7200.0 => format!("{:.0} min", seconds / 60.0),
        7200.0..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.0} days", seconds / 86400.0),
    }
}
