//! The head's scores: log-probability and entropy from rows of logits, and their gradient.
//!
//! For z = logits / T, p = softmax(z), and a loss L that depends on log p(token) and the entropy H,
//! `dL/dlogits = (1/T) [a (onehot - p) - b p (log p + H)]` with a = dL/dlogp and b = dL/dH.

use candle_core::{Result, Tensor};
use multiversion::multiversion;

use super::{for_rows, for_rows_with_cost, read, update, vector};
use crate::kernels::RowScores;

/// Multiplies `logits [t, v]` by `1 / temperature`, in place.
///
/// # Errors
/// If `logits` is not a contiguous f32 tensor on the CPU.
pub fn scale_in_place(logits: &Tensor, temperature: f32) -> Result<()> {
    if temperature == 1.0 {
        return Ok(());
    }
    let inverse = 1.0 / temperature;
    update(logits, [], |logits, []| for_rows(logits, 1, |_, logits| logits.iter_mut().for_each(|z| *z *= inverse)))
}

/// Returns the scores of the tokens `targets [t]` under scaled `logits [t, v]`.
///
/// # Errors
/// If a target is beyond the vocabulary, or `logits` is not a contiguous f32 matrix on the CPU.
pub fn forward(logits: &Tensor, targets: &[u32]) -> Result<RowScores> {
    let (rows, width) = logits.dims2()?;
    if let Some(target) = targets.iter().find(|target| **target as usize >= width) {
        candle_core::bail!("token {target} is beyond the model's vocabulary of {width}");
    }
    read([logits], |[logits]| {
        let mut scores = vec![0.0; rows * 3];
        for_rows_with_cost(&mut scores, 3, width, |first, scores| forward_rows(&logits[first * width..], width, &targets[first..], scores));
        let column = |column: usize| scores.iter().skip(column).step_by(3).copied().collect();
        RowScores { logprobs: column(0), entropies: column(1), log_sum_exp: column(2) }
    })
}

/// Overwrites scaled `logits [t, v]` with the gradient of the unscaled logits; `d_logprob` and `d_entropy` are a and b in the module's
/// formula.
///
/// # Errors
/// If `logits` is not a contiguous f32 matrix on the CPU.
pub fn backward_in_place(
    logits: &Tensor,
    temperature: f32,
    targets: &[u32],
    scores: &RowScores,
    d_logprob: &[f32],
    d_entropy: &[f32],
) -> Result<()> {
    let (_, width) = logits.dims2()?;
    let rows = Backward { width, inverse: 1.0 / temperature, targets, scores, d_logprob, d_entropy };
    update(logits, [], |logits, []| for_rows(logits, width, |first, logits| backward_rows(logits, first, &rows)))
}

#[multiversion(targets = "simd")]
fn forward_rows(logits: &[f32], width: usize, targets: &[u32], scores: &mut [f32]) {
    for ((row, target), scores) in logits.chunks_exact(width).zip(targets).zip(scores.chunks_exact_mut(3)) {
        let max = largest(row);
        let (total, weighted) = sums(row, max);
        let log_total = total.ln();
        scores.copy_from_slice(&[row[*target as usize] - max - log_total, log_total - weighted / total, max + log_total]);
    }
}

/// Returns the sums of e and of e (z - max) over the row, with e = exp(z - max). One pass computes both, with 16 partial sums each.
#[inline(always)]
fn sums(row: &[f32], max: f32) -> (f32, f32) {
    let (mut total, mut weighted) = ([0.0; vector::LANES], [0.0; vector::LANES]);
    let chunks = row.chunks_exact(vector::LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for l in 0..vector::LANES {
            let shifted = chunk[l] - max;
            let e = vector::exp(shifted);
            total[l] += e;
            weighted[l] = e.mul_add(shifted, weighted[l]);
        }
    }
    for (l, z) in rest.iter().enumerate() {
        let shifted = z - max;
        let e = vector::exp(shifted);
        total[l] += e;
        weighted[l] = e.mul_add(shifted, weighted[l]);
    }
    (vector::sum_lanes(total), vector::sum_lanes(weighted))
}

/// Returns the largest value of a row. Skips NaN values; they make the row's sums NaN.
#[inline(always)]
pub fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; vector::LANES];
    let chunks = row.chunks_exact(vector::LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for l in 0..vector::LANES {
            lanes[l] = if chunk[l] > lanes[l] { chunk[l] } else { lanes[l] };
        }
    }
    for (l, z) in rest.iter().enumerate() {
        lanes[l] = if *z > lanes[l] { *z } else { lanes[l] };
    }
    vector::max_lanes(lanes)
}

/// The inputs of the gradient other than the logits, for all rows.
struct Backward<'a> {
    width: usize,
    inverse: f32,
    targets: &'a [u32],
    scores: &'a RowScores,
    d_logprob: &'a [f32],
    d_entropy: &'a [f32],
}

/// Overwrites rows of logits, the first of which has the number `first`, with their gradient.
#[multiversion(targets = "simd")]
fn backward_rows(logits: &mut [f32], first: usize, rows: &Backward) {
    for (row, i) in logits.chunks_exact_mut(rows.width).zip(first..) {
        let (lse, entropy) = (rows.scores.log_sum_exp[i], rows.scores.entropies[i]);
        let (a, b) = (rows.d_logprob[i] * rows.inverse, rows.d_entropy[i] * rows.inverse);
        for z in row.iter_mut() {
            let log_p = *z - lse;
            *z = -vector::exp(log_p) * b.mul_add(log_p + entropy, a);
        }
        row[rows.targets[i] as usize] += a;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::SamplingMask;
    use crate::kernels::cpu::sampling_mask::mask_in_place;
    use crate::kernels::cpu::testing::{check_gradient, random};

    #[test]
    fn backward_equals_finite_differences() -> Result<()> {
        for (rows, width, temperature) in [(1, 2, 1.0), (3, 17, 0.6), (2, 469, 1.3)] {
            let (logits, targets) = (random((rows, width), 1), vec![1; rows]);
            let (a, b) = (vec![0.7; rows], vec![-0.4; rows]);
            let scaled = |x: &Tensor| -> Result<(Tensor, RowScores)> {
                let x = x.copy()?;
                scale_in_place(&x, temperature)?;
                let scores = forward(&x, &targets)?;
                Ok((x, scores))
            };
            let (gradient, scores) = scaled(&logits)?;
            backward_in_place(&gradient, temperature, &targets, &scores, &a, &b)?;
            check_gradient(&logits, &gradient, |x| {
                let scores = scaled(x)?.1;
                Ok((0..rows).map(|i| f64::from(0.7 * scores.logprobs[i]) - f64::from(0.4 * scores.entropies[i])).sum())
            })?;
        }
        Ok(())
    }

    /// Tokens outside the sampling mask have gradient 0. If a mask has only one token, it is certain, so the whole row has gradient 0.
    #[test]
    fn backward_with_sampling_masks_equals_finite_differences() -> Result<()> {
        let (width, temperature, targets) = (19, 0.7, [4, 0, 18, 5]);
        let mut mask = SamplingMask::default();
        mask.push([2, 3, 4, 9, 17]);
        mask.push([0]);
        mask.push_whole();
        mask.push(5..12);
        let logits = random((4, width), 1);
        let scored = |x: &Tensor| -> Result<(Tensor, RowScores)> {
            let x = x.copy()?;
            mask_in_place(&x, &mask)?;
            scale_in_place(&x, temperature)?;
            let scores = forward(&x, &targets)?;
            Ok((x, scores))
        };
        let (gradient, scores) = scored(&logits)?;
        let (a, b) = ([0.7, 0.5, -0.3, 1.1], [-0.4, 0.2, 0.6, -0.1]);
        backward_in_place(&gradient, temperature, &targets, &scores, &a, &b)?;
        check_gradient(&logits, &gradient, |x| {
            let scores = scored(x)?.1;
            Ok((0..4).map(|i| f64::from(a[i]) * f64::from(scores.logprobs[i]) + f64::from(b[i]) * f64::from(scores.entropies[i])).sum())
        })?;
        let gradient = gradient.to_vec2::<f32>()?;
        for (row, gradient) in gradient.iter().enumerate() {
            assert!((0..width).all(|token| mask.contains(row, token as u32) || gradient[token] == 0.0), "row {row}");
        }
        assert_eq!((scores.logprobs[1], scores.entropies[1]), (0.0, 0.0));
        assert!(gradient[1].iter().all(|g| *g == 0.0));
        Ok(())
    }

    #[test]
    fn forward_on_uniform_logits_returns_the_log_of_the_vocabulary_size() -> Result<()> {
        let scores = forward(&crate::kernels::cpu::tensor(vec![3.0; 40], (2, 20))?, &[0, 19])?;
        assert!((scores.entropies[1] - 20f32.ln()).abs() < 1e-6 && (scores.logprobs[0] + 20f32.ln()).abs() < 1e-6);
        Ok(())
    }
}
