//! Rotary position embedding (Su et al. 2021) in Hugging Face's half-split form: element i of a head turns with element i + d/2.

use candle_core::{Result, Tensor};
use multiversion::multiversion;

use super::{for_rows, update};

/// Turns the first `heads` heads (queries and keys) of each row of `qkv [t, (heads + value heads) d]` in place; `cos`, `sin [p, d/2]` are
/// looked up at `positions[t]`. `inverse` turns back, which is the gradient.
pub fn rotate(qkv: &Tensor, heads: usize, cos: &Tensor, sin: &Tensor, positions: &[u32], inverse: bool) -> Result<()> {
    let (_, width) = qkv.dims2()?;
    let (limit, half) = cos.dims2()?;
    if let Some(position) = positions.iter().find(|position| **position as usize >= limit) {
        candle_core::bail!("position {position} is beyond the model's window of {limit} tokens");
    }
    let sign = if inverse { -1.0 } else { 1.0 };
    update(qkv, [cos, sin], |qkv, [cos, sin]| {
        for_rows(qkv, width, |first, rows| rotate_rows(rows, width, heads, half, cos, sin, &positions[first..], sign));
    })
}

#[multiversion(targets = "simd")]
#[allow(clippy::too_many_arguments)] // plain sizes of one flat loop
fn rotate_rows(qkv: &mut [f32], width: usize, heads: usize, half: usize, cos: &[f32], sin: &[f32], positions: &[u32], sign: f32) {
    for (row, position) in qkv.chunks_exact_mut(width).zip(positions) {
        let at = *position as usize * half;
        let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
        for head in row[..heads * 2 * half].chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for i in 0..half {
                let (x, y, s) = (first[i], second[i], sin[i] * sign);
                first[i] = x * cos[i] - y * s;
                second[i] = y * cos[i] + x * s;
            }
        }
    }
}
