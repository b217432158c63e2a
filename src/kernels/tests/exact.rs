//! Attention in f64 with plain loops: what every version is held to.

use rayon::prelude::*;

use crate::kernels::{Heads, Segment};

/// What attention gives, and the gradient of what it was given.
pub struct Attended {
    /// `[t, q d]`
    pub out: Vec<f64>,
    /// `[t, (q + 2 kv) d]`
    pub d_qkv: Vec<f64>,
}

/// Attention and its gradient, query by query; heads side by side.
pub fn attend(qkv: &[f64], d_out: &[f64], segments: &[Segment], heads: Heads) -> Attended {
    let zeros = || Attended { out: vec![0.0; d_out.len()], d_qkv: vec![0.0; qkv.len()] };
    let one = |mut sums: Attended, head| {
        attend_head(qkv, d_out, segments, heads, head, &mut sums);
        sums
    };
    let add = |mut a: Attended, b: Attended| {
        a.out.iter_mut().zip(b.out).for_each(|(a, b)| *a += b);
        a.d_qkv.iter_mut().zip(b.d_qkv).for_each(|(a, b)| *a += b);
        a
    };
    (0..heads.query).into_par_iter().fold(zeros, one).reduce(zeros, add)
}

fn attend_head(qkv: &[f64], d_out: &[f64], segments: &[Segment], heads: Heads, head: usize, sums: &mut Attended) {
    let (row, d, scale) = (heads.row(), heads.width, (heads.width as f64).powf(-0.5));
    let Attended { out, d_qkv } = sums;
    let (key, value) = (heads.key_offset(head / heads.group()), heads.value_offset(head / heads.group()));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for segment in segments {
        for token in segment.tokens.clone() {
            let seen: Vec<usize> = segment.prefix.clone().chain(segment.tokens.start..token + 1).collect();
            let q = &qkv[token * row + head * d..][..d];
            let scores: Vec<f64> = seen.iter().map(|j| dot(q, &qkv[j * row + key..][..d]) * scale).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp() / total).collect();
            let at = (token * heads.query + head) * d;
            for (j, weight) in seen.iter().zip(&weights) {
                (0..d).for_each(|i| out[at + i] += weight * qkv[j * row + value + i]);
            }
            let delta = dot(&d_out[at..][..d], &out[at..][..d]);
            for (j, weight) in seen.iter().zip(&weights) {
                let d_score = weight * (dot(&d_out[at..][..d], &qkv[j * row + value..][..d]) - delta) * scale;
                for i in 0..d {
                    d_qkv[token * row + head * d + i] += d_score * qkv[j * row + key + i];
                    d_qkv[j * row + key + i] += d_score * q[i];
                    d_qkv[j * row + value + i] += weight * d_out[at + i];
                }
            }
        }
    }
}
