//! The choice of a token from a row of scaled logits by one uniform number: inverse of the cumulative distribution, in token order.

use multiversion::multiversion;
use serde::{Deserialize, Serialize};

use super::{head, vector};

/// Which tokens may be drawn. The defaults allow all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// Only the k likeliest; 0 is off.
    pub top_k: usize,
    /// Only the likeliest that together reach this probability; 1 is off.
    pub top_p: f32,
    /// Only those at least this share of the likeliest one's probability; 0 is off.
    pub min_p: f32,
}

impl Default for Filter {
    fn default() -> Self {
        Self { top_k: 0, top_p: 1.0, min_p: 0.0 }
    }
}

impl Filter {
    fn is_off(&self) -> bool {
        self.top_k == 0 && self.top_p >= 1.0 && self.min_p <= 0.0
    }
}

/// The likeliest token, the first of equals.
pub fn greedy(row: &[f32]) -> u32 {
    let max = head::largest(row);
    row.iter().position(|z| *z == max).unwrap_or(0) as u32
}

/// Draws from softmax(row) by `uniform` in [0, 1), after the filter.
pub fn draw(row: &[f32], filter: &Filter, uniform: f32) -> u32 {
    let mut weights = vec![0.0; row.len()];
    exponentials(row, &mut weights);
    if !filter.is_off() {
        apply(&mut weights, filter);
    }
    // Block sums first, so that the walk is short; totals in f64, so that no token's share is lost.
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
    // Rounding used up the whole range: the last token that may be drawn.
    weights.iter().rposition(|w| *w > 0.0).unwrap_or(last) as u32
}

#[multiversion(targets = "simd")]
fn exponentials(row: &[f32], weights: &mut [f32]) {
    let max = head::largest(row);
    for (weight, z) in weights.iter_mut().zip(row) {
        *weight = vector::exp(z - max);
    }
}

/// Sets the weight of every token that the filter refuses to 0. Ties are broken towards the lower token id.
fn apply(weights: &mut [f32], filter: &Filter) {
    let mut order: Vec<u32> = (0..weights.len() as u32).collect();
    order.sort_unstable_by(|a, b| weights[*b as usize].total_cmp(&weights[*a as usize]).then(a.cmp(b)));
    let mut keep = if filter.top_k == 0 { order.len() } else { filter.top_k.min(order.len()) };
    let floor = filter.min_p * weights[order[0] as usize];
    keep = order[..keep].iter().position(|i| weights[*i as usize] < floor).unwrap_or(keep);
    if filter.top_p < 1.0 {
        let total: f64 = order[..keep].iter().map(|i| f64::from(weights[*i as usize])).sum();
        let mut reached = 0.0;
        keep = order[..keep]
            .iter()
            .position(|i| {
                reached += f64::from(weights[*i as usize]);
                reached >= f64::from(filter.top_p) * total
            })
            .map_or(keep, |i| i + 1);
    }
    order[keep.max(1)..].iter().for_each(|i| weights[*i as usize] = 0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: Filter, expected: &[u32]) {
        let row: Vec<f32> = [0.1f32, 0.4, 0.05, 0.3, 0.15].iter().map(|p| p.ln()).collect();
        let mut found: Vec<u32> = (0..1000).map(|i| draw(&row, &filter, i as f32 / 1000.0)).collect();
        found.dedup();
        assert_eq!(found, expected, "{filter:?}");
    }

    #[test]
    fn filters_keep_what_they_say() {
        let off = Filter::default();
        check(off, &[0, 1, 2, 3, 4]);
        check(Filter { top_k: 2, ..off }, &[1, 3]);
        check(Filter { top_p: 0.69, ..off }, &[1, 3]);
        check(Filter { top_p: 0.71, ..off }, &[1, 3, 4]);
        check(Filter { min_p: 0.3, ..off }, &[1, 3, 4]);
        check(Filter { top_p: 0.0, ..off }, &[1]);
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let row: Vec<f32> = (0..200).map(|i| (i % 7) as f32 * 0.5).collect();
        let total: f32 = row.iter().map(|z| z.exp()).sum();
        let mut counts = vec![0u32; row.len()];
        let n = 1 << 18;
        (0..n).for_each(|i| counts[draw(&row, &Filter::default(), i as f32 / n as f32) as usize] += 1);
        for (count, z) in counts.iter().zip(&row) {
            assert!((*count as f32 / n as f32 - z.exp() / total).abs() < 1e-5);
        }
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(greedy(&[0.0, 2.0, 2.0, 1.0]), 1);
    }
}
