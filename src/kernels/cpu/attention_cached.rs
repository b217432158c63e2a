//! Attention of one new token per sequence over the paged key/value cache, for decoding.
//!
//! The cache of a layer has two tensors: keys `[blocks, kv, d, 16]`, transposed as `attention` requires, and values `[blocks, kv, 16, d]`.
//! A sequence is a list of block numbers; the scheduler decides which sequence owns a block.

use candle_core::{Result, Tensor};
use multiversion::multiversion;

use super::attention::{self, BLOCK};
use super::{for_rows_with_cost, read, tensor, update};
use crate::kernels::shape::{Heads, LayerCache};

/// Allocates a cache of `blocks` blocks for one layer, filled with zeros.
///
/// # Errors
/// Never: the sizes always match.
pub fn cache(blocks: usize, heads: Heads) -> Result<LayerCache> {
    let zeros = |shape| tensor(vec![0.0; blocks * heads.key_value * heads.width * BLOCK], shape);
    Ok(LayerCache {
        keys: zeros((blocks, heads.key_value, heads.width, BLOCK))?,
        values: zeros((blocks, heads.key_value, BLOCK, heads.width))?,
    })
}

/// Writes the keys and values of `qkv [t, (q + 2 kv) d]` to the cache at `slots [t]` (block number * 16 + offset in the block).
///
/// # Errors
/// If a tensor is not a contiguous f32 tensor on the CPU.
///
/// # Panics
/// If a slot is beyond the cache.
pub fn store(cache: &LayerCache, qkv: &Tensor, slots: &[u32], heads: Heads) -> Result<()> {
    let d = heads.width;
    let position = |slot: u32, g: usize| ((slot as usize / BLOCK * heads.key_value + g) * d * BLOCK, slot as usize % BLOCK);
    update(&cache.keys, [qkv], |keys, [qkv]| {
        for (row, slot) in qkv.chunks_exact(heads.row()).zip(slots) {
            for g in 0..heads.key_value {
                let (start, offset) = position(*slot, g);
                for (i, key) in row[heads.key_offset(g)..][..d].iter().enumerate() {
                    keys[start + i * BLOCK + offset] = *key;
                }
            }
        }
    })?;
    update(&cache.values, [qkv], |values, [qkv]| {
        for (row, slot) in qkv.chunks_exact(heads.row()).zip(slots) {
            for g in 0..heads.key_value {
                let (start, offset) = position(*slot, g);
                values[start + offset * d..][..d].copy_from_slice(&row[heads.value_offset(g)..][..d]);
            }
        }
    })
}

/// Copies whole blocks, given as pairs `(from, to)`, in order.
///
/// # Errors
/// If a tensor of the cache is not a contiguous f32 tensor on the CPU.
///
/// # Panics
/// If a block is beyond the cache.
pub fn copy_blocks(cache: &LayerCache, pairs: &[(u32, u32)], heads: Heads) -> Result<()> {
    let size = heads.key_value * heads.width * BLOCK;
    for tensor in [&cache.keys, &cache.values] {
        update(tensor, [], |values, []| {
            for (from, to) in pairs {
                values.copy_within(*from as usize * size..(*from as usize + 1) * size, *to as usize * size);
            }
        })?;
    }
    Ok(())
}

/// Attention for `qkv [n, (q + 2 kv) d]`, one row per sequence, whose keys and values must already be in the cache. `tables[i]` lists the
/// blocks of sequence i, and `counts[i]` is its number of tokens, including the new one. Returns `[n, q d]`.
///
/// # Errors
/// If a tensor is not a contiguous f32 tensor on the CPU.
///
/// # Panics
/// If a table has too few blocks for its number of tokens, or a block beyond the cache.
pub fn forward(qkv: &Tensor, cache: &LayerCache, tables: &[&[u32]], counts: &[usize], heads: Heads) -> Result<Tensor> {
    let (unit, longest) = (heads.group() * heads.width, counts.iter().copied().max().unwrap_or(0));
    let values = read([qkv, &cache.keys, &cache.values], |[qkv, keys, values]| {
        let mut out = vec![0.0; tables.len() * heads.query * heads.width];
        // A unit is a sequence and a key/value head, whose keys are read once for all query heads that share them.
        for_rows_with_cost(&mut out, unit, unit * longest, |first, out| {
            forward_units(qkv, keys, values, tables, counts, heads, first, out)
        });
        out
    })?;
    tensor(values, (tables.len(), heads.query * heads.width))
}

#[multiversion(targets = "simd")]
#[allow(clippy::too_many_arguments)] // slices of one flat loop
fn forward_units(
    qkv: &[f32],
    keys: &[f32],
    values: &[f32],
    tables: &[&[u32]],
    counts: &[usize],
    heads: Heads,
    first: usize,
    out: &mut [f32],
) {
    let (d, group, block) = (heads.width, heads.group(), heads.width * BLOCK);
    let mut weights = Vec::new();
    for (out, unit) in out.chunks_exact_mut(group * d).zip(first..) {
        let (n, g) = (unit / heads.key_value, unit % heads.key_value);
        let at = |b: usize| (tables[n][b] as usize * heads.key_value + g) * block;
        weights.resize(counts[n].next_multiple_of(BLOCK), 0.0);
        for (out, head) in out.chunks_exact_mut(d).zip(g * group..) {
            attention::attend_row(
                &qkv[n * heads.row() + head * d..][..d],
                counts[n],
                heads.scale(),
                |b| &keys[at(b)..][..block],
                |b| &values[at(b)..][..block],
                &mut weights,
                out,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::attention_packed;
    use crate::kernels::cpu::testing::random;
    use crate::kernels::shape::Segment;

    /// Decoding token by token with scattered blocks is bit-identical to attention over the packed sequence.
    #[test]
    fn forward_is_bit_identical_to_packed_attention() -> Result<()> {
        for heads in [Heads { query: 4, key_value: 2, width: 16 }, Heads { query: 3, key_value: 1, width: 12 }] {
            let length = 40;
            let qkv = random((length, heads.row()), 1);
            let (expected, _) = attention_packed::forward(&qkv, &[Segment { tokens: 0..length, prefix: 0..0 }], heads)?;
            let cache = cache(6, heads)?;
            let table = [4, 1, 5];
            for t in 0..length {
                let row = qkv.narrow(0, t, 1)?.contiguous()?;
                store(&cache, &row, &[table[t / BLOCK] * BLOCK as u32 + (t % BLOCK) as u32], heads)?;
                let found = forward(&row, &cache, &[&table], &[t + 1], heads)?;
                assert_eq!(found.flatten_all()?.to_vec1::<f32>()?, expected.get(t)?.to_vec1::<f32>()?, "token {t}");
            }
        }
        Ok(())
    }
}
