//! Applies sampling masks to rows of logits.

use candle_core::{Result, Tensor};

use super::{for_rows, head, update};
use crate::flow::{MaskedSample, SamplingMask};
use crate::kernels::logits::check_mask;
use crate::kernels::{MASKED, PendingSample, SamplerOutput};

/// Sets the `logits [t, v]` outside each row's sampling mask to [`MASKED`], in place.
///
/// # Errors
/// If the mask does not fit the logits ([`check_mask`]), or `logits` is not a contiguous f32 matrix on the CPU.
pub fn mask_in_place(logits: &Tensor, mask: &SamplingMask) -> Result<()> {
    let (rows, width) = logits.dims2()?;
    check_mask(mask, (rows, width))?;
    if mask.is_whole() {
        return Ok(());
    }
    update(logits, [], |logits, []| {
        for_rows(logits, width, |first, logits| {
            logits.chunks_exact_mut(width).zip(first..).for_each(|(row, index)| mask_row(row, mask.runs(index)));
        });
    })
}

/// Returns sampled `tokens` with their `logprobs`, which are over the whole vocabulary, and adds the log-probabilities among the tokens in each
/// row's sampling mask. Masks the scaled `logits [n, v]` in place.
///
/// # Errors
/// If the mask does not fit the logits, a token is beyond the vocabulary, or `logits` is not a contiguous f32 matrix on the CPU.
pub fn score(logits: &Tensor, tokens: Vec<u32>, logprobs: Vec<f32>, mask: SamplingMask) -> Result<PendingSample> {
    let masked_logprobs = if mask.is_whole() {
        logprobs.clone()
    } else {
        mask_in_place(logits, &mask)?;
        head::forward(logits, &tokens)?.logprobs
    };
    Ok(PendingSample::ready(SamplerOutput { tokens, logprobs, masked: Some(MaskedSample { mask, logprobs: masked_logprobs }) }))
}

fn mask_row(row: &mut [f32], runs: &[[u32; 2]]) {
    if runs.is_empty() {
        return;
    }
    let mut from = 0;
    for [begin, end] in runs {
        row[from..*begin as usize].fill(MASKED);
        from = *end as usize;
    }
    row[from..].fill(MASKED);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::tensor;

    #[test]
    fn mask_in_place_leaves_the_logits_of_tokens_in_the_mask() -> Result<()> {
        let mut mask = SamplingMask::default();
        mask.push([1, 2, 4]);
        mask.push_whole();
        mask.push([0]);
        let logits = tensor((0..15).map(|z| z as f32).collect(), (3, 5))?;
        mask_in_place(&logits, &mask)?;
        let m = MASKED;
        let expected = [[m, 1.0, 2.0, m, 4.0], [5.0, 6.0, 7.0, 8.0, 9.0], [10.0, m, m, m, m]];
        assert_eq!(logits.to_vec2::<f32>()?, expected);
        Ok(())
    }
}
