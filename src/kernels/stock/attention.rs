//! Attention with stock operations. Stores all scores of a segment, as one matrix per head.

use candle_core::{D, DType, Result, Tensor};

use super::{Stock, to_f32};
use crate::kernels::BLOCK;
use crate::kernels::shape::{Heads, LayerCache, Segment};

/// Implements [`Kernels::attend_packed`](crate::kernels::Kernels::attend_packed). The log-sum-exp has shape `[t, q]`.
///
/// # Errors
/// If a stock operation fails.
pub fn packed(stock: &Stock, qkv: &Tensor, segments: &[Segment], heads: Heads) -> Result<(Tensor, Tensor)> {
    let (t, _) = qkv.dims2()?;
    let out = Tensor::zeros((t, heads.query * heads.width), stock.dtype, &stock.device)?;
    let log_sum_exp = Tensor::zeros((t, heads.query), DType::F32, &stock.device)?;
    for segment in segments {
        let [queries, keys, values] = parts(qkv, segment, heads)?;
        let scores = masked_scores(stock, &queries, &keys, segment.prefix.len(), heads.scale())?;
        let lse = scores.log_sum_exp(D::Minus1)?;
        let weights = scores.broadcast_sub(&lse.unsqueeze(2)?)?.exp()?.to_dtype(stock.dtype)?;
        out.slice_set(&by_token(&stock.multiply(&weights, &values)?)?, 0, segment.tokens.start)?;
        log_sum_exp.slice_set(&lse.t()?.contiguous()?, 0, segment.tokens.start)?;
    }
    Ok((out, log_sum_exp))
}

/// Implements [`Kernels::attend_packed_backward`](crate::kernels::Kernels::attend_packed_backward). With p = softmax(scores) and D = d_out . out:
/// d_score = p (d_out . v - D) (Dao et al. 2022, section B.4).
///
/// # Errors
/// If a stock operation fails.
pub fn packed_backward(
    stock: &Stock,
    d_out: &Tensor,
    out: &Tensor,
    log_sum_exp: &Tensor,
    qkv: &Tensor,
    segments: &[Segment],
    heads: Heads,
) -> Result<Tensor> {
    let (d, scale) = (heads.width, f64::from(heads.scale()));
    let d_qkv = Tensor::zeros(qkv.shape(), DType::F32, &stock.device)?;
    // Sums over the query heads that share a key/value head.
    let per_key_head = |x: Tensor| {
        let (_, t, _) = x.dims3()?;
        by_token(&to_f32(&x)?.reshape((heads.key_value, heads.group(), t, d))?.sum(1)?)
    };
    let add_rows = |rows: &Tensor, start: usize| {
        let sum = (d_qkv.narrow(0, start, rows.dim(0)?)? + rows)?;
        d_qkv.slice_set(&sum.contiguous()?, 0, start)
    };
    for segment in segments {
        let (start, own) = (segment.tokens.start, segment.tokens.len());
        let [queries, keys, values] = parts(qkv, segment, heads)?;
        let (d_out, out) = (by_head(&d_out.narrow(0, start, own)?, d, 1)?, by_head(&out.narrow(0, start, own)?, d, 1)?);
        let lse = log_sum_exp.narrow(0, start, own)?.t()?.unsqueeze(2)?;
        let scores = masked_scores(stock, &queries, &keys, segment.prefix.len(), heads.scale())?;
        let weights = scores.broadcast_sub(&lse)?.exp()?;
        let delta = (to_f32(&d_out)? * to_f32(&out)?)?.sum_keepdim(2)?;
        let d_weights = to_f32(&multiply_transposed(stock, &d_out, &values)?)?;
        let d_scores = ((&weights * d_weights.broadcast_sub(&delta)?)? * scale)?.to_dtype(stock.dtype)?;
        let transposed = |x: Tensor| x.transpose(1, 2)?.contiguous();
        let d_queries = to_f32(&by_token(&stock.multiply(&d_scores, &keys)?)?)?;
        let d_keys = per_key_head(stock.multiply(&transposed(d_scores)?, &queries)?)?;
        let d_values = per_key_head(stock.multiply(&transposed(weights.to_dtype(stock.dtype)?)?, &d_out)?)?;
        let before = segment.prefix.len();
        let zeros = Tensor::zeros((before, heads.query * d), DType::F32, &stock.device)?;
        let d_queries = if before == 0 { d_queries } else { Tensor::cat(&[&zeros, &d_queries], 0)? };
        let rows = Tensor::cat(&[&d_queries, &d_keys, &d_values], 1)?;
        if before > 0 {
            add_rows(&rows.narrow(0, 0, before)?, segment.prefix.start)?;
        }
        add_rows(&rows.narrow(0, before, own)?, start)?;
    }
    d_qkv.to_dtype(stock.dtype)
}

/// Implements [`Kernels::attend_cached`](crate::kernels::Kernels::attend_cached), for sequences with these blocks and numbers of tokens.
///
/// # Errors
/// If a stock operation fails.
pub fn cached(stock: &Stock, qkv: &Tensor, cache: &LayerCache, (blocks, counts): (&[&[u32]], &[usize]), heads: Heads) -> Result<Tensor> {
    let rows = blocks.iter().zip(counts).enumerate().map(|(n, (blocks, count))| {
        let slots: Vec<u32> = (0..*count).map(|t| blocks[t / BLOCK] * BLOCK as u32 + (t % BLOCK) as u32).collect();
        let slots = stock.u32_tensor(&slots)?;
        let own = |tensor: &Tensor| by_head(&tensor.index_select(&slots, 0)?, heads.width, heads.group());
        let queries = by_head(&qkv.narrow(0, n, 1)?.narrow(1, 0, heads.query * heads.width)?, heads.width, 1)?;
        let scores = masked_scores(stock, &queries, &own(&cache.keys)?, count - 1, heads.scale())?;
        let weights = scores.broadcast_sub(&scores.log_sum_exp(D::Minus1)?.unsqueeze(2)?)?.exp()?.to_dtype(stock.dtype)?;
        by_token(&stock.multiply(&weights, &own(&cache.values)?)?)
    });
    Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
}

/// Returns scaled scores `[q, own, seen]` in f32, with minus infinity for keys that the causal mask hides.
fn masked_scores(stock: &Stock, queries: &Tensor, keys: &Tensor, prefix: usize, scale: f32) -> Result<Tensor> {
    let (_, own, _) = queries.dims3()?;
    let (_, seen, _) = keys.dims3()?;
    let mask = (0..own * seen).map(|i| if i % seen > prefix + i / seen { f32::NEG_INFINITY } else { 0.0 });
    let mask = Tensor::from_vec(mask.collect(), (own, seen), queries.device())?;
    (to_f32(&multiply_transposed(stock, queries, keys)?)? * f64::from(scale))?.broadcast_add(&mask)
}

/// Returns the product for each head, with the second factor transposed.
fn multiply_transposed(stock: &Stock, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    stock.multiply(a, &b.transpose(1, 2)?.contiguous()?)
}

/// Rearranges `part [t, h d]` to `[h * times, t, d]`, repeating each head `times` times.
fn by_head(part: &Tensor, width: usize, times: usize) -> Result<Tensor> {
    let (t, columns) = part.dims2()?;
    let heads = columns / width;
    let part = part.contiguous()?.reshape((t, heads, width))?.transpose(0, 1)?;
    part.unsqueeze(1)?.broadcast_as((heads, times, t, width))?.contiguous()?.reshape((heads * times, t, width))
}

/// Rearranges `[h, t, d]` to `[t, h d]`.
fn by_token(x: &Tensor) -> Result<Tensor> {
    let (heads, t, width) = x.dims3()?;
    x.transpose(0, 1)?.contiguous()?.reshape((t, heads * width))
}

/// The rows of `x` that a segment attends to: first its prefix, then its own rows.
fn seen(x: &Tensor, segment: &Segment) -> Result<Tensor> {
    let own = x.narrow(0, segment.tokens.start, segment.tokens.len())?;
    match segment.prefix.is_empty() {
        true => Ok(own),
        false => Tensor::cat(&[&x.narrow(0, segment.prefix.start, segment.prefix.len())?, &own], 0),
    }
}

/// Returns the queries `[q, own, d]`, keys and values `[q, seen, d]` of a segment, with keys and values repeated for each query head.
fn parts(qkv: &Tensor, segment: &Segment, heads: Heads) -> Result<[Tensor; 3]> {
    let (d, seen) = (heads.width, seen(qkv, segment)?);
    let queries = qkv.narrow(0, segment.tokens.start, segment.tokens.len())?.narrow(1, 0, heads.query * d)?;
    let keys = seen.narrow(1, heads.key_offset(0), heads.key_value * d)?;
    let values = seen.narrow(1, heads.value_offset(0), heads.key_value * d)?;
    Ok([by_head(&queries, d, 1)?, by_head(&keys, d, heads.group())?, by_head(&values, d, heads.group())?])
}
