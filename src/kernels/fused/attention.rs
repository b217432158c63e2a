//! Launches attention: over a packed batch, its gradient, and of new tokens over the key/value cache.
//!
//! Axes: t = token, q = query head, kv = key/value head, d = head width.

use candle_core::{DType, Result, Tensor, bail};

use super::attention_tiles::{KeyTiles, QueryTiles, TILE};
use super::launch::Argument::{Float, Int, Tensor as At};
use super::launch::Grid;
use super::{Fused, copies};
use crate::kernels::BLOCK;
use crate::kernels::shape::{Heads, LayerCache, Rotation, Segment};

/// Threads per block of the attention kernels.
const ATTENTION_THREADS: usize = 128;

/// Attention over a packed batch. Returns the output `[t, q d]`, and the log-sum-exp of the scores, `[q, t]`.
///
/// # Errors
/// If there is no kernel for this head width, or a launch fails.
pub fn packed(fused: &Fused, qkv: &Tensor, segments: &[Segment], heads: Heads) -> Result<(Tensor, Tensor)> {
    let (tokens, _) = qkv.dims2()?;
    let work = QueryTiles::of(segments);
    let grid = attention_grid(fused, work.tiles.len() / 2, heads.query, heads, 4 * TILE, 0);
    let (segments, tiles) = (fused.u32_tensor(&work.segments)?, fused.u32_tensor(&work.tiles)?);
    let (out, lse) = (fused.empty((tokens, heads.query * heads.width))?, fused.empty_f32((heads.query, tokens))?);
    let kernel = kernel_name(fused, "attend_packed_forward", heads)?;
    let arguments = [
        At(&out),
        At(&lse),
        At(qkv),
        At(&segments),
        At(&tiles),
        Int(tokens),
        Int(heads.query),
        Int(heads.key_value),
        Int(heads.width),
        Float(heads.scale()),
    ];
    fused.launch_exactly(&kernel, grid, &arguments)?;
    Ok((out, lse))
}

/// Returns the gradient of `qkv [t, (q + 2 kv) d]` from `d_out [t, q d]`. Launches one kernel for queries and one for keys and
/// values; if the work on a tile of keys was split, a last kernel adds up the partial gradients.
///
/// # Errors
/// If there is no kernel for this head width, or a launch fails.
pub fn packed_backward(
    fused: &Fused,
    d_out: &Tensor,
    out: &Tensor,
    log_sum_exp: &Tensor,
    qkv: &Tensor,
    segments: &[Segment],
    heads: Heads,
) -> Result<Tensor> {
    let (tokens, row) = qkv.dims2()?;
    let (width, kv_width) = (heads.width, heads.key_value * heads.width);
    let sizes = [Int(tokens), Int(heads.query), Int(heads.key_value), Int(width), Float(heads.scale())];
    let (d_qkv, delta) = (fused.empty((tokens, row))?, fused.empty_f32((heads.query, tokens))?);
    let warps = Grid { blocks: [tokens, heads.query.div_ceil(ATTENTION_THREADS / 32), 1], threads: ATTENTION_THREADS, shared_bytes: 0 };
    let arguments = [At(&delta), At(d_out), At(out), Int(tokens), Int(heads.query), Int(width)];
    fused.launch("attend_packed_delta", warps, &arguments)?;

    let work = QueryTiles::of(segments);
    let grid = attention_grid(fused, work.tiles.len() / 2, heads.query, heads, 4 * TILE, 0);
    let (rows, tiles) = (fused.u32_tensor(&work.segments)?, fused.u32_tensor(&work.tiles)?);
    let arguments = [&[At(&d_qkv), At(d_out), At(qkv), At(log_sum_exp), At(&delta), At(&rows), At(&tiles)], &sizes[..]].concat();
    fused.launch_exactly(&kernel_name(fused, "attend_packed_backward_queries", heads)?, grid, &arguments)?;

    let work = KeyTiles::of(segments);
    let grid = attention_grid(fused, work.items.len() / 5, heads.key_value, heads, 4 * TILE, 1024);
    let (items, query_ranges) = (fused.u32_tensor(&work.items)?, fused.u32_tensor(&work.query_ranges)?);
    let partial = fused.empty_f32((work.slots.max(1), 2, TILE, kv_width))?;
    let tensors = [At(&d_qkv), At(&partial), At(d_out), At(qkv), At(log_sum_exp), At(&delta), At(&items), At(&query_ranges)];
    let arguments = [&tensors, &sizes[..]].concat();
    fused.launch_exactly(&kernel_name(fused, "attend_packed_backward_keys", heads)?, grid, &arguments)?;
    if work.slots > 0 {
        let sums = fused.u32_tensor(&work.sums)?;
        let grid = Grid { blocks: [work.sums.len() / 4, TILE, 1], threads: ATTENTION_THREADS, shared_bytes: 0 };
        let arguments = [At(&d_qkv), At(&partial), At(&sums), Int(heads.query), Int(heads.key_value), Int(width)];
        fused.launch("attend_packed_reduce_prefix", grid, &arguments)?;
    }
    Ok(d_qkv)
}

/// Allocates a layer's cache, filled with zeros: `[blocks, kv, 16, d]` each for keys and values.
///
/// # Errors
/// If the device is out of memory.
pub fn cache(fused: &Fused, blocks: usize, heads: Heads) -> Result<LayerCache> {
    let zeros =
        || fused.empty((blocks, heads.key_value, BLOCK, heads.width)).and_then(|cache| copies::clear(fused, &cache).map(|()| cache));
    Ok(LayerCache { keys: zeros()?, values: zeros()? })
}

/// Writes the keys and values of `qkv [t, (q + 2 kv) d]` to the cache at `slots [t]`.
///
/// # Errors
/// If the launch fails.
pub fn store(fused: &Fused, cache: &LayerCache, qkv: &Tensor, slots: &Tensor, heads: Heads) -> Result<()> {
    let sizes = [Int(heads.query), Int(heads.key_value), Int(heads.width)];
    let arguments = [&[At(&cache.keys), At(&cache.values), At(qkv), At(slots)], &sizes[..]].concat();
    fused.launch("cache_store", Grid::of(qkv.dim(0)?, ATTENTION_THREADS), &arguments)
}

/// Rotates the queries and keys of `qkv [t, (q + 2 kv) d]` in place by the angles of their positions, and writes the rotated keys and the
/// values to the cache at `slots [t]`.
///
/// # Errors
/// If the launch fails.
pub fn rotate_and_store(fused: &Fused, qkv: &Tensor, heads: Heads, rotation: &Rotation, cache: &LayerCache, slots: &Tensor) -> Result<()> {
    let half = heads.width / 2;
    let Rotation { cos, sin, positions } = rotation;
    let tensors = [At(qkv), At(&cache.keys), At(&cache.values), At(cos), At(sin), At(positions.on_device()?), At(slots)];
    let sizes = [Int(heads.query), Int(heads.key_value), Int(half)];
    let grid = Grid::of(qkv.dim(0)?, fused.threads((heads.query + 2 * heads.key_value) * half));
    fused.launch("rotate_and_store", grid, &[&tensors[..], &sizes].concat())
}

/// Copies whole cache blocks, given as pairs `(from, to)`, in any order.
///
/// # Errors
/// If the launch fails.
pub fn copy_blocks(fused: &Fused, cache: &LayerCache, pairs: &[(u32, u32)], heads: Heads) -> Result<()> {
    let flat: Vec<u32> = pairs.iter().flat_map(|(from, to)| [*from, *to]).collect();
    let flat = if flat.is_empty() { return Ok(()) } else { fused.u32_tensor(&flat)? };
    let arguments = [At(&cache.keys), At(&cache.values), At(&flat), Int(heads.key_value * BLOCK * heads.width)];
    fused.launch("cache_copy_blocks", Grid::of(pairs.len(), 256), &arguments)
}

/// Attention of one new token per sequence over the cache, given each sequence's blocks `[n, longest]` and number of tokens `[n]`. Returns
/// `[n, q d]`.
///
/// # Errors
/// If there is no kernel for this head width, or the launch fails.
pub fn cached(fused: &Fused, qkv: &Tensor, cache: &LayerCache, (blocks, counts): (&Tensor, &Tensor), heads: Heads) -> Result<Tensor> {
    let (n, stride) = blocks.dims2()?;
    let out = fused.empty((n, heads.query * heads.width))?;
    let stages = if heads.width > 64 { 3 } else { 4 };
    let grid = attention_grid(fused, heads.key_value, n, heads, 2 * TILE * stages, 2560);
    let tensors = [At(&out), At(qkv), At(&cache.keys), At(&cache.values), At(blocks), At(counts)];
    let sizes = [Int(stride), Int(heads.query), Int(heads.key_value), Int(heads.width), Float(heads.scale())];
    fused.launch_exactly(&kernel_name(fused, "attend_cached", heads)?, grid, &[&tensors[..], &sizes].concat())?;
    Ok(out)
}

/// Returns the name of the kernel for this dtype and head width. Attention kernels support widths 64 and 128 in bf16, and multiples of 4 up
/// to 128 in f32.
fn kernel_name(fused: &Fused, kernel: &str, heads: Heads) -> Result<String> {
    match (fused.dtype, heads.width) {
        (DType::F32, width) if width % 4 == 0 && width <= 128 => Ok(format!("{kernel}_f32")),
        (DType::BF16, width @ (64 | 128)) => Ok(format!("{kernel}_bf16_d{width}")),
        (dtype, width) => {
            bail!("no fused attention kernel supports heads of width {width} in {dtype:?}: use --kernels stock")
        }
    }
}

/// A grid with `items` blocks along x and `along` blocks along y. In bf16, which uses tensor cores, a block has shared memory for `rows` rows
/// of the head width plus `more_bytes` bytes.
fn attention_grid(fused: &Fused, items: usize, along: usize, heads: Heads, rows: usize, more_bytes: usize) -> Grid {
    let shared_bytes = if fused.dtype == DType::BF16 { rows * heads.width * 2 + more_bytes } else { 0 };
    Grid { blocks: [items, along, 1], threads: ATTENTION_THREADS, shared_bytes }
}
