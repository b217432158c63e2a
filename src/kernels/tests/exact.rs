//! Attention in f64 with plain loops, for selected rows. Every backend is compared with it.

use rayon::prelude::*;

use crate::kernels::{Heads, Segment};

/// Returns the output of attention for `rows`, `[rows, q d]`.
pub fn attend(qkv: &[f64], segments: &[Segment], heads: Heads, rows: &[usize]) -> Vec<f64> {
    let (row, d) = (heads.row(), heads.width);
    let one = |token: &usize| {
        let mut out = vec![0.0; heads.query * d];
        for (head, out) in out.chunks_mut(d).enumerate() {
            let (_, value) = key_and_value(heads, head);
            let seen: Vec<usize> = seen(segment_of(segments, *token), *token).collect();
            let (weights, _) = softmax(qkv, heads, head, *token, &seen);
            seen.iter().zip(weights).for_each(|(j, weight)| add(out, weight, &qkv[j * row + value..][..d]));
        }
        out
    };
    rows.par_iter().flat_map_iter(one).collect()
}

/// Returns the gradient of `qkv` at `rows`, `[rows, (q + 2 kv) d]`.
///
/// The gradients of a key and its value are sums over all queries that attend to it. The softmax of every query is therefore needed for any
/// selection of rows, as two numbers per query.
pub fn attend_backward(qkv: &[f64], d_out: &[f64], segments: &[Segment], heads: Heads, rows: &[usize]) -> Vec<f64> {
    let (row, d, scale) = (heads.row(), heads.width, (heads.width as f64).powf(-0.5));
    let queries = queries(qkv, d_out, segments, heads);
    // The attention weight of a query for a key, and the derivative with respect to their score.
    let pair = |token: usize, head: usize, j: usize| {
        let (key, value) = key_and_value(heads, head);
        let [log_sum_exp, delta] = queries[token * heads.query + head];
        let weight = (dot(&qkv[token * row + head * d..][..d], &qkv[j * row + key..][..d]) * scale - log_sum_exp).exp();
        let d_weight = dot(&d_out[(token * heads.query + head) * d..][..d], &qkv[j * row + value..][..d]);
        (weight, weight * (d_weight - delta) * scale)
    };
    let one = |own_row: &usize| {
        let mut gradient = vec![0.0; row];
        let own = segment_of(segments, *own_row);
        let continued = segments.iter().filter(|segment| segment.prefix.contains(own_row)).flat_map(|segment| segment.tokens.clone());
        let attending: Vec<usize> = (*own_row..own.tokens.end).chain(continued).collect();
        for head in 0..heads.query {
            let (key, value) = key_and_value(heads, head);
            for j in seen(own, *own_row) {
                let (_, d_score) = pair(*own_row, head, j);
                add(&mut gradient[head * d..][..d], d_score, &qkv[j * row + key..][..d]);
            }
            for token in &attending {
                let (weight, d_score) = pair(*token, head, *own_row);
                add(&mut gradient[key..][..d], d_score, &qkv[token * row + head * d..][..d]);
                add(&mut gradient[value..][..d], weight, &d_out[(token * heads.query + head) * d..][..d]);
            }
        }
        gradient
    };
    rows.par_iter().flat_map_iter(one).collect()
}

/// Returns two numbers for every query, `[t, q]`: the log-sum-exp of its scores, and the dot product of its output with the output's gradient.
fn queries(qkv: &[f64], d_out: &[f64], segments: &[Segment], heads: Heads) -> Vec<[f64; 2]> {
    let (row, d) = (heads.row(), heads.width);
    let tokens: usize = segments.iter().map(|segment| segment.tokens.len()).sum();
    let one = |token: usize| {
        let seen: Vec<usize> = seen(segment_of(segments, token), token).collect();
        let query = move |head: usize| {
            let (_, value) = key_and_value(heads, head);
            let (weights, log_sum_exp) = softmax(qkv, heads, head, token, &seen);
            let d_out = &d_out[(token * heads.query + head) * d..][..d];
            [log_sum_exp, seen.iter().zip(weights).map(|(j, weight)| weight * dot(d_out, &qkv[j * row + value..][..d])).sum()]
        };
        (0..heads.query).map(query).collect::<Vec<_>>()
    };
    (0..tokens).into_par_iter().flat_map_iter(one).collect()
}

/// Returns the attention weights of a query for the rows that it attends to, and the log-sum-exp of its scores.
fn softmax(qkv: &[f64], heads: Heads, head: usize, token: usize, seen: &[usize]) -> (Vec<f64>, f64) {
    let (row, d, scale) = (heads.row(), heads.width, (heads.width as f64).powf(-0.5));
    let (key, _) = key_and_value(heads, head);
    let query = &qkv[token * row + head * d..][..d];
    let scores: Vec<f64> = seen.iter().map(|j| dot(query, &qkv[j * row + key..][..d]) * scale).collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum_exp = max + scores.iter().map(|score| (score - max).exp()).sum::<f64>().ln();
    (scores.into_iter().map(|score| (score - log_sum_exp).exp()).collect(), log_sum_exp)
}

/// Returns the offsets of a query head's key and value in a row.
fn key_and_value(heads: Heads, head: usize) -> (usize, usize) {
    (heads.key_offset(head / heads.group()), heads.value_offset(head / heads.group()))
}

/// Returns the segment of a token. Segments are in the order of their rows.
fn segment_of(segments: &[Segment], token: usize) -> &Segment {
    &segments[segments.partition_point(|segment| segment.tokens.end <= token)]
}

/// Returns the rows that a query attends to.
fn seen(segment: &Segment, token: usize) -> impl Iterator<Item = usize> {
    segment.prefix.clone().chain(segment.tokens.start..token + 1)
}

/// Uses independent partial sums, which the compiler vectorizes, because the tests spend most of their time here.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    a.zip(b).for_each(|(a, b)| (0..8).for_each(|i| sums[i] += a[i] * b[i]));
    sums.iter().sum::<f64>() + rest
}

fn add(target: &mut [f64], factor: f64, row: &[f64]) {
    target.iter_mut().zip(row).for_each(|(target, value)| *target += factor * value);
}

/// Checks this file's gradient by finite differences of its own forward pass.
#[test]
fn attend_backward_equals_finite_differences() {
    let heads = Heads { query: 2, key_value: 1, width: 4 };
    let segments = [
        Segment { tokens: 0..3, prefix: 0..0 },
        Segment { tokens: 3..5, prefix: 0..3 },
        Segment { tokens: 5..6, prefix: 0..3 },
        Segment { tokens: 6..8, prefix: 0..0 },
    ];
    let (rows, values) =
        ((0..8).collect::<Vec<_>>(), |count: usize| (0..count).map(|i| ((i * i * 7 + 3) as f64).sin()).collect::<Vec<_>>());
    let (qkv, d_out) = (values(8 * heads.row()), values(8 * heads.query * heads.width));
    let loss = |qkv: &[f64]| dot(&attend(qkv, &segments, heads, &rows), &d_out);
    let gradient = attend_backward(&qkv, &d_out, &segments, heads, &rows);
    for (i, found) in gradient.iter().enumerate() {
        let moved = |by: f64| loss(&qkv.iter().enumerate().map(|(j, x)| if i == j { x + by } else { *x }).collect::<Vec<_>>());
        let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((found - expected).abs() < 1e-8, "element {i}: {found}, by differences {expected}");
    }
    // Some rows of the gradient equal the same rows of the full gradient.
    let some = attend_backward(&qkv, &d_out, &segments, heads, &[1, 5]);
    assert_eq!(some, [&gradient[heads.row()..][..heads.row()], &gradient[5 * heads.row()..][..heads.row()]].concat());
    assert_eq!(attend(&qkv, &segments, heads, &[4]), attend(&qkv, &segments, heads, &rows)[4 * 8..][..8]);
}
