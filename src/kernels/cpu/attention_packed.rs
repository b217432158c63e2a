//! Causal attention over packed sequences, optionally with a shared prefix, for training, scoring and prefill.
//!
//! Nothing of size `[t, t]` is stored: the backward pass recomputes each row's weights from the stored log-sum-exp (Dao et al. 2022).

use std::ops::Range;

use candle_core::{Result, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;

use super::attention::{self, BLOCK};
use super::{read, tensor, vector};
use crate::kernels::shape::{Heads, Segment};

/// Returns `(output [t, q d], log_sum_exp [kv, t, q / kv])` from the rotated `qkv [t, (q + 2 kv) d]`.
///
/// # Errors
/// If `qkv` is not a contiguous f32 matrix on the CPU.
pub fn forward(qkv: &Tensor, segments: &[Segment], heads: Heads) -> Result<(Tensor, Tensor)> {
    let (tokens, _) = qkv.dims2()?;
    let (d, group) = (heads.width, heads.group());
    let (out, log_sum_exp) = read([qkv], |[qkv]| {
        let tasks = tasks(segments, heads, true);
        let computed = compute(&tasks, |task| {
            let rows = task.rows() * task.queries.len();
            let (mut out, mut lse) = (vec![0.0; rows * d], vec![0.0; rows]);
            forward_task(qkv, task, heads, &mut out, &mut lse);
            (out, lse)
        });
        let (mut out, mut lse) = (vec![0.0; tokens * heads.query * d], vec![0.0; tokens * heads.query]);
        for (task, (own_out, own_lse)) in tasks.iter().zip(&computed) {
            let (count, first) = (task.queries.len(), task.queries.start);
            for ((token, own_out), own_lse) in task.tokens().zip(own_out.chunks_exact(count * d)).zip(own_lse.chunks_exact(count)) {
                out[(token * heads.query + task.head * group + first) * d..][..count * d].copy_from_slice(own_out);
                lse[(task.head * tokens + token) * group + first..][..count].copy_from_slice(own_lse);
            }
        }
        (out, lse)
    })?;
    Ok((tensor(out, (tokens, heads.query * d))?, tensor(log_sum_exp, (heads.key_value, tokens, group))?))
}

/// Returns the gradient of `qkv [t, (q + 2 kv) d]` from `d_out [t, q d]`. The gradients of the keys and values of a shared prefix are summed
/// over all segments that continue it.
///
/// # Errors
/// If a tensor is not a contiguous f32 tensor on the CPU, or `qkv` is not a matrix.
pub fn backward(d_out: &Tensor, out: &Tensor, log_sum_exp: &Tensor, qkv: &Tensor, segments: &[Segment], heads: Heads) -> Result<Tensor> {
    let (tokens, row) = qkv.dims2()?;
    let (d, queries) = (heads.width, heads.group() * heads.width);
    let values = read([d_out, out, log_sum_exp, qkv], |[d_out, out, lse, qkv]| {
        let tasks = tasks(segments, heads, false);
        let computed = compute(&tasks, |task| {
            let lse = &lse[task.head * tokens * heads.group()..][..tokens * heads.group()];
            let mut gradient = TaskGradient::new(task, heads);
            backward_task(d_out, out, lse, qkv, task, heads, &mut gradient);
            gradient
        });
        let mut dqkv = vec![0.0; tokens * row];
        for (task, gradient) in tasks.iter().zip(&computed) {
            for (token, own) in task.tokens().zip(gradient.queries.chunks_exact(queries)) {
                dqkv[token * row + task.head * queries..][..queries].copy_from_slice(own);
            }
            // Added in the order of the segments, whichever thread computed them, to fix the order of the sums over a shared prefix.
            let (keys, values) = (heads.key_offset(task.head), heads.value_offset(task.head));
            for ((index, d_key), d_value) in
                task.segments.iter().flat_map(rows_of).zip(gradient.keys.chunks_exact(d)).zip(gradient.values.chunks_exact(d))
            {
                for (start, gradient) in [(keys, d_key), (values, d_value)] {
                    dqkv[index * row + start..][..d].iter_mut().zip(gradient).for_each(|(sum, part)| *sum += part);
                }
            }
        }
        dqkv
    })?;
    tensor(values, (tokens, row))
}

/// The work of one thread: some segments, one key/value head, and some of the query heads that it serves.
struct Task<'a> {
    segments: &'a [Segment],
    head: usize,
    queries: Range<usize>,
}

impl Task<'_> {
    fn tokens(&self) -> impl Iterator<Item = usize> + '_ {
        self.segments.iter().flat_map(|segment| segment.tokens.clone())
    }

    fn rows(&self) -> usize {
        self.segments.iter().map(|segment| segment.tokens.len()).sum()
    }
}

/// Splits the work: on a single thread into one task per key/value head, otherwise into one per segment and key/value head, or per query head
/// if `split_queries`. The split does not change any bit, because each row is computed alone and sums over segments run in their order.
fn tasks(segments: &[Segment], heads: Heads, split_queries: bool) -> Vec<Task<'_>> {
    let all = 0..heads.group();
    if rayon::current_num_threads() == 1 {
        return (0..heads.key_value).map(|head| Task { segments, head, queries: all.clone() }).collect();
    }
    let mut tasks = Vec::new();
    for segments in segments.chunks(1) {
        for head in 0..heads.key_value {
            if split_queries {
                tasks.extend(all.clone().map(|query| Task { segments, head, queries: query..query + 1 }));
            } else {
                tasks.push(Task { segments, head, queries: all.clone() });
            }
        }
    }
    tasks
}

fn compute<T: Send>(tasks: &[Task], compute: impl Fn(&Task) -> T + Send + Sync) -> Vec<T> {
    if rayon::current_num_threads() == 1 {
        return tasks.iter().map(compute).collect();
    }
    tasks.par_iter().map(compute).collect()
}

/// The gradients that a task computes: of the queries of its tokens, and of the keys and values of each segment's prefix and tokens, in this
/// order.
struct TaskGradient {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl TaskGradient {
    fn new(task: &Task, heads: Heads) -> Self {
        let seen: usize = task.segments.iter().map(|segment| segment.prefix.len() + segment.tokens.len()).sum();
        let kv = vec![0.0; seen * heads.width];
        Self { queries: vec![0.0; task.rows() * heads.group() * heads.width], keys: kv.clone(), values: kv }
    }
}

/// Collects the given rows of one head, transposed, in blocks `[d, 16]`. The last block is padded with zeros.
#[inline(always)]
fn transpose(qkv: &[f32], row: usize, offset: usize, width: usize, rows: impl Iterator<Item = usize>, blocks: &mut Vec<f32>) {
    blocks.clear();
    for (position, index) in rows.enumerate() {
        if position % BLOCK == 0 {
            blocks.resize(blocks.len() + BLOCK * width, 0.0);
        }
        let block = &mut blocks[position / BLOCK * BLOCK * width..];
        for (i, value) in qkv[index * row + offset..][..width].iter().enumerate() {
            block[i * BLOCK + position % BLOCK] = *value;
        }
    }
}

/// Collects the given rows of one head in blocks `[16, d]`. The last block is padded with zeros.
#[inline(always)]
fn collect(qkv: &[f32], row: usize, offset: usize, width: usize, rows: impl Iterator<Item = usize>, out: &mut Vec<f32>) {
    out.clear();
    rows.for_each(|index| out.extend_from_slice(&qkv[index * row + offset..][..width]));
    out.resize(out.len().next_multiple_of(BLOCK * width), 0.0);
}

/// The rows that a segment attends to: first its prefix, then its own tokens.
fn rows_of(segment: &Segment) -> impl Iterator<Item = usize> + use<> {
    segment.prefix.clone().chain(segment.tokens.clone())
}

#[multiversion(targets = "simd")]
fn forward_task(qkv: &[f32], task: &Task, heads: Heads, out: &mut [f32], lse: &mut [f32]) {
    let (row, d, group, block) = (heads.row(), heads.width, heads.group(), BLOCK * heads.width);
    let (mut keys, mut values, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = out.chunks_exact_mut(d).zip(lse);
    for segment in task.segments {
        transpose(qkv, row, heads.key_offset(task.head), d, rows_of(segment), &mut keys);
        collect(qkv, row, heads.value_offset(task.head), d, rows_of(segment), &mut values);
        weights.resize((segment.prefix.len() + segment.tokens.len()).next_multiple_of(BLOCK), 0.0);
        for (offset, token) in segment.tokens.clone().enumerate() {
            let count = segment.prefix.len() + offset + 1;
            for (i, (out, lse)) in task.queries.clone().zip(&mut rows) {
                let q = &qkv[token * row + (task.head * group + i) * d..][..d];
                *lse = attention::attend_row(
                    q,
                    count,
                    heads.scale(),
                    |b| &keys[b * block..][..block],
                    |b| &values[b * block..][..block],
                    &mut weights,
                    out,
                );
            }
        }
    }
}

/// With p = softmax(scores) and D = d_out . out: d_score = p (d_out . v - D) (Dao et al. 2022, section B.4).
#[multiversion(targets = "simd")]
#[allow(clippy::too_many_arguments)] // slices of one flat loop
fn backward_task(d_out: &[f32], out: &[f32], lse: &[f32], qkv: &[f32], task: &Task, heads: Heads, gradient: &mut TaskGradient) {
    let (row, d, group, block, scale, g) = (heads.row(), heads.width, heads.group(), BLOCK * heads.width, heads.scale(), task.head);
    let (mut keys, mut key_rows, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let (mut weights, mut d_scores) = (Vec::new(), Vec::new());
    let (mut d_queries, mut seen) = (gradient.queries.chunks_exact_mut(d), 0);
    for segment in task.segments {
        let length = segment.prefix.len() + segment.tokens.len();
        transpose(qkv, row, heads.key_offset(g), d, rows_of(segment), &mut keys);
        collect(qkv, row, heads.key_offset(g), d, rows_of(segment), &mut key_rows);
        transpose(qkv, row, heads.value_offset(g), d, rows_of(segment), &mut values);
        weights.resize(length.next_multiple_of(BLOCK), 0.0f32);
        d_scores.resize(length.next_multiple_of(BLOCK), 0.0f32);
        let d_keys = &mut gradient.keys[seen * d..][..length * d];
        let d_values = &mut gradient.values[seen * d..][..length * d];
        seen += length;
        for (offset, token) in segment.tokens.clone().enumerate() {
            let count = segment.prefix.len() + offset + 1;
            for (i, dq) in (0..group).zip(&mut d_queries) {
                let column = (token * heads.query + g * group + i) * d;
                let (q, d_out) = (&qkv[token * row + (g * group + i) * d..][..d], &d_out[column..][..d]);
                let (delta, lse) = (vector::dot(d_out, &out[column..][..d]), lse[token * group + i]);
                attention::scores(q, count, scale, |b| &keys[b * block..][..block], &mut weights);
                for (b, (weights, d_scores)) in weights.chunks_exact_mut(BLOCK).zip(d_scores.chunks_exact_mut(BLOCK)).enumerate() {
                    if b * BLOCK >= count {
                        break;
                    }
                    let d_weights = attention::block_products(d_out, &values[b * block..][..block]);
                    for l in 0..BLOCK {
                        weights[l] = vector::exp(weights[l] - lse);
                        d_scores[l] = weights[l] * (d_weights[l] - delta) * scale;
                    }
                }
                for j in 0..count {
                    vector::add_scaled(dq, d_scores[j], &key_rows[j * d..][..d]);
                    vector::add_scaled(&mut d_keys[j * d..][..d], d_scores[j], q);
                    vector::add_scaled(&mut d_values[j * d..][..d], weights[j], d_out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::testing::{check_gradient, random, total};
    use candle_core::{D, Device};

    /// Attention of one whole sequence with candle's stock operations.
    fn stock(qkv: &Tensor, heads: Heads) -> Result<Tensor> {
        let (t, d) = (qkv.dim(0)?, heads.width);
        let part = |start: usize, count: usize| qkv.narrow(1, start * d, count * d)?.reshape((t, count, d))?.transpose(0, 1)?.contiguous();
        let repeat = |x: Tensor| {
            let (h, t, d) = x.dims3()?;
            x.unsqueeze(1)?.broadcast_as((h, heads.group(), t, d))?.reshape((h * heads.group(), t, d))
        };
        let (q, k, v) = (part(0, heads.query)?, part(heads.query, heads.key_value)?, part(heads.query + heads.key_value, heads.key_value)?);
        let scores = (q.matmul(&repeat(k)?.t()?)? * f64::from(heads.scale()))?;
        let mask: Vec<f32> = (0..t * t).map(|i| if i % t > i / t { f32::NEG_INFINITY } else { 0.0 }).collect();
        let scores = scores.broadcast_add(&Tensor::from_vec(mask, (t, t), &Device::Cpu)?)?;
        let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
        weights.matmul(&repeat(v)?)?.transpose(0, 1)?.reshape((t, heads.query * d))
    }

    const SHAPES: [Heads; 4] = [
        Heads { query: 4, key_value: 2, width: 16 },
        Heads { query: 1, key_value: 1, width: 4 },
        Heads { query: 6, key_value: 1, width: 64 },
        Heads { query: 2, key_value: 2, width: 20 },
    ];

    #[test]
    fn forward_equals_stock_attention() -> Result<()> {
        for heads in SHAPES {
            let lengths = [1, 15, 16, 17, 64, 65];
            let tokens: usize = lengths.iter().sum();
            let qkv = random((tokens, heads.row()), 7);
            let mut segments = Vec::new();
            lengths.iter().fold(0, |start, length| {
                segments.push(Segment { tokens: start..start + length, prefix: 0..0 });
                start + length
            });
            let (out, _) = forward(&qkv, &segments, heads)?;
            for segment in &segments {
                let (start, length) = (segment.tokens.start, segment.tokens.len());
                let expected = stock(&qkv.narrow(0, start, length)?, heads)?;
                let difference = (out.narrow(0, start, length)? - expected)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
                assert!(difference < 2e-6, "{heads:?}, length {length}: {difference}");
            }
        }
        Ok(())
    }

    #[test]
    fn forward_with_a_shared_prefix_is_bit_identical_and_backward_sums_gradients() -> Result<()> {
        let heads = SHAPES[0];
        let (prefix, own) = (19, [3, 14, 1]);
        let shared = random((prefix + 18, heads.row()), 3);
        let mut segments = vec![Segment { tokens: 0..prefix, prefix: 0..0 }];
        let (mut rows, mut whole, mut at) = (Vec::new(), Vec::new(), prefix);
        for length in own {
            segments.push(Segment { tokens: at..at + length, prefix: 0..prefix });
            whole.push(Segment { tokens: rows.len()..rows.len() + prefix + length, prefix: 0..0 });
            rows.extend((0..prefix).chain(at..at + length).map(|i| i as u32));
            at += length;
        }
        let unshared = crate::kernels::cpu::rows::gather(&shared, &rows)?;
        let (out, lse) = forward(&shared, &segments, heads)?;
        let (expected, expected_lse) = forward(&unshared, &whole, heads)?;
        let expected_rows = crate::kernels::cpu::rows::gather(&out, &rows)?;
        assert_eq!(expected.flatten_all()?.to_vec1::<f32>()?, expected_rows.flatten_all()?.to_vec1::<f32>()?);

        // Each shared row receives the gradients of all its copies; the prefix's own outputs count in each copy.
        let d_rows = random((rows.len(), heads.query * heads.width), 4);
        let d_shared = out.zeros_like()?;
        crate::kernels::cpu::rows::scatter_add_into(&d_shared, &rows, &d_rows)?;
        let found = backward(&d_shared, &out, &lse, &shared, &segments, heads)?;
        let each = backward(&d_rows, &expected, &expected_lse, &unshared, &whole, heads)?;
        let summed = shared.zeros_like()?;
        crate::kernels::cpu::rows::scatter_add_into(&summed, &rows, &each)?;
        let difference = (found - summed)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
        assert!(difference < 1e-5, "{difference}");
        Ok(())
    }

    /// The split into tasks depends on the number of threads; the bits do not.
    #[test]
    fn forward_and_backward_are_bit_identical_with_any_number_of_threads() -> Result<()> {
        let heads = Heads { query: 6, key_value: 2, width: 16 };
        let segments =
            [Segment { tokens: 0..21, prefix: 0..0 }, Segment { tokens: 21..40, prefix: 0..21 }, Segment { tokens: 40..77, prefix: 0..21 }];
        let (qkv, d_out) = (random((77, heads.row()), 5), random((77, heads.query * heads.width), 6));
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
            pool.install(|| -> Result<Vec<Vec<f32>>> {
                let (out, lse) = forward(&qkv, &segments, heads)?;
                let gradient = backward(&d_out, &out, &lse, &qkv, &segments, heads)?;
                [out, lse, gradient].iter().map(|tensor| tensor.flatten_all()?.to_vec1()).collect()
            })
        };
        assert!(on(1)? == on(3)?);
        Ok(())
    }

    #[test]
    fn backward_equals_finite_differences() -> Result<()> {
        for heads in SHAPES {
            let segments =
                [Segment { tokens: 0..5, prefix: 0..0 }, Segment { tokens: 5..7, prefix: 0..5 }, Segment { tokens: 7..24, prefix: 0..0 }];
            let (qkv, d_out) = (random((24, heads.row()), 5), random((24, heads.query * heads.width), 6));
            let (out, lse) = forward(&qkv, &segments, heads)?;
            let gradient = backward(&d_out, &out, &lse, &qkv, &segments, heads)?;
            check_gradient(&qkv, &gradient, |qkv| total(&(forward(qkv, &segments, heads)?.0 * &d_out)?))?;
        }
        Ok(())
    }
}
