//! Samples a token from a row of scaled logits with one uniform random number, by inverting the cumulative distribution in token order.

use multiversion::multiversion;

use super::{head, vector};
use crate::kernels::Filter;

/// Returns the most likely token, the first in a tie.
pub fn greedy(row: &[f32]) -> u32 {
    let max = head::largest(row);
    row.iter().position(|z| *z == max).unwrap_or(0) as u32
}

/// Samples from softmax(row) after the filter, with `uniform` in [0, 1).
pub fn sample(row: &[f32], filter: &Filter, uniform: f32) -> u32 {
    let mut weights = vec![0.0; row.len()];
    exponentials(row, &mut weights);
    if !filter.is_off() {
        apply_filter(&mut weights, filter);
    }
    pick(&weights, uniform)
}

/// Like [`sample`], and also returns the sampling mask: the ids of the tokens that pass the filter, ascending.
pub fn sample_with_mask(row: &[f32], filter: &Filter, uniform: f32) -> (u32, Vec<u32>) {
    let mut weights = vec![0.0; row.len()];
    exponentials(row, &mut weights);
    let mask = apply_filter(&mut weights, filter);
    (pick(&weights, uniform), mask)
}

/// Returns the most likely token (the first in a tie) and the sampling mask: the ids of the tokens that pass the filter, ascending.
pub fn greedy_with_mask(row: &[f32], filter: &Filter) -> (u32, Vec<u32>) {
    (greedy(row), sample_with_mask(row, filter, 0.0).1)
}

/// Returns the token at which the running sum of weights exceeds the fraction `uniform` of their total.
fn pick(weights: &[f32], uniform: f32) -> u32 {
    // Sums of blocks come first, to skip whole blocks. All sums are in f64, so that no token's weight is lost.
    let sums: Vec<f64> = weights.chunks(64).map(|block| block.iter().map(|w| f64::from(*w)).sum()).collect();
    let mut left = f64::from(uniform) * sums.iter().sum::<f64>();
    let mut last = 0;
    for (block, sum) in sums.iter().enumerate() {
        if left >= *sum {
            left -= sum;
            continue;
        }
        for (offset, weight) in weights[block * 64..].iter().take(64).enumerate().filter(|(_, w)| **w > 0.0) {
            last = block * 64 + offset;
            if left < f64::from(*weight) {
                return last as u32;
            }
            left -= f64::from(*weight);
        }
        return last as u32;
    }
    // Because of rounding, a remainder is left after the last block: return the last token that may be sampled.
    weights.iter().rposition(|w| *w > 0.0).unwrap_or(last) as u32
}

#[multiversion(targets = "simd")]
fn exponentials(row: &[f32], weights: &mut [f32]) {
    let max = head::largest(row);
    for (weight, z) in weights.iter_mut().zip(row) {
        *weight = vector::exp(z - max);
    }
}

/// Sets the weight of each token that the filter rejects to 0, and returns the ids of the other tokens, ascending. In a tie, the lower id is
/// preferred. Does not sort the whole vocabulary: only the most likely of the tokens that pass min-p and top-k are sorted.
fn apply_filter(weights: &mut [f32], filter: &Filter) -> Vec<u32> {
    let by_weight = |a: &u32, b: &u32| weights[*b as usize].total_cmp(&weights[*a as usize]).then(a.cmp(b));
    // The most likely token has weight exp(0) = 1 and always passes.
    let floor = filter.min_p;
    let mut ids: Vec<u32> = (0..weights.len() as u32).filter(|i| weights[*i as usize] >= floor.min(1.0)).collect();
    if filter.top_k > 0 && filter.top_k < ids.len() {
        ids.select_nth_unstable_by(filter.top_k - 1, by_weight);
        ids.truncate(filter.top_k);
    }
    if filter.top_p < 1.0 {
        let total: f64 = ids.iter().map(|i| f64::from(weights[*i as usize])).sum();
        let count = nucleus(&mut ids, f64::from(filter.top_p) * total, weights, by_weight);
        ids.truncate(count);
    }
    let mut filtered = vec![0.0; weights.len()];
    ids.iter().for_each(|i| filtered[*i as usize] = weights[*i as usize]);
    weights.copy_from_slice(&filtered);
    ids.sort_unstable();
    ids
}

/// Sorts the most likely tokens to the front of `ids` and returns how many of them together reach `target`: at least one.
fn nucleus(ids: &mut [u32], target: f64, weights: &[f32], by_weight: impl Fn(&u32, &u32) -> std::cmp::Ordering) -> usize {
    let (mut sorted, mut reached) = (0, 0.0);
    while sorted < ids.len() {
        let rest = &mut ids[sorted..];
        let next = (sorted * 3).max(64).min(rest.len());
        if next < rest.len() {
            rest.select_nth_unstable_by(next - 1, &by_weight);
        }
        rest[..next].sort_unstable_by(&by_weight);
        for token in &rest[..next] {
            sorted += 1;
            reached += f64::from(weights[*token as usize]);
            if reached >= target {
                return sorted;
            }
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: Filter, expected: &[u32]) {
        let row: Vec<f32> = [0.1f32, 0.4, 0.05, 0.3, 0.15].iter().map(|p| p.ln()).collect();
        let mut found: Vec<u32> = (0..1000).map(|i| sample(&row, &filter, i as f32 / 1000.0)).collect();
        found.dedup();
        assert_eq!(found, expected, "{filter:?}");
    }

    #[test]
    fn sample_returns_only_tokens_that_pass_the_filter() {
        let off = Filter::default();
        check(off, &[0, 1, 2, 3, 4]);
        check(Filter { top_k: 2, ..off }, &[1, 3]);
        check(Filter { top_p: 0.69, ..off }, &[1, 3]);
        check(Filter { top_p: 0.71, ..off }, &[1, 3, 4]);
        check(Filter { min_p: 0.3, ..off }, &[1, 3, 4]);
        check(Filter { top_p: 0.0, ..off }, &[1]);
    }

    /// The filter gives the same result as a full sort, also with many tied tokens.
    #[test]
    fn apply_filter_equals_a_full_sort_on_large_vocabularies() {
        let row: Vec<f32> = (0..3000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as f32 / 40.0).collect();
        let mut weights = vec![0.0; row.len()];
        exponentials(&row, &mut weights);
        for (top_k, top_p, min_p) in [(0, 0.9, 0.0), (7, 1.0, 0.0), (1000, 0.99, 0.01), (0, 0.001, 0.0), (0, 1.0, 0.2), (0, 0.9999, 0.0)] {
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b)));
            order.retain(|i| weights[*i] >= min_p);
            order.truncate(if top_k == 0 { row.len() } else { top_k });
            let total: f64 = order.iter().map(|i| f64::from(weights[*i])).sum();
            let mut reached = 0.0;
            let end = order.iter().position(|i| {
                reached += f64::from(weights[*i]);
                top_p < 1.0 && reached >= f64::from(top_p) * total
            });
            order.truncate(end.map_or(order.len(), |end| end + 1));
            let mut found = weights.clone();
            apply_filter(&mut found, &Filter { top_k, top_p, min_p });
            let mut ids: Vec<usize> = (0..row.len()).filter(|i| found[*i] > 0.0).collect();
            ids.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b)));
            assert_eq!(ids, order, "top_k {top_k}, top_p {top_p}, min_p {min_p}");
        }
    }

    #[test]
    fn sample_frequencies_follow_the_distribution() {
        let row: Vec<f32> = (0..200).map(|i| (i % 7) as f32 * 0.5).collect();
        let total: f32 = row.iter().map(|z| z.exp()).sum();
        let mut counts = vec![0u32; row.len()];
        let n = 1 << 18;
        (0..n).for_each(|i| counts[sample(&row, &Filter::default(), i as f32 / n as f32) as usize] += 1);
        for (count, z) in counts.iter().zip(&row) {
            assert!((*count as f32 / n as f32 - z.exp() / total).abs() < 1e-5);
        }
    }

    #[test]
    fn greedy_returns_the_first_in_a_tie() {
        assert_eq!(greedy(&[0.0, 2.0, 2.0, 1.0]), 1);
    }
}
