//! Sampling masks on rows of logits: the tokens that a truncated sampler could have sampled.

use candle_core::{Result, Tensor};

use super::{for_rows, head, update};
use crate::flow::{MaskedSample, SamplingMask};
use crate::kernels::logits::check_mask;
use crate::kernels::{MASKED, PendingSample, SamplerOutput};

/// Sets the `logits [t, v]` outside each row's sampling mask to [`MASKED`], in place.
///
/// # Errors
/// If the masks do not fit the logits ([`check_mask`]), or `logits` is not a contiguous f32 matrix on the CPU.
pub fn mask_in_place(logits: &Tensor, kept: &SamplingMask) -> Result<()> {
    let (rows, width) = logits.dims2()?;
    check_mask(kept, (rows, width))?;
    if kept.is_whole() {
        return Ok(());
    }
    update(logits, [], |logits, []| {
        for_rows(logits, width, |first, logits| {
            logits.chunks_exact_mut(width).zip(first..).for_each(|(row, index)| mask_row(row, kept.runs(index)));
        });
    })
}

/// Scores `tokens` under scaled logits, among the tokens of each row's sampling mask; `logprobs` are those over the whole vocabulary.
/// Overwrites the logits.
///
/// # Errors
/// If the masks do not fit the logits, a token is beyond the vocabulary, or `logits` is not a contiguous f32 matrix on the CPU.
pub fn score(logits: &Tensor, tokens: Vec<u32>, logprobs: Vec<f32>, kept: SamplingMask) -> Result<PendingSample> {
    let among_kept = if kept.is_whole() {
        logprobs.clone()
    } else {
        mask_in_place(logits, &kept)?;
        head::forward(logits, &tokens)?.logprobs
    };
    Ok(PendingSample::ready(SamplerOutput { tokens, logprobs, truncated: Some(MaskedSample { kept, logprobs: among_kept }) }))
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
    fn mask_in_place_leaves_kept_logits() -> Result<()> {
        let mut kept = SamplingMask::default();
        kept.push([1, 2, 4]);
        kept.push_whole();
        kept.push([0]);
        let logits = tensor((0..15).map(|z| z as f32).collect(), (3, 5))?;
        mask_in_place(&logits, &kept)?;
        let m = MASKED;
        let expected = [[m, 1.0, 2.0, m, 4.0], [5.0, 6.0, 7.0, 8.0, 9.0], [10.0, m, m, m, m]];
        assert_eq!(logits.to_vec2::<f32>()?, expected);
        Ok(())
    }
}
