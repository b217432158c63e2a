//! Estimates the time of a run: the operations that follow from parameters and tokens, at this machine's measured rate, and the key/value
//! cache that decoding reads, at the measured memory bandwidth. A run takes longer, because sampling, the optimizer's pass and grading are
//! not counted.

use anyhow::Result;

use super::{Plan, Ranks, RunWorkload, machine, memory, workers};
use crate::kernels::{BLOCK, Kernels};
use crate::model::decoder::{ActivationCheckpointing, Cache};
use crate::rollout::limits::EngineLoad;
use crate::train::update::micro_batch_count;
use crate::workers::Workers;

/// Measured rates of a machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Operations per second of products with one row per running sequence of a rank.
    pub decoding_flops: f64,
    /// The same with all sequences in one process.
    pub alone_decoding_flops: f64,
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
    /// Seconds for the exchange of gradients and weights between ranks in one step.
    pub exchange: f64,
    /// The speed of a step per device, compared with one process: 1 for one process. `None` if a run of one process cannot be planned.
    pub efficiency: Option<f64>,
    /// Seconds for one evaluation.
    pub evaluation: f64,
    /// Seconds for the remaining steps and evaluations.
    pub run: f64,
}

impl Times {
    /// Seconds of one step, without evaluation.
    pub fn step(&self) -> f64 {
        self.rollouts + self.update + self.exchange
    }
}

impl Plan<'_> {
    /// Measures this machine for about 0.6 seconds, or 0.9 with several ranks.
    ///
    /// # Errors
    /// If a kernel fails, or the workers cannot be started.
    pub fn rates(&self, kernels: &dyn Kernels) -> Result<Rates> {
        let (ranks, of_one) = (self.work.ranks, workers(self.config, self.settings, &self.target));
        let count = (self.workers * ranks.on_host).min(of_one).max(self.workers);
        let workers = Workers::new(count)?;
        let max_running = self.settings.rollout.engine.resolved(&self.target).max_running;
        let responses = memory::rollout_load(self.settings, self.work).requests;
        let decoding = |responses: usize, workers_of_rank: usize| {
            let running = (max_running.min(responses) / workers_of_rank).max(1);
            machine::measure_flops(self.config, kernels, &workers, running, 0.25)
        };
        let training_rows = if self.target.is_gpu { 8192 } else { 512 };
        let decoding_flops = decoding(responses.div_ceil(ranks.count), self.workers)?;
        Ok(Rates {
            decoding_flops,
            alone_decoding_flops: if ranks.are_several() { decoding(responses, of_one)? } else { decoding_flops },
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

    /// Estimates times for responses with `mean_tokens` tokens, from this machine's rates.
    pub fn times(&self, rates: Rates, mean_tokens: usize) -> Times {
        let ranks = self.work.ranks;
        if !ranks.are_several() {
            return self.times_of_rank(rates, mean_tokens);
        }
        // The ranks of a host without GPUs share its processors and the bandwidth of its memory.
        let sharing = if self.target.is_gpu { 1.0 } else { ranks.on_host as f64 };
        let of_rank = Rates {
            decoding_flops: rates.decoding_flops / sharing,
            training_flops: rates.training_flops / sharing,
            bandwidth: rates.bandwidth / sharing,
            ..rates
        };
        let times = self.times_of_rank(of_rank, mean_tokens);
        let one = Rates { decoding_flops: rates.alone_decoding_flops, ..rates };
        let alone = self.alone(|plan| Some(plan.times_of_rank(one, mean_tokens)));
        self.with_efficiency(times, alone)
    }

    /// Calls `times` with the plan of the same run in one process without shards; `None` if it cannot be planned.
    pub(super) fn alone(&self, times: impl FnOnce(&Plan) -> Option<Times>) -> Option<Times> {
        let mut settings = self.settings.clone();
        settings.train.shards = 0;
        let work = RunWorkload { ranks: Ranks::ONE, ..self.work.clone() };
        times(&Plan::of(self.config, &settings, &work, self.target).ok()?)
    }

    /// Sets the efficiency, given the times of one process.
    pub(super) fn with_efficiency(&self, times: Times, alone: Option<Times>) -> Times {
        Times { efficiency: alone.map(|alone| self.efficiency(alone.step(), times.step())), ..times }
    }

    /// Returns the tokens of a step's updates that the fullest rank computes, for responses of these lengths with `mean` tokens on average.
    /// The longest prompt counts once per micro-batch.
    pub(super) fn trained_tokens(&self, mean: usize, lengths: &[usize]) -> f64 {
        let (budget, updates) = (self.memory.activations.micro_batch_tokens, self.settings.train.updates_per_rollout);
        let responses = memory::rollout_load(self.settings, self.work).requests;
        let longest = self.work.prompts.iter().max().copied().unwrap_or(0);
        let batches = match self.settings.train.shards {
            0 => micro_batch_count(budget, self.workers, responses, responses * mean),
            shards => {
                let in_shard = (responses / updates).div_ceil(shards);
                updates * shards / self.work.ranks.count * micro_batch_count(budget, 1, in_shard, in_shard * mean)
            }
        };
        (responses * mean) as f64 * self.fullest_part(lengths) + (batches * longest) as f64
    }

    /// Estimates times from the rates of a rank.
    fn times_of_rank(&self, rates: Rates, mean_tokens: usize) -> Times {
        let (settings, ranks) = (self.settings, self.work.ranks);
        let forward = 2.0 * self.config.matmul_parameters() as f64;
        let all = memory::rollout_load(settings, self.work).requests;
        let responses = all.div_ceil(ranks.count);
        let prompts: usize = self.work.prompts.iter().take(settings.rollout.groups.min(responses)).sum();
        let longest = self.work.prompts.iter().max().copied().unwrap_or(0);
        let sampled = (responses * mean_tokens + prompts * self.workers) as f64;
        // Each new token reads the keys and values of all earlier tokens: the prompt and, on average, half of the response.
        let token_bytes = (Cache::block_bytes(self.config, &self.target) / BLOCK) as f64;
        let cached = |tokens: usize, before: f64| tokens as f64 * (before + mean_tokens as f64 / 2.0) * token_bytes / rates.bandwidth;
        let rollouts = forward * sampled / rates.decoding_flops + cached(responses * mean_tokens, longest as f64);
        let rollouts = if settings.rollout.replay.is_empty() { rollouts } else { 0.0 };

        let lengths = vec![mean_tokens; all / settings.train.updates_per_rollout];
        let update = self.passes() * forward * self.trained_tokens(mean_tokens, &lengths) / rates.training_flops;
        let evaluated = |load: &EngineLoad| {
            let load = ranks.dealt(load);
            load.requests * mean_tokens.min(load.max_new_tokens) + load.prompts.iter().sum::<usize>()
        };
        let evaluation = forward * self.work.evaluations.iter().map(evaluated).sum::<usize>() as f64 / rates.decoding_flops;
        let steps = settings.train.steps.saturating_sub(self.work.done) as f64;
        let exchange = self.exchange_s();
        let run = steps * (rollouts + update + exchange) + self.evaluations() as f64 * evaluation;
        Times { mean_tokens, rollouts, update, exchange, efficiency: Some(1.0), evaluation, run }
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
