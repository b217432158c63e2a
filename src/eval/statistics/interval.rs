//! Intervals of a mean: Wilson's for one response per problem, clustered for several.

use serde::{Deserialize, Serialize};

/// A mean with its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The point estimate.
    pub mean: f64,
    /// The lower end of the 95% interval.
    pub low: f64,
    /// The upper end of the 95% interval.
    pub high: f64,
}

/// The 97.5% quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Returns a proportion of independent successes with Wilson's score interval. `None` without samples, or if `successes` exceeds `samples`.
///
/// The interval is the set of p with `|p̂ - p| <= z sqrt(p (1 - p) / n)` (Wilson 1927, JASA 22:209). Unlike the textbook interval, it stays
/// within 0..=1 and does not shrink to a point at 0 and 1, where scores on small benchmarks often are. For one response per problem; see
/// [`clustered_mean`] for several.
pub fn wilson(successes: usize, samples: usize) -> Option<Estimate> {
    if samples == 0 || successes > samples {
        return None;
    }
    let n = samples as f64;
    let p = successes as f64 / n;
    let shrink = 1.0 + Z * Z / n;
    let center = (p + Z * Z / (2.0 * n)) / shrink;
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / shrink;
    // At the ends the formula is exactly p, but rounding would miss it slightly.
    Some(Estimate {
        mean: p,
        low: if successes == 0 { 0.0 } else { (center - half).max(0.0) },
        high: if successes == samples { 1.0 } else { (center + half).min(1.0) },
    })
}

/// Returns the unweighted mean of independent fractions, such as the accuracies of several benchmarks. The interval follows from theirs,
/// which are treated as symmetric. `None` without fractions.
pub fn mean_of(estimates: &[Estimate]) -> Option<Estimate> {
    if let [one] = estimates {
        return Some(*one);
    }
    let n = (!estimates.is_empty()).then_some(estimates.len() as f64)?;
    let mean = estimates.iter().map(|estimate| estimate.mean).sum::<f64>() / n;
    let half = estimates.iter().map(|estimate| ((estimate.high - estimate.low) / 2.0).powi(2)).sum::<f64>().sqrt() / n;
    Some(Estimate { mean, low: (mean - half).max(0.0), high: (mean + half).min(1.0) })
}

/// Returns the mean score (avg@k) with a 95% interval clustered by problem. `None` without problems, or if a score is outside 0..=1.
///
/// `scores[i]` is the mean over the samples of problem `i`, so every problem has the same weight. With equal numbers of samples this is the
/// cluster-robust interval `se² = Σ (s_i - s̄)² / (n (n - 1))`, n = problems (Miller 2024, arXiv 2411.00640, section 2.2), with Student's
/// quantile for n - 1 degrees of freedom, which matters for the 30 problems of AIME. If all scores are 0, or all are 1, their variance is
/// uninformative. The result is then Wilson's interval for n single responses, which ignores the additional samples.
pub fn clustered_mean(scores: &[f64]) -> Option<Estimate> {
    if scores.iter().any(|score| !(0.0..=1.0).contains(score)) {
        return None;
    }
    if scores.iter().all(|&score| score == 0.0) {
        return wilson(0, scores.len());
    }
    if scores.iter().all(|&score| score == 1.0) {
        return wilson(scores.len(), scores.len());
    }
    student_interval(scores, 0.0, 1.0)
}

/// Returns the mean of independent values with Student's 95% interval, clipped to `floor..=ceiling`. For a single value the interval is
/// that whole range. `None` without values.
pub fn student_interval(values: &[f64], floor: f64, ceiling: f64) -> Option<Estimate> {
    let n = values.len();
    if n == 0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    if n == 1 {
        return Some(Estimate { mean, low: floor, high: ceiling });
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let standard_error = (squares / (n as f64 * (n - 1) as f64)).sqrt();
    let half = student_quantile(n - 1) * standard_error;
    Some(Estimate { mean, low: (mean - half).max(floor), high: (mean + half).min(ceiling) })
}

/// Returns an estimate with its 95% jackknife interval, clipped to -1..=1. `without[i]` is the same estimate without observation `i`.
///
/// The pseudo-values `n θ - (n - 1) θ_i` are treated as independent observations (Tukey 1958, Annals of Mathematical Statistics 29:614).
/// For a mean, they are the observations themselves.
pub(super) fn jackknife(estimate: f64, without: &[f64]) -> Estimate {
    let n = without.len() as f64;
    let pseudo: Vec<f64> = without.iter().map(|without| n * estimate - (n - 1.0) * without).collect();
    let whole = Estimate { mean: estimate, low: -1.0, high: 1.0 };
    student_interval(&pseudo, f64::NEG_INFINITY, f64::INFINITY).map_or(whole, |interval| {
        let half = (interval.high - interval.low) / 2.0;
        Estimate { mean: estimate, low: (estimate - half).max(-1.0), high: (estimate + half).min(1.0) }
    })
}

/// Returns the 97.5% quantile of Student's t: from a table where the expansion is coarse, otherwise by the Cornish-Fisher expansion in 1/ν
/// (Abramowitz and Stegun 26.7.5), accurate to 2e-4 from ν = 10 on.
fn student_quantile(degrees: usize) -> f64 {
    const TABLE: [f64; 9] = [12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622];
    if let Some(&quantile) = degrees.checked_sub(1).and_then(|row| TABLE.get(row)) {
        return quantile;
    }
    let v = degrees as f64;
    let z = Z;
    z + (z.powi(3) + z) / (4.0 * v)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v * v)
        + (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * v.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(estimate: Option<Estimate>, expected: (f64, f64, f64)) {
        let found = estimate.expect("an estimate");
        for (found, expected) in [(found.mean, expected.0), (found.low, expected.1), (found.high, expected.2)] {
            assert!((found - expected).abs() < 1e-4, "found {found}, expected {expected}");
        }
    }

    #[test]
    fn wilson_by_hand() {
        // n = 10, 8 correct: center (0.8 + 0.19207) / 1.38415 = 0.71674, half 0.22659.
        check(wilson(8, 10), (0.8, 0.49016, 0.94331));
        // Nothing correct: high is z² / (n + z²) = 3.84146 / 13.84146.
        check(wilson(0, 10), (0.0, 0.0, 0.27753));
        check(wilson(10, 10), (1.0, 0.72247, 1.0));
        assert_eq!(wilson(0, 0), None);
        assert_eq!(wilson(3, 2), None);
    }

    #[test]
    fn clustered_mean_clusters_by_problem() {
        // Mean 0.5, squares 0.5, se = sqrt(0.5 / 12) = 0.204124, t(3) = 3.1824: half 0.64961, clipped to the range.
        check(clustered_mean(&[0.0, 0.5, 0.5, 1.0]), (0.5, 0.0, 1.0));
        // Mean 0.5, squares 4 x 0.01 = 0.04, se = sqrt(0.04 / 12) = 0.057735, half 0.18374.
        check(clustered_mean(&[0.4, 0.6, 0.4, 0.6]), (0.5, 0.31626, 0.68374));
        check(clustered_mean(&[0.25]), (0.25, 0.0, 1.0));
        check(clustered_mean(&[1.0; 10]), (1.0, 0.72247, 1.0));
        check(clustered_mean(&[0.0; 10]), (0.0, 0.0, 0.27753));
        assert_eq!(clustered_mean(&[]), None);
        assert_eq!(clustered_mean(&[0.5, f64::NAN]), None);
        assert_eq!(clustered_mean(&[0.5, 1.5]), None);
    }

    #[test]
    fn student_quantile_matches_published_values() {
        for (degrees, expected) in [(1, 12.706), (9, 2.262), (10, 2.228), (29, 2.045), (499, 1.965)] {
            let found = student_quantile(degrees);
            assert!((found - expected).abs() < 6e-4, "ν = {degrees}: {found}");
        }
    }
}
