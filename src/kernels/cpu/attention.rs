//! Attention of one query row over its keys. Prefill, decoding and training share this arithmetic, so their results are bit-identical.
//!
//! A block has the keys of 16 positions, transposed, `[d, 16]`, or their values, `[16, d]`. Blocks start at the sequence's first token, so
//! absolute positions alone determine the order of every sum.

use super::vector::{self, LANES};
pub use crate::kernels::shape::BLOCK;

const _: () = assert!(BLOCK == LANES, "a block of keys must fill one vector");

/// Returns the dot products of `x [d]` with the 16 columns of a block `[d, 16]`: four chains of sums, added pairwise.
#[inline(always)]
pub fn block_products(x: &[f32], block: &[f32]) -> [f32; LANES] {
    let mut chains = [[0.0f32; LANES]; 4];
    let whole = x.len() - x.len() % 4;
    for i in (0..whole).step_by(4) {
        for (c, chain) in chains.iter_mut().enumerate() {
            let row = &block[(i + c) * LANES..][..LANES];
            for l in 0..LANES {
                chain[l] = row[l].mul_add(x[i + c], chain[l]);
            }
        }
    }
    for i in whole..x.len() {
        let row = &block[i * LANES..][..LANES];
        for l in 0..LANES {
            chains[i - whole][l] = row[l].mul_add(x[i], chains[i - whole][l]);
        }
    }
    let mut sums = [0.0; LANES];
    for l in 0..LANES {
        sums[l] = (chains[0][l] + chains[1][l]) + (chains[2][l] + chains[3][l]);
    }
    sums
}

/// Writes the scores of `q [d]` for the first `count` keys to `scores`, block by block. The last block is padded with minus infinity. `keys(b)`
/// returns block b.
#[inline(always)]
pub fn scores<'a>(q: &[f32], count: usize, scale: f32, keys: impl Fn(usize) -> &'a [f32], scores: &mut [f32]) {
    for (index, scores) in scores[..count.next_multiple_of(BLOCK)].chunks_exact_mut(BLOCK).enumerate() {
        let products = block_products(q, keys(index));
        let left = count - index * BLOCK;
        for l in 0..BLOCK {
            scores[l] = if l < left { products[l] * scale } else { f32::NEG_INFINITY };
        }
    }
}

/// Attention of `q [d]` over the first `count >= 1` positions: writes `out [d]` and returns the log-sum-exp of the scores. `keys(b)` and
/// `values(b)` return block b. `weights` is scratch memory for at least `count` elements, rounded up to whole blocks.
#[inline(always)]
pub fn attend_row<'a>(
    q: &[f32],
    count: usize,
    scale: f32,
    keys: impl Fn(usize) -> &'a [f32],
    values: impl Fn(usize) -> &'a [f32],
    weights: &mut [f32],
    out: &mut [f32],
) -> f32 {
    let weights = &mut weights[..count.next_multiple_of(BLOCK)];
    scores(q, count, scale, keys, weights);
    let (mut max, mut sum) = ([f32::NEG_INFINITY; LANES], [0.0; LANES]);
    for block in weights.chunks_exact(BLOCK) {
        for l in 0..BLOCK {
            max[l] = if block[l] > max[l] { block[l] } else { max[l] };
        }
    }
    let max = vector::max_lanes(max);
    for block in weights.chunks_exact_mut(BLOCK) {
        for l in 0..BLOCK {
            block[l] = vector::exp(block[l] - max);
            sum[l] += block[l];
        }
    }
    let total = vector::sum_lanes(sum);
    weighted_rows(weights, count, out.len(), values, out);
    let inverse = 1.0 / total;
    out.iter_mut().for_each(|o| *o *= inverse);
    max + total.ln()
}

/// `out [d] = sum over j < count of weights[j] row[j]`. `rows(b)` returns the rows of block b, `[16, d]`.
#[inline(always)]
fn weighted_rows<'a>(weights: &[f32], count: usize, width: usize, rows: impl Fn(usize) -> &'a [f32], out: &mut [f32]) {
    let whole = width - width % LANES;
    for start in (0..whole).step_by(LANES) {
        let mut chains = [[0.0f32; LANES]; 4];
        for (index, weights) in weights.chunks_exact(BLOCK).enumerate() {
            let block = rows(index);
            let left = (count - index * BLOCK).min(BLOCK);
            for (j, weight) in weights[..left].iter().enumerate() {
                let (row, chain) = (&block[j * width + start..][..LANES], &mut chains[j % 4]);
                for l in 0..LANES {
                    chain[l] = row[l].mul_add(*weight, chain[l]);
                }
            }
        }
        for l in 0..LANES {
            out[start + l] = (chains[0][l] + chains[1][l]) + (chains[2][l] + chains[3][l]);
        }
    }
    out[whole..].fill(0.0);
    for (j, weight) in weights[..count].iter().enumerate().filter(|_| whole < width) {
        let row = &rows(j / BLOCK)[j % BLOCK * width..][..width];
        vector::add_scaled(&mut out[whole..], *weight, &row[whole..]);
    }
}
