//! Per-token estimators of the KL divergence from the reference (Schulman 2020, "Approximating KL divergence"). They are functions of d,
//! the policy's log-probability of a sampled token minus the reference's.

use serde::{Deserialize, Serialize};

/// Maximum magnitude of d before `exp`.
const MAX_DISTANCE: f32 = 20.0;
/// Maximum k3 per token, as in the published code.
const MAX_K3: f32 = 10.0;

/// An estimator of the KL divergence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KlEstimator {
    /// d. An unbiased value, which suits rewards. As a loss its expected gradient is 0, because its derivative does not depend on d.
    K1,
    /// d^2 / 2. A biased value, but as a loss its expected on-policy gradient is that of the divergence.
    K2,
    /// e^-d + d - 1. An unbiased value that is never negative; clamped to 10 per token.
    K3,
}

impl KlEstimator {
    /// Returns the estimate in nats, from log-probabilities under policy and reference, and its derivative by the policy's. The derivative
    /// of a clamped value is 0.
    pub fn value_and_derivative(self, policy: f32, reference: f32) -> (f32, f32) {
        let minus_d = reference - policy;
        match self {
            Self::K1 => (-minus_d, 1.0),
            Self::K2 => (0.5 * minus_d * minus_d, -minus_d),
            Self::K3 => {
                let bounded = minus_d.clamp(-MAX_DISTANCE, MAX_DISTANCE);
                let value = bounded.exp_m1() - bounded;
                if value > MAX_K3 || bounded != minus_d { (value.min(MAX_K3), 0.0) } else { (value, -bounded.exp_m1()) }
            }
        }
    }

    /// Returns the estimate for each token, in nats, from log-probabilities under policy and reference.
    pub fn values(self, policy: &[f32], reference: &[f32]) -> Vec<f32> {
        policy.iter().zip(reference).map(|(policy, reference)| self.value_and_derivative(*policy, *reference).0).collect()
    }

    /// Returns KL penalties as `[response][token]`: `-coefficient` times the estimate, to be added to the rewards.
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
    fn value_and_derivative_by_hand_and_by_finite_differences() {
        // d = 0.5 and -0.5; e^-0.5 = 0.60653066, e^0.5 = 1.6487213.
        check(KlEstimator::K1, -1.0, -1.5, 0.5);
        check(KlEstimator::K1, -1.5, -1.0, -0.5);
        check(KlEstimator::K2, -1.0, -1.5, 0.125);
        check(KlEstimator::K2, -1.5, -1.0, 0.125);
        check(KlEstimator::K3, -1.0, -1.5, 0.106_530_66);
        check(KlEstimator::K3, -1.5, -1.0, 0.148_721_3);
    }

    #[test]
    fn value_and_derivative_clamps_k3() {
        assert_eq!(KlEstimator::K3.value_and_derivative(-50.0, -0.1), (10.0, 0.0));
        assert_eq!(KlEstimator::K3.values(&[-1.0, -0.1], &[-1.0, -60.0]), [0.0, 10.0]);
    }
}
