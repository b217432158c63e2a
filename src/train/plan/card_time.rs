//! Estimates the time of a run on a GPU that is not here, from its data sheet. The model adds up the times of operations that follow one
//! another, each limited by arithmetic or by memory. Its constants come from an analysis of the fused kernels on H100 and H200 (estimated
//! operation by operation to about 25%), not from measured runs: nothing here is a measurement.

use std::f64::consts::SQRT_2;

use candle_core::cpu::erf::erf_f64;

use super::cards::Card;
use super::memory::PhaseMemory;
use super::{Plan, Times};
use crate::kernels::BLOCK;
use crate::model::decoder::{ActivationCheckpointing, Cache, activation_bytes};
use crate::rollout::limits::EngineLoad;

/// The share of the data sheet's bandwidth that copies reach (4.3 of 4.8 TB/s on an H200, 3.0 of 3.35 on an H100, both measured).
const BANDWIDTH_SHARE: f64 = 0.9;
/// The share of the data sheet's arithmetic speed that products reach while decoding, with one row per sequence.
const DECODING_SHARE: f64 = 0.45;
/// The share that products reach in training.
const TRAINING_SHARE: f64 = 0.65;
/// The share that attention reaches in training.
const ATTENTION_SHARE: f64 = 0.12;
/// Seconds per layer of a decoding pass for launching small kernels, and the gaps between them.
const LAUNCH_SECONDS: f64 = 55e-6;
/// Memory traffic of norms, activations and copies in one training pass, relative to the size of all activations.
const ELEMENTWISE_TRAFFIC: f64 = 1.4;
/// Passes over a token's f32 logits in training: scores of policy and reference, and the gradient.
const LOGIT_PASSES: f64 = 7.0;
/// Bytes per parameter that an optimizer step reads and writes: gradient, masters, moments and weights.
const OPTIMIZER_BYTES: f64 = 34.0;
/// Bytes per second between host and GPU, for a streamed reference: about the rate of PCI Express 4.0 with 16 lanes.
const HOST_BANDWIDTH: f64 = 20e9;
/// The tokens for which a streamed reference copies each block once.
const STREAMED_ROWS: f64 = 262_144.0;
/// The share of responses that reach the maximum length, as in `rlvr bench` with log-normal lengths.
const CAPPED_SHARE: f64 = 0.03;
/// The number of quantiles that stand for a distribution of lengths.
const QUANTILES: usize = 256;

impl Plan<'_> {
    /// Estimates times on a card for responses with `mean_tokens` tokens on average, with log-normal lengths of which 3% are cut off at the
    /// maximum (all have the maximum if that is the mean). `None` for stock operations and for f32, which the model does not describe.
    pub fn times_on(&self, card: &Card, mean_tokens: usize) -> Option<Times> {
        let target = &self.target;
        if !target.is_gpu || target.is_stock || target.element_bytes != 2 {
            return None;
        }
        let model = CardModel { plan: self, flops: card.tflops * 1e12, bandwidth: card.bandwidth * 1e9 * BANDWIDTH_SHARE };
        let ranks = self.work.ranks;
        let rollout = ranks.dealt(&super::memory::rollout_load(self.settings, self.work));
        let rollouts = if self.settings.rollout.replay.is_empty() {
            model.generation(&rollout, mean_tokens, self.cache_bytes("rollouts"))
        } else {
            0.0
        };
        let update = model.update(mean_tokens);
        let evaluate =
            |load: &EngineLoad| model.generation(&ranks.dealt(load), mean_tokens.min(load.max_new_tokens), self.cache_bytes("evaluation"));
        let evaluation = self.work.evaluations.iter().map(evaluate).sum();
        let steps = self.settings.train.steps.saturating_sub(self.work.done) as f64;
        let exchange = self.exchange_s();
        let run = steps * (rollouts + update + exchange) + self.evaluations() as f64 * evaluation;
        let times = Times { mean_tokens, rollouts, update, exchange, efficiency: Some(1.0), evaluation, run };
        if !ranks.are_several() {
            return Some(times);
        }
        Some(self.with_efficiency(times, self.alone(|plan| plan.times_on(card, mean_tokens))))
    }

    /// Returns the size of the key/value cache in a phase, in bytes.
    fn cache_bytes(&self, phase: &str) -> f64 {
        let cache = |phase: &PhaseMemory| phase.parts.iter().find(|(name, _)| *name == "key/value cache").map(|(_, bytes)| *bytes as f64);
        self.memory.phases.iter().find(|one| one.name == phase).and_then(cache).unwrap_or(f64::MAX)
    }
}

/// A plan with the rates of a card.
struct CardModel<'a> {
    plan: &'a Plan<'a>,
    /// Operations per second.
    flops: f64,
    /// Bytes per second that copies reach.
    bandwidth: f64,
}

impl CardModel<'_> {
    /// Returns the seconds to answer all requests of a load.
    fn generation(&self, load: &EngineLoad, mean: usize, cache_bytes: f64) -> f64 {
        let lengths = lengths(mean as f64, load.max_new_tokens as f64);
        let prompts: usize = load.prompts.iter().sum();
        let prompt = prompts as f64 / load.prompts.len().max(1) as f64;
        let prefill = self.products(prompts as f64) / (self.flops * TRAINING_SHARE);
        // With constant replacement of finished sequences, a running sequence is a random moment of a random response.
        let squares: f64 = lengths.iter().map(|length| length * length).sum();
        let age = squares / lengths.iter().sum::<f64>() / 2.0;
        let requests = load.requests as f64;
        let max_running = self.plan.settings.rollout.engine.resolved(&self.plan.target).max_running as f64;
        // A prompt that several requests share is in the cache once.
        let own_prompt = prompt * (load.prompts.len() as f64 / requests.max(1.0));
        let fitting = (cache_bytes / (self.token_bytes() * (own_prompt + age))).max(1.0);
        let running = requests.min(max_running).min(fitting).max(1.0);
        let steady = (requests - running).max(0.0) * mean as f64 / running * self.pass(running, prompt + age);
        prefill + steady + self.drain(running, prompt, &lengths)
    }

    /// Returns the seconds until `running` sequences that start together have finished, given quantiles of their lengths in ascending
    /// order.
    fn drain(&self, running: f64, prompt: f64, lengths: &[f64]) -> f64 {
        let (mut before, mut seconds) = (0.0, 0.0);
        for (finished, length) in lengths.iter().enumerate() {
            let left = (running * (1.0 - finished as f64 / lengths.len() as f64)).max(1.0);
            seconds += (length - before) * self.pass(left, prompt + (before + length) / 2.0);
            before = *length;
        }
        seconds
    }

    /// Returns the seconds of one decoding pass of `rows` sequences with `context` tokens each.
    fn pass(&self, rows: f64, context: f64) -> f64 {
        let config = self.plan.config;
        let weights = config.matmul_parameters() as f64 * self.plan.target.element_bytes as f64;
        let products = (self.products(rows) / (self.flops * DECODING_SHARE)).max(weights / self.bandwidth);
        let logits = rows * (config.vocabulary * size_of::<f32>()) as f64 / self.bandwidth;
        products + logits + rows * context * self.token_bytes() / self.bandwidth + config.layers as f64 * LAUNCH_SECONDS
    }

    /// Returns the seconds of a step's updates.
    fn update(&self, mean: usize) -> f64 {
        let (plan, config) = (self.plan, self.plan.config);
        let settings = plan.settings;
        let responses = settings.rollout.groups * settings.rollout.group_size;
        let prompt = plan.work.prompts.iter().max().copied().unwrap_or(0);
        let quantiles = lengths(mean as f64, settings.rollout.max_new_tokens as f64);
        let count = responses / settings.train.updates_per_rollout;
        let dealt: Vec<usize> = (0..count).map(|index| quantiles[index * QUANTILES / count] as usize).collect();
        let (rows, passes) = (plan.trained_tokens(mean, &dealt), plan.passes());
        let products = passes * self.products(rows) / (self.flops * TRAINING_SHARE);
        let activations = activation_bytes(config, &plan.target, ActivationCheckpointing::None) as f64;
        let elementwise = passes * ELEMENTWISE_TRAFFIC * rows * activations / self.bandwidth;
        let age = quantiles.iter().map(|length| length * length).sum::<f64>() / quantiles.iter().sum::<f64>() / 2.0;
        let width = (config.heads.query * config.heads.width * config.layers) as f64;
        let attention = passes * 4.0 * rows * (prompt as f64 + age) * width / (self.flops * ATTENTION_SHARE);
        let logits = LOGIT_PASSES * rows * (config.vocabulary * size_of::<f32>()) as f64 / self.bandwidth;
        let parameters = config.parameter_count() as f64;
        let owned = settings.optim.owned(&settings.lora.trained(config), plan.work.ranks.count);
        let part = plan.work.ranks.owned(&owned).elements as f64 / owned.iter().map(|owned| owned.elements).sum::<u64>().max(1) as f64;
        let optimizer = settings.train.updates_per_rollout as f64 * OPTIMIZER_BYTES * parameters * part / self.bandwidth;
        let streamed = f64::from(u8::from(settings.has_reference() && settings.train.stream_reference));
        let copies = streamed * (rows / STREAMED_ROWS).ceil() * parameters * plan.target.element_bytes as f64 / HOST_BANDWIDTH;
        products + elementwise + attention + logits + optimizer + copies
    }

    /// Returns the operations of a forward pass over `rows` tokens, without attention.
    fn products(&self, rows: f64) -> f64 {
        2.0 * self.plan.config.matmul_parameters() as f64 * rows
    }

    /// Returns the bytes of keys and values per token.
    fn token_bytes(&self) -> f64 {
        (Cache::block_bytes(self.plan.config, &self.plan.target) / BLOCK) as f64
    }
}

/// Returns quantiles of the lengths of responses in ascending order: log-normal with the given mean, of which 3% are cut off at `longest`.
/// All are equal if the mean is the maximum, or so low that no such distribution exists.
fn lengths(mean: f64, longest: f64) -> Vec<f64> {
    let cut = normal_quantile(1.0 - CAPPED_SHARE);
    let quantiles: Vec<f64> = (0..QUANTILES).map(|index| normal_quantile((index as f64 + 0.5) / QUANTILES as f64)).collect();
    let with = |sigma: f64| quantiles.iter().map(|z| (longest * (sigma * (z - cut)).exp()).min(longest)).collect::<Vec<_>>();
    let mean_of = |lengths: &[f64]| lengths.iter().sum::<f64>() / lengths.len() as f64;
    // The mean falls as sigma grows.
    let (mut low, mut high) = (0.0, 8.0);
    if mean >= longest || mean <= mean_of(&with(high)) {
        return vec![mean.min(longest); QUANTILES];
    }
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        *(if mean_of(&with(middle)) > mean { &mut low } else { &mut high }) = middle;
    }
    with(low)
}

/// Returns the quantile of the standard normal distribution for a probability between 0 and 1, by bisection.
fn normal_quantile(probability: f64) -> f64 {
    let (mut low, mut high) = (-10.0, 10.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        *(if 0.5 * (1.0 + erf_f64(middle / SQRT_2)) < probability { &mut low } else { &mut high }) = middle;
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Backend;
    use crate::model::known_models;
    use crate::train::RunSettings;
    use crate::train::plan::RunWorkload;

    fn with_plan<T>(card: &str, prompt: usize, check: impl Fn(&Plan, &Card) -> T) -> T {
        let config = known_models::by_name("qwen2.5-math-1.5b").unwrap().read().unwrap();
        let mut settings = RunSettings::published();
        settings.compute.kernels = Backend::Fused;
        let work = RunWorkload { prompts: vec![prompt], vocabulary: 151_665, exact: true, ..RunWorkload::default() };
        let card = Card::by_name(card).unwrap();
        let target = settings.compute.on(Some(0)).unwrap().target(Some(card.usable_bytes()));
        check(&Plan::of(&config, &settings, &work, target).unwrap(), card)
    }

    /// The model agrees with the analysis that its constants come from, operation by operation.
    #[test]
    fn card_model_agrees_with_the_analysis_of_h100_and_h200() {
        let check = |card: &str, pass_ms: f64, few_ms: f64, rollouts_s: f64, update_s: f64| {
            let found = with_plan(card, 150, |plan, card| {
                let model = CardModel { plan, flops: card.tflops * 1e12, bandwidth: card.bandwidth * 1e9 * BANDWIDTH_SHARE };
                let times = plan.times_on(card, 760).unwrap();
                [model.pass(1024.0, 550.0) * 1e3, model.pass(32.0, 1500.0) * 1e3, times.rollouts, model.update(800)]
            });
            for (found, expected) in found.into_iter().zip([pass_ms, few_ms, rollouts_s, update_s]) {
                assert!((found / expected - 1.0).abs() < 0.25, "{card}: {found:.2}, expected about {expected}");
            }
        };
        check("h100", 14.1, 3.3, 16.8, 27.0);
        check("h200", 12.7, 3.3, 14.6, 22.0);
    }

    /// More speed, more memory for sequences and shorter responses never take longer.
    #[test]
    fn times_on_a_card_fall_with_its_speed_and_with_the_length() {
        let run = |card: &str, mean: usize| with_plan(card, 150, |plan, card| plan.times_on(card, mean).unwrap().run);
        assert!(run("h200", 768) < run("h100", 768) && run("h100", 768) < run("a100-80", 768) && run("a100-80", 768) < run("l40s", 768));
        assert!(run("h100", 768) < run("h100", 1536) && run("h100", 1536) < run("h100", 3072));
        let small = with_plan("h100", 150, |plan, _| {
            let model = CardModel { plan, flops: 989e12, bandwidth: 3e12 };
            let load = super::super::memory::rollout_load(plan.settings, plan.work);
            [f64::MAX, 8e9, 2e9].map(|cache| model.generation(&load, 768, cache))
        });
        assert!(small.is_sorted(), "a smaller cache takes longer: {small:?}");
    }

    #[test]
    fn lengths_have_the_requested_mean() {
        for (mean, longest) in [(760.0, 3072.0), (1536.0, 3072.0), (3000.0, 3072.0), (3072.0, 3072.0), (40.0, 80.0)] {
            let lengths = lengths(mean, longest);
            let found = lengths.iter().sum::<f64>() / lengths.len() as f64;
            assert!((found / mean - 1.0).abs() < 1e-6 && lengths.is_sorted() && lengths.iter().all(|length| *length <= longest), "{found}");
        }
    }
}
