//! Estimators of the KL divergence from a reference, token by token (Schulman 2020, "Approximating KL divergence"), of
//! d = policy - reference log-probability of a token that the policy sampled.

use serde::{Deserialize, Serialize};

/// Largest distance of log-probabilities that is exponentiated.
const MAX_DISTANCE: f32 = 20.0;
/// Largest k3 of a token, as in the published code.
const MAX_K3: f32 = 10.0;

/// An estimator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KlEstimator {
    /// d: unbiased as a value, and what belongs into a reward. In a loss its expected gradient is 0, because its derivative does not depend
    /// on d.
    K1,
    /// d^2 / 2: biased as a value; in a loss its gradient is that of the divergence (on policy).
    K2,
    /// e^-d + d - 1: unbiased and never negative; at most 10 a token.
    K3,
}

impl KlEstimator {
    /// The estimate in nats, and its derivative by the policy's log-probability. Clamped values have the derivative 0.
    pub fn value_and_derivative(self, policy: f32, reference: f32) -> (f32, f32) {
        let away = reference - policy;
        match self {
            Self::K1 => (-away, 1.0),
            Self::K2 => (0.5 * away * away, -away),
            Self::K3 => {
                let bounded = away.clamp(-MAX_DISTANCE, MAX_DISTANCE);
                let value = bounded.exp_m1() - bounded;
                if value > MAX_K3 || bounded != away { (value.min(MAX_K3), 0.0) } else { (value, -bounded.exp_m1()) }
            }
        }
    }

    /// The estimate of each token.
    pub fn values(self, policy: &[f32], reference: &[f32]) -> Vec<f32> {
        policy.iter().zip(reference).map(|(policy, reference)| self.value_and_derivative(*policy, *reference).0).collect()
    }

    /// What KL in the reward takes from each token of each response: `-coefficient` times the estimate.
    pub fn penalties(self, coefficient: f32, policy: &[Vec<f32>], reference: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let of_response = |(policy, reference): (&Vec<f32>, &Vec<f32>)| {
            self.values(policy, reference).into_iter().map(|estimate| -coefficient * estimate).collect()
        };
        policy.iter().zip(reference).map(of_response).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(estimator: KlEstimator, policy: f32, reference: f32, expected: f32) {
        let (value, derivative) = estimator.value_and_derivative(policy, reference);
        assert!((value - expected).abs() < 1e-6, "{estimator:?}: {value}, expected {expected}");
        let at = |h: f32| f64::from(estimator.value_and_derivative(policy + h, reference).0);
        let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
        assert!((numeric - f64::from(derivative)).abs() < 1e-3, "{estimator:?}: {derivative}, by differences {numeric}");
    }

    #[test]
    fn estimates_equal_hand_worked_cases_and_their_derivatives_differences() {
        // d = 0.5 and -0.5; e^-0.5 = 0.60653066, e^0.5 = 1.6487213.
        check(KlEstimator::K1, -1.0, -1.5, 0.5);
        check(KlEstimator::K1, -1.5, -1.0, -0.5);
        check(KlEstimator::K2, -1.0, -1.5, 0.125);
        check(KlEstimator::K2, -1.5, -1.0, 0.125);
        check(KlEstimator::K3, -1.0, -1.5, 0.106_530_66);
        check(KlEstimator::K3, -1.5, -1.0, 0.148_721_3);
    }

    #[test]
    fn the_third_is_bounded() {
        assert_eq!(KlEstimator::K3.value_and_derivative(-50.0, -0.1), (10.0, 0.0));
        assert_eq!(KlEstimator::K3.values(&[-1.0, -0.1], &[-1.0, -60.0]), [0.0, 10.0]);
    }
}
