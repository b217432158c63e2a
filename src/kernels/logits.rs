//! What is asked of rows of logits, and what they say: scores of given tokens, tokens that are chosen, and the sets that truncated samplers keep.

use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use crate::flow::{Kept, Truncated};

/// The logit of a token that is not kept. Its probability is 0 in f32, and, unlike minus infinity, it times 0 is 0.
pub const MASKED: f32 = -1e30;

/// What a row of logits says of its chosen token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowScores {
    /// Log-probability of the chosen token, nats.
    pub logprobs: Vec<f32>,
    /// Entropy of the distribution, nats.
    pub entropies: Vec<f32>,
    /// Log-sum-exp of the scaled logits.
    pub log_sum_exp: Vec<f32>,
}

/// Which tokens may be drawn. The defaults allow all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// Only the k likeliest; 0 is off.
    pub top_k: usize,
    /// Only the likeliest that together reach this probability; 1 is off.
    pub top_p: f32,
    /// Only those at least this share of the likeliest one's probability; 0 is off.
    pub min_p: f32,
}

impl Default for Filter {
    fn default() -> Self {
        Self { top_k: 0, top_p: 1.0, min_p: 0.0 }
    }
}

impl Filter {
    /// Whether all tokens may be drawn.
    pub fn is_off(&self) -> bool {
        self.top_k == 0 && self.top_p >= 1.0 && self.min_p <= 0.0
    }
}

/// How tokens are chosen from rows of logits.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Logits are divided by it; 0 takes the likeliest token, the first of equals, and scores it at temperature 1.
    pub temperature: f32,
    /// Which tokens may be drawn.
    pub filter: Filter,
    /// A number in [0, 1) for each row; none are read at temperature 0.
    pub uniforms: &'a [f32],
}

/// Tokens that were chosen: here, or on their way from the device.
pub struct Chosen {
    tokens: Option<Tensor>,
    read: Box<ReadChosen>,
}

/// One token for each row of logits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawn {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Their log-probabilities over the whole vocabulary.
    pub logprobs: Vec<f32>,
    /// The tokens that could have been drawn, and the log-probabilities among them; from `choose_kept` only.
    pub truncated: Option<Truncated>,
}

/// Waits for tokens.
type ReadChosen = dyn FnOnce() -> Result<Drawn> + Send;

impl Chosen {
    /// Tokens that the host has.
    pub fn here(drawn: Drawn) -> Self {
        Self { tokens: None, read: Box::new(|| Ok(drawn)) }
    }

    /// Tokens `[n]` that the device has first; `read` waits for them.
    pub fn later(tokens: Tensor, read: impl FnOnce() -> Result<Drawn> + Send + 'static) -> Self {
        Self { tokens: Some(tokens), read: Box::new(read) }
    }

    /// The tokens, where the device has them before the host does: the next pass can begin with them.
    pub fn on_device(&self) -> Option<&Tensor> {
        self.tokens.as_ref()
    }

    /// The tokens with what was recorded of them.
    pub fn read(self) -> Result<Drawn> {
        (self.read)()
    }
}

/// For each of `rows` rows of `width` logits, the tokens below `limit`.
pub fn all_below(limit: usize, (rows, width): (usize, usize)) -> Kept {
    let mut kept = Kept::default();
    let runs: &[[u32; 2]] = if limit < width { &[[0, limit as u32]] } else { &[] };
    (0..rows).for_each(|_| kept.push_runs(runs));
    kept
}

/// Refuses sets that do not go with logits `[t, v]`.
pub fn check_kept(kept: &Kept, (rows, width): (usize, usize)) -> Result<()> {
    if kept.len() != rows {
        bail!("{} sets of kept tokens for {rows} rows of logits", kept.len());
    }
    if kept.vocabulary() > width {
        bail!("token {} is kept, which is beyond the model's vocabulary of {width}", kept.vocabulary() - 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_that_do_not_go_with_the_logits_are_refused() {
        let refused = |kept: &Kept, expected: &str| assert!(check_kept(kept, (2, 5)).unwrap_err().to_string().contains(expected));
        refused(&all_below(3, (1, 5)), "1 sets of kept tokens for 2 rows of logits");
        refused(&all_below(6, (2, 7)), "token 5 is kept, which is beyond the model's vocabulary of 5");
        assert!(check_kept(&all_below(5, (2, 5)), (2, 5)).is_ok());
    }
}
