//! Statistics of several responses to the same problem: pass@k.

use super::interval::{Estimate, clustered_mean};

/// Returns the unbiased estimate of the probability that at least one of `k` samples is correct, given `correct` of `samples`. `None`
/// unless `correct <= samples` and `1 <= k <= samples`.
///
/// `1 - C(n - c, k) / C(n, k)` (Chen et al. 2021, arXiv 2107.03374, equation 1), computed as `1 - Π_{i = n-c+1..n} (1 - k / i)`, the
/// paper's form that avoids overflow. `1 - (1 - c/n)^k` would be biased low.
pub fn pass_at_k(samples: usize, correct: usize, k: usize) -> Option<f64> {
    if correct > samples || k == 0 || k > samples {
        return None;
    }
    // With fewer than k wrong samples, every choice of k contains a correct one (and factors of the product would be negative).
    if samples - correct < k {
        return Some(1.0);
    }
    let none_correct: f64 = (samples - correct + 1..=samples).map(|i| 1.0 - k as f64 / i as f64).product();
    Some(1.0 - none_correct)
}

/// Returns mean pass@k over problems with its clustered interval, for every k: item `k - 1` is pass@k. `correct[i]` is the number of
/// correct responses among the `samples` to problem `i`. Empty without problems, without samples, or if a count exceeds `samples`.
pub fn pass_curve(correct: &[usize], samples: usize) -> Vec<Estimate> {
    let pass_at = |k: usize| {
        let per_problem: Option<Vec<f64>> = correct
            .iter()
            // Rounding may put the result slightly outside the range.
            .map(|&correct| pass_at_k(samples, correct, k).map(|probability| probability.clamp(0.0, 1.0)))
            .collect();
        clustered_mean(&per_problem?)
    };
    (1..=samples).map_while(pass_at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pass_at_k_counts_choices() {
        let check = |n, c, k, expected: f64| {
            let found = pass_at_k(n, c, k).expect("in range");
            assert!((found - expected).abs() < 1e-12, "{n} {c} {k}: {found}");
        };
        check(4, 1, 1, 0.25);
        check(4, 1, 2, 0.5); // 1 - C(3, 2) / C(4, 2) = 1 - 3/6
        check(4, 2, 2, 5.0 / 6.0); // 1 - C(2, 2) / C(4, 2)
        check(4, 2, 3, 1.0);
        check(8, 0, 8, 0.0);
        check(8, 8, 1, 1.0);
        check(10, 3, 5, 11.0 / 12.0); // 1 - C(7, 5) / C(10, 5) = 1 - 21/252
        // The binomials themselves overflow here: C(2000, 1000) has 600 digits.
        let large = pass_at_k(2000, 1, 1000).expect("in range");
        assert!((large - 0.5).abs() < 1e-12);
        for (n, c, k) in [(4, 5, 1), (4, 1, 0), (4, 1, 5), (0, 0, 0)] {
            assert_eq!(pass_at_k(n, c, k), None);
        }
    }

    #[test]
    fn pass_curve_rises_from_the_mean() {
        let curve = pass_curve(&[0, 1, 2, 4], 4);
        assert_eq!(curve.len(), 4);
        assert!((curve[0].mean - 7.0 / 16.0).abs() < 1e-12);
        assert!((curve[3].mean - 0.75).abs() < 1e-12); // at least one of four correct
        assert!(curve.windows(2).all(|pair| pair[0].mean <= pair[1].mean));
        assert!(pass_curve(&[5], 4).is_empty());
        assert!(pass_curve(&[], 4).is_empty());
        assert!(pass_curve(&[0], 0).is_empty());
    }
}
