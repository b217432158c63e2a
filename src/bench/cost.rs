//! Counts the useful floating-point operations and the minimum memory traffic of each workload from its shapes.
//!
//! Let N be the number of parameters that each token is multiplied by. A token costs 2 N operations in the forward pass and 6 N with the
//! backward pass. For each pair of a token and a token that it attends to, attention adds 4 h d operations per layer in the forward pass
//! (2 each for scores and values) and 12 h d with the backward pass. Recomputing activations (activation checkpointing) does not count. Nor
//! does the prompt, which is computed once for all responses, except in `score`.

use std::ops::Add;

use super::{Bench, Workload};
use crate::kernels::Kernels;
use crate::model::ModelConfig;

/// The minimum cost of a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations of the policy.
    pub useful_flop: f64,
    /// Floating-point operations of the reference model.
    pub reference_flop: f64,
    /// Bytes that must be read and written.
    pub bytes: f64,
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            useful_flop: self.useful_flop + other.useful_flop,
            reference_flop: self.reference_flop + other.reference_flop,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// Responses of given lengths to one prompt, and the model that computes them.
pub struct Responses<'a> {
    /// The model's shape.
    pub config: &'a ModelConfig,
    /// Bytes per weight and per cached key or value.
    pub element_bytes: usize,
    /// Prompt length in tokens.
    pub prompt: usize,
    /// Response lengths in tokens.
    pub lengths: &'a [usize],
}

impl<'a> Responses<'a> {
    /// Responses with `lengths` to a prompt of `prompt` tokens, with weights and cache in the kernels' dtype.
    pub fn new(config: &'a ModelConfig, kernels: &dyn Kernels, prompt: usize, lengths: &'a [usize]) -> Self {
        Self { config, element_bytes: kernels.dtype().size_in_bytes(), prompt, lengths }
    }

    fn tokens(&self) -> f64 {
        self.lengths.iter().sum::<usize>() as f64
    }

    fn forward_flop(&self, tokens: f64, pairs: f64) -> f64 {
        let heads = self.config.heads;
        2.0 * self.config.matmul_parameters() as f64 * tokens + (4 * self.config.layers * heads.query * heads.width) as f64 * pairs
    }

    /// Number of pairs of a response token and a token that it attends to: the prompt's, earlier ones, and itself.
    fn pairs(&self) -> f64 {
        self.lengths.iter().map(|length| (length * self.prompt + length * (length + 1) / 2) as f64).sum()
    }

    fn weight_bytes(&self) -> f64 {
        (self.config.matmul_parameters() * self.element_bytes) as f64
    }

    /// Bytes of one token's cached keys and values in all layers.
    fn cached_token_bytes(&self) -> f64 {
        (2 * self.config.layers * self.config.heads.key_value * self.config.heads.width * self.element_bytes) as f64
    }

    /// Cost of scoring all responses, each after its own copy of the prompt.
    pub fn score(&self) -> Cost {
        let responses = self.lengths.len();
        let tokens = self.tokens() + (responses * self.prompt) as f64;
        let pairs = self.pairs() + (responses * self.prompt * (self.prompt + 1) / 2) as f64;
        Cost { useful_flop: self.forward_flop(tokens, pairs), bytes: self.weight_bytes(), ..Cost::default() }
    }

    /// Cost of sampling with at most `running` sequences at once. Every pass reads the weights, and the keys and values of all running
    /// sequences.
    pub fn rollout(&self, running: usize) -> Cost {
        let passes = self.lengths.iter().max().copied().unwrap_or(0) as f64;
        let passes = passes.max((self.tokens() / running as f64).ceil());
        let bytes = passes * self.weight_bytes() + self.pairs() * self.cached_token_bytes();
        Cost { useful_flop: self.forward_flop(self.tokens(), self.pairs()), bytes, ..Cost::default() }
    }

    /// Cost of the gradient and the optimizer step. AdamW reads and writes the weights and both moments in f32, and reads the gradient. If
    /// the model's dtype is narrower, it also writes the rounded weights.
    pub fn update(&self, with_reference: bool) -> Cost {
        let forward = self.forward_flop(self.tokens(), self.pairs());
        let rounded = if self.element_bytes < size_of::<f32>() { self.element_bytes } else { 0 };
        Cost {
            useful_flop: 3.0 * forward,
            reference_flop: if with_reference { forward } else { 0.0 },
            bytes: (self.config.parameter_count() * (7 * size_of::<f32>() + rounded)) as f64,
        }
    }

    /// Cost of the reference model and the gradient, without the optimizer. The weights are read three times.
    pub fn gradient(&self, with_reference: bool) -> Cost {
        Cost { bytes: 3.0 * self.weight_bytes(), ..self.update(with_reference) }
    }

    /// Cost of `passes` decode passes with one token per sequence. Each sequence starts with the prompt and a response of its length.
    pub fn decode(&self, passes: usize) -> Cost {
        let (sequences, passes) = (self.lengths.len() as f64, passes as f64);
        let context = self.tokens() + sequences * self.prompt as f64;
        // In pass p, each sequence has p tokens after the context.
        let pairs = passes * context + sequences * passes * (passes + 1.0) / 2.0;
        let bytes = passes * self.weight_bytes() + pairs * self.cached_token_bytes();
        Cost { useful_flop: self.forward_flop(sequences * passes, pairs), bytes, ..Cost::default() }
    }
}

impl Bench<'_> {
    /// Number of response tokens that a workload computes.
    pub(super) fn tokens(&self, work: Workload) -> usize {
        match work {
            Workload::Decode(passes) => passes * self.lengths.len(),
            Workload::MicroBatch => self.first_micro_batches().into_iter().map(|index| self.lengths[index]).sum(),
            _ => self.lengths.iter().sum(),
        }
    }

    /// Floating-point operations of the products with parameters, without attention.
    pub(super) fn parameter_flop(&self, work: Workload, tokens: f64) -> f64 {
        let parameters = self.decoder.config.matmul_parameters() as f64;
        // Per parameter and token: 2 for the forward pass, 4 for the backward pass, 2 for the reference model.
        let update = parameters * tokens * if self.settings.loss.kl != 0.0 { 8.0 } else { 6.0 };
        match work {
            // Scoring computes the prompt once per response; a rollout computes it once for all responses.
            Workload::Score => 2.0 * parameters * (tokens + (self.lengths.len() * self.prompt.ids.len()) as f64),
            Workload::Rollout | Workload::Decode(_) => 2.0 * parameters * tokens,
            Workload::Update | Workload::MicroBatch => update,
            Workload::Step => 2.0 * parameters * tokens + update,
        }
    }

    /// Returns the minimum cost of a workload.
    pub(super) fn cost(&self, work: Workload) -> Cost {
        let lengths = match work {
            Workload::MicroBatch => self.first_micro_batches().into_iter().map(|index| self.lengths[index]).collect(),
            _ => self.lengths.clone(),
        };
        let responses = Responses::new(&self.decoder.config, self.decoder.kernels(), self.prompt.ids.len(), &lengths);
        let has_reference = self.settings.loss.kl != 0.0;
        let rollout = || responses.rollout(self.settings.rollout.engine.resolved(&self.decoder.target()).max_running);
        match work {
            Workload::Score => responses.score(),
            Workload::Rollout => rollout(),
            Workload::Update => responses.update(has_reference),
            Workload::Step => rollout() + responses.update(has_reference),
            Workload::MicroBatch => responses.gradient(has_reference),
            Workload::Decode(passes) => responses.decode(passes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::known_models;

    #[test]
    fn responses_cost_of_the_published_step_by_hand() {
        let config = known_models::by_name("qwen2.5-math-1.5b").unwrap().read().unwrap();
        let responses = Responses { config: &config, element_bytes: 2, prompt: 150, lengths: &[800; 1024] };
        let check = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.01, "{found:.4e}, expected {expected:.4e}");
        let rollout = responses.rollout(1024);
        // 819,200 tokens at 3.09 GFLOP, each of which attends to 550.5 tokens on average.
        check(rollout.useful_flop, 819_200.0 * (2.0 * 1.5437e9 + 4.0 * 28.0 * 1536.0 * 550.5));
        check(rollout.bytes, 800.0 * 3.087e9 + 819_200.0 * 550.5 * 28_672.0);
        check(responses.rollout(512).bytes, 1600.0 * 3.087e9 + 819_200.0 * 550.5 * 28_672.0);
        let update = responses.update(true);
        check(update.useful_flop, 3.0 * rollout.useful_flop);
        check(update.reference_flop, rollout.useful_flop);
        check(update.bytes, 30.0 * 1.5437e9);
        check(responses.update(false).reference_flop + 1.0, 1.0);
        let (gradient, decode) = (responses.gradient(true), responses.decode(20));
        assert_eq!((gradient.useful_flop, gradient.reference_flop), (update.useful_flop, update.reference_flop));
        check(gradient.bytes, 3.0 * 3.087e9);
        // 20,480 tokens, each of which attends to a context of 950 tokens and to 10.5 more on average.
        check(decode.useful_flop, 20_480.0 * (2.0 * 1.5437e9 + 4.0 * 28.0 * 1536.0 * 960.5));
        check(decode.bytes, 20.0 * 3.087e9 + 20_480.0 * 960.5 * 28_672.0);
    }
}
