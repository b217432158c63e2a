//! Compares two evaluations problem by problem. Most of the variance of a benchmark comes from differences in difficulty, which pairing
//! removes.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::interval::{Estimate, student_interval, wilson};

/// Differences below this count as ties: means of the same samples in a different order differ by rounding.
const TIE: f64 = 1e-9;

/// The comparison of evaluation B with evaluation A on the same problems.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The number of problems.
    pub problems: usize,
    /// The mean of B minus the mean of A, with its 95% interval over problems.
    pub difference: Estimate,
    /// The number of problems on which B scores higher.
    pub won: usize,
    /// The number of problems on which B scores lower.
    pub lost: usize,
    /// The two-sided p-value of [`sign_test`] on `won` and `lost`.
    pub p_value: f64,
}

/// Compares B with A. `a[i]` and `b[i]` are the scores of the same problem.
///
/// The difference is the mean of paired differences with Student's interval (Miller 2024, arXiv 2411.00640, section 4.2). If all
/// differences are equal, their variance is uninformative, and the interval extends on both sides by the upper end of Wilson's interval for
/// 0 of n.
///
/// # Errors
/// If `a` and `b` have different lengths or are empty, or a score is not finite.
pub fn compare(a: &[f64], b: &[f64]) -> Result<Comparison> {
    ensure!(
        a.len() == b.len(),
        "a paired comparison needs the same problems: the first evaluation has {}, the second {}",
        a.len(),
        b.len()
    );
    ensure!(a.iter().chain(b).all(|score| score.is_finite()), "a paired comparison needs a finite score for every problem");
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
    let Some(difference) = mean_difference(&differences) else {
        anyhow::bail!("a paired comparison needs at least one problem: both evaluations are empty");
    };
    let won = differences.iter().filter(|&&d| d > TIE).count();
    let lost = differences.iter().filter(|&&d| d < -TIE).count();
    Ok(Comparison { problems: a.len(), difference, won, lost, p_value: sign_test(won, lost) })
}

/// Returns the mean of paired differences with the interval that [`compare`] describes. `None` without differences.
fn mean_difference(differences: &[f64]) -> Option<Estimate> {
    let estimate = student_interval(differences, -1.0, 1.0)?;
    let are_equal = differences.iter().all(|difference| (difference - differences[0]).abs() < TIE);
    let margin = wilson(0, differences.len()).filter(|_| are_equal && differences.len() > 1).map_or(0.0, |none| none.high);
    Some(Estimate { low: (estimate.low - margin).max(-1.0), high: (estimate.high + margin).min(1.0), ..estimate })
}

/// Returns the p-value of the exact two-sided sign test: the probability of a split at least this uneven if each decided problem is won or
/// lost with probability 1/2. For scores of 0 and 1 this is McNemar's exact test (McNemar 1947, Psychometrika 12:153). Ties are ignored;
/// without decided problems the p-value is 1.
///
/// `p = min(1, 2 Σ_{i <= min(won, lost)} C(n, i) / 2^n)`, n = won + lost.
pub fn sign_test(won: usize, lost: usize) -> f64 {
    let n = won + lost;
    // Compute in logarithms, because 2^-n underflows above about a thousand decided problems.
    let mut ln_term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = ln_term.exp();
    for i in 1..=won.min(lost) {
        ln_term += ((n - i + 1) as f64 / i as f64).ln();
        tail += ln_term.exp();
    }
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_test_by_hand() {
        let check = |won, lost, expected: f64| {
            let found = sign_test(won, lost);
            assert!((found - expected).abs() < 1e-9, "{won}:{lost} gives {found}");
        };
        check(0, 0, 1.0);
        check(5, 0, 2.0 / 32.0);
        check(0, 5, 2.0 / 32.0);
        check(8, 2, 2.0 * 56.0 / 1024.0); // 1 + 10 + 45
        check(3, 3, 1.0);
        check(1000, 1000, 1.0);
        assert!(sign_test(2000, 0) < 1e-300);
    }

    #[test]
    fn compare_by_hand() {
        let a = [0.0, 0.0, 1.0, 1.0, 0.5];
        let b = [1.0, 1.0, 1.0, 0.0, 0.5];
        let found = compare(&a, &b).expect("same problems");
        assert_eq!((found.problems, found.won, found.lost), (5, 2, 1));
        // Differences 1, 1, 0, -1, 0: mean 0.2, squares 2.8, se = sqrt(2.8 / 20) = 0.374166, t(4) = 2.7764.
        assert!((found.difference.mean - 0.2).abs() < 1e-12);
        assert!((found.difference.low - (0.2 - 1.038837)).abs() < 1e-4);
        assert_eq!(found.difference.high, 1.0);
        assert_eq!(found.p_value, 1.0);
        let back = compare(&b, &a).expect("same problems");
        assert!((back.difference.mean + 0.2).abs() < 1e-12);
        assert_eq!((back.won, back.lost), (1, 2));
    }

    #[test]
    fn compare_rejects_mismatched_evaluations() {
        let message = |a: &[f64], b: &[f64]| compare(a, b).expect_err("mismatched").to_string();
        assert!(message(&[1.0], &[1.0, 0.0]).contains("first evaluation has 1, the second 2"));
        assert!(message(&[], &[]).contains("at least one problem"));
        assert!(message(&[1.0], &[f64::NAN]).contains("finite"));
    }
}
