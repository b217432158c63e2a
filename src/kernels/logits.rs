//! The types of operations on rows of logits: scores of given tokens, parameters and results of sampling, and sampling masks.

use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use crate::flow::{MaskedSample, SamplingMask};

/// The logit of a token outside the sampling mask. Its probability is 0 in f32, and, unlike minus infinity, it stays finite when multiplied
/// by 0.
pub const MASKED: f32 = -1e30;

/// The scores of one token per row of logits, in row order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowScores {
    /// Log-probabilities of the given tokens, nats.
    pub logprobs: Vec<f32>,
    /// Entropies of the rows' distributions, nats.
    pub entropies: Vec<f32>,
    /// Log-sum-exp of each row's logits after division by the temperature.
    pub log_sum_exp: Vec<f32>,
}

/// Which tokens may be sampled; by default all. The filters apply in the order min-p, top-k, top-p.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// Keeps only the k most likely tokens; 0 turns the filter off.
    pub top_k: usize,
    /// Keeps the smallest number of most likely tokens, at least one, whose probabilities reach this fraction of the total of all tokens that
    /// passed the other filters; 1 turns the filter off.
    pub top_p: f32,
    /// Keeps tokens with at least this fraction of the most likely token's probability; 0 turns the filter off.
    pub min_p: f32,
}

impl Default for Filter {
    fn default() -> Self {
        Self { top_k: 0, top_p: 1.0, min_p: 0.0 }
    }
}

impl Filter {
    /// Returns true if all tokens may be sampled.
    pub fn is_off(&self) -> bool {
        self.top_k == 0 && self.top_p >= 1.0 && self.min_p <= 0.0
    }
}

/// How to sample tokens from rows of logits.
#[derive(Clone, Copy, Debug)]
pub struct SamplingParams<'a> {
    /// Divides the logits. At 0 the most likely token is chosen (the first, in a tie) and scored at temperature 1.
    pub temperature: f32,
    /// Which tokens may be sampled.
    pub filter: Filter,
    /// A uniform random number in [0, 1) for each row; not read at temperature 0.
    pub uniforms: &'a [f32],
}

/// Sampled tokens that may not have reached the host yet.
pub struct PendingSample {
    tokens: Option<Tensor>,
    read: Box<ReadSample>,
}

/// One sampled token for each row of logits, in row order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplerOutput {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Their log-probabilities over the whole vocabulary, nats.
    pub logprobs: Vec<f32>,
    /// The sampling mask, and the log-probability of each token among the tokens in its row's mask; `None` unless sampled by
    /// `sample_with_mask`.
    pub masked: Option<MaskedSample>,
}

/// Waits for the tokens and returns them.
type ReadSample = dyn FnOnce() -> Result<SamplerOutput> + Send;

impl PendingSample {
    /// Wraps tokens that are already on the host.
    pub fn ready(output: SamplerOutput) -> Self {
        Self { tokens: None, read: Box::new(|| Ok(output)) }
    }

    /// Wraps tokens `[n]` that are on the device; `read` waits for them and copies them to the host.
    pub fn pending(tokens: Tensor, read: impl FnOnce() -> Result<SamplerOutput> + Send + 'static) -> Self {
        Self { tokens: Some(tokens), read: Box::new(read) }
    }

    /// The tokens `[n]` on the device, so that the next pass can start before the host has read them; `None` if they are only on the host.
    pub fn on_device(&self) -> Option<&Tensor> {
        self.tokens.as_ref()
    }

    /// Waits for the tokens and returns them with their log-probabilities.
    ///
    /// # Errors
    /// If the device fails, even in work that was started earlier.
    pub fn read(self) -> Result<SamplerOutput> {
        (self.read)()
    }
}

/// Returns the sampling mask for `rows` rows of `width` logits in which all tokens below `limit` may be sampled.
pub fn all_below(limit: usize, (rows, width): (usize, usize)) -> SamplingMask {
    let mut mask = SamplingMask::default();
    let runs: &[[u32; 2]] = if limit < width { &[[0, limit as u32]] } else { &[] };
    (0..rows).for_each(|_| mask.push_runs(runs));
    mask
}

/// Checks that a sampling mask fits logits `[t, v]`.
///
/// # Errors
/// If the mask has another number of rows, or a token beyond the vocabulary.
pub fn check_mask(mask: &SamplingMask, (rows, width): (usize, usize)) -> Result<()> {
    if mask.len() != rows {
        bail!("the sampling mask and the logits must have as many rows, found {} and {rows}", mask.len());
    }
    if mask.vocabulary() > width {
        bail!("the sampling mask has token {}, which is beyond the model's vocabulary of {width}", mask.vocabulary() - 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_mask_rejects_masks_that_do_not_fit_the_logits() {
        let refused = |mask: &SamplingMask, expected: &str| assert!(check_mask(mask, (2, 5)).unwrap_err().to_string().contains(expected));
        refused(&all_below(3, (1, 5)), "must have as many rows, found 1 and 2");
        refused(&all_below(6, (2, 7)), "the sampling mask has token 5, which is beyond the model's vocabulary of 5");
        assert!(check_mask(&all_below(5, (2, 5)), (2, 5)).is_ok());
    }
}
