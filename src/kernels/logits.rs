//! Types for operations on rows of logits: scores of given tokens, sampled tokens, and the sampling masks of top-k, top-p and min-p.

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
    /// Log-sum-exp of each row's logits, divided by the temperature.
    pub log_sum_exp: Vec<f32>,
}

/// The tokens that may be sampled. The defaults allow all. The filters apply in the order min-p, top-k, top-p.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// Keeps only the k most likely tokens; 0 turns the filter off.
    pub top_k: usize,
    /// Keeps the most likely tokens whose probabilities together reach this value, at least one; 1 turns the filter off.
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
    /// The tokens that may be sampled.
    pub filter: Filter,
    /// A uniform number in [0, 1) for each row; not read at temperature 0.
    pub uniforms: &'a [f32],
}

/// Sampled tokens, either on the host or still on their way from the device.
pub struct PendingSample {
    tokens: Option<Tensor>,
    read: Box<ReadChosen>,
}

/// One sampled token for each row of logits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplerOutput {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Their log-probabilities over the whole vocabulary, nats.
    pub logprobs: Vec<f32>,
    /// The sampling masks, and the log-probabilities among the tokens in them; `None` unless sampled by `sample_with_mask`.
    pub truncated: Option<MaskedSample>,
}

/// Waits for the tokens and returns them.
type ReadChosen = dyn FnOnce() -> Result<SamplerOutput> + Send;

impl PendingSample {
    /// Wraps tokens that are already on the host.
    pub fn ready(drawn: SamplerOutput) -> Self {
        Self { tokens: None, read: Box::new(|| Ok(drawn)) }
    }

    /// Wraps tokens `[n]` that are on the device; `read` waits for them and copies them to the host.
    pub fn pending(tokens: Tensor, read: impl FnOnce() -> Result<SamplerOutput> + Send + 'static) -> Self {
        Self { tokens: Some(tokens), read: Box::new(read) }
    }

    /// The tokens `[n]` on the device, with which the next pass can start before the host has read them; `None` if they are only on the
    /// host.
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

/// Returns the sampling mask of the tokens below `limit`, for each of `rows` rows of `width` logits.
pub fn all_below(limit: usize, (rows, width): (usize, usize)) -> SamplingMask {
    let mut kept = SamplingMask::default();
    let runs: &[[u32; 2]] = if limit < width { &[[0, limit as u32]] } else { &[] };
    (0..rows).for_each(|_| kept.push_runs(runs));
    kept
}

/// Checks that sampling masks fit logits `[t, v]`.
///
/// # Errors
/// If the number of masks differs from the number of rows, or a mask has a token beyond the vocabulary.
pub fn check_mask(kept: &SamplingMask, (rows, width): (usize, usize)) -> Result<()> {
    if kept.len() != rows {
        bail!("found {} sampling masks for {rows} rows of logits", kept.len());
    }
    if kept.vocabulary() > width {
        bail!("a sampling mask has token {}, which is beyond the model's vocabulary of {width}", kept.vocabulary() - 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_kept_rejects_masks_that_do_not_fit_the_logits() {
        let refused = |kept: &SamplingMask, expected: &str| assert!(check_mask(kept, (2, 5)).unwrap_err().to_string().contains(expected));
        refused(&all_below(3, (1, 5)), "found 1 sampling masks for 2 rows of logits");
        refused(&all_below(6, (2, 7)), "a sampling mask has token 5, which is beyond the model's vocabulary of 5");
        assert!(check_mask(&all_below(5, (2, 5)), (2, 5)).is_ok());
    }
}
