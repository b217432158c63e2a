//! Generalized advantage estimation (advantages and returns from a critic's values), and the loss that trains the critic. Sums are in f64.

use serde::{Deserialize, Serialize};

/// Values, advantages and returns of one response, with one number per token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The critic's values before it was trained on this response.
    pub values: Vec<f32>,
    /// The advantages, not whitened.
    pub advantages: Vec<f32>,
    /// The targets that the values are trained towards: advantage plus value.
    pub returns: Vec<f32>,
}

/// Computes generalized advantage estimation for one response (Schulman et al., arXiv 1506.02438, equations 11 to 16). With `delta_t = r_t
/// + gamma V_(t+1) - V_t`, the advantage is `A_t = delta_t + gamma lambda A_(t+1)`.
///
/// `values[t]` is the value of the state in which token `t` is sampled. After the last token, V is 0, whether the response ended there or
/// was truncated, as in verl. If gamma and lambda are 1, the return of a token is the sum of the rewards from that token on.
///
/// # Panics
/// If `rewards` is shorter than `values`.
pub fn gae(rewards: &[f32], values: &[f32], gamma: f32, lambda: f32) -> Estimate {
    let (gamma, lambda) = (f64::from(gamma), f64::from(lambda));
    let mut advantages = vec![0.0; values.len()];
    let (mut next_value, mut next_advantage) = (0.0, 0.0);
    for (t, value) in values.iter().copied().map(f64::from).enumerate().rev() {
        let delta = f64::from(rewards[t]) + gamma * next_value - value;
        next_advantage = delta + gamma * lambda * next_advantage;
        next_value = value;
        advantages[t] = next_advantage;
    }
    let returns = advantages.iter().zip(values).map(|(advantage, value)| (advantage + f64::from(*value)) as f32).collect();
    Estimate { values: values.to_vec(), advantages: advantages.into_iter().map(|advantage| advantage as f32).collect(), returns }
}

/// Returns the mean and the variance (denominator n - 1). The mean of an empty list and the variance of fewer than two values are 0.
pub fn moments(values: impl Iterator<Item = f32> + Clone) -> (f64, f64) {
    let (sum, count) = values.clone().fold((0.0, 0.0), |(sum, count), value| (sum + f64::from(value), count + 1.0));
    let mean = if count > 0.0 { sum / count } else { 0.0 };
    let squares: f64 = values.map(|value| (f64::from(value) - mean).powi(2)).sum();
    (mean, if count > 1.0 { squares / (count - 1.0) } else { 0.0 })
}

/// Returns the fraction of the returns' variance that the values explain: `1 - var(R - V) / (var(R) + 1e-5)`, as in verl.
pub fn explained_variance(estimates: &[Estimate]) -> f64 {
    let (_, total) = moments(estimates.iter().flat_map(|one| one.returns.iter().copied()));
    let residuals = estimates.iter().flat_map(|one| one.returns.iter().zip(&one.values).map(|(ret, value)| ret - value));
    1.0 - moments(residuals).1 / (total + 1e-5)
}

/// Sums over tokens: the weighted value loss, and unweighted statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValueTerms {
    /// The weighted loss, whose weights already include its denominator.
    pub loss: f64,
    /// Number of tokens whose clipped error is larger than the unclipped one, so that their gradient is 0.
    pub clipped: f64,
    /// Sum of the values.
    pub values: f64,
    /// Number of tokens.
    pub tokens: f64,
}

impl ValueTerms {
    /// Adds the terms of other tokens of the same mini-batch.
    pub fn add(&mut self, other: &Self) {
        self.loss += other.loss;
        self.clipped += other.clipped;
        self.values += other.values;
        self.tokens += other.tokens;
    }

    /// Divides a sum over tokens by the number of tokens; 0 if there are none.
    pub fn per_token(&self, sum: f64) -> f64 {
        if self.tokens > 0.0 { sum / self.tokens } else { 0.0 }
    }
}

/// Computes PPO's clipped value loss for one response (from the code of Schulman et al. 2017, and verl's `compute_value_loss`). The loss of
/// a token is `weight * 0.5 * max((V - R)^2, (clip(V, old - c, old + c) - R)^2)`, with the old values and the returns R from `target`. A
/// `clip` of 0 turns clipping off. Returns the sums, and appends dL/dV of each token to `d_values`.
pub fn value_loss(values: &[f32], target: &Estimate, clip: f32, weight: f32, d_values: &mut Vec<f32>) -> ValueTerms {
    let mut terms = ValueTerms::default();
    for ((value, old), goal) in values.iter().zip(&target.values).zip(&target.returns) {
        // `clamp` would panic on the NaN bounds of a diverged critic.
        let clipped = if clip > 0.0 { value.max(old - clip).min(old + clip) } else { *value };
        let (unclipped_error, clipped_error) = (f64::from(value - goal).powi(2), f64::from(clipped - goal).powi(2));
        let is_clipped = clipped_error > unclipped_error;
        d_values.push(if is_clipped { 0.0 } else { weight * (value - goal) });
        terms.add(&ValueTerms {
            loss: 0.5 * f64::from(weight) * unclipped_error.max(clipped_error),
            clipped: f64::from(u8::from(is_clipped)),
            values: f64::from(*value),
            tokens: 1.0,
        });
    }
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rewards: &[f32], values: &[f32], [gamma, lambda]: [f32; 2], advantages: &[f32], returns: &[f32]) {
        let found = gae(rewards, values, gamma, lambda);
        let near = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(&found.advantages, advantages) && near(&found.returns, returns), "{found:?}");
        assert_eq!(found.values, values);
    }

    #[test]
    fn gae_by_hand() {
        let values = [0.5, 0.25, 0.75];
        // Gamma and lambda 1: returns are sums of future rewards and do not depend on the values.
        check(&[0.0, 0.0, 1.0], &values, [1.0, 1.0], &[0.5, 0.75, 0.25], &[1.0, 1.0, 1.0]);
        check(&[2.0, -1.0, 1.0], &values, [1.0, 1.0], &[1.5, -0.25, 0.25], &[2.0, 0.0, 1.0]);
        // Lambda 0: one step ahead. Deltas 0.25 - 0.5, 0.75 - 0.25, 1 - 0.75.
        check(&[0.0, 0.0, 1.0], &values, [1.0, 0.0], &[-0.25, 0.5, 0.25], &[0.25, 0.75, 1.0]);
        // Gamma 0.5, lambda 0.5. Deltas 0.125 - 0.5, 0.375 - 0.25, 0.25; then 0.125 + 0.25 / 4 = 0.1875 and -0.375 + 0.1875 / 4.
        check(&[0.0, 0.0, 1.0], &values, [0.5, 0.5], &[-0.328125, 0.1875, 0.25], &[0.171875, 0.4375, 1.0]);
        check(&[1.0], &[0.25], [0.9, 0.9], &[0.75], &[1.0]);
        check(&[], &[], [1.0, 1.0], &[], &[]);
    }

    #[test]
    fn explained_variance_is_1_for_correct_values_and_0_for_constant_ones() {
        let estimate = |values: [f32; 2]| Estimate { values: values.to_vec(), advantages: vec![0.0; 2], returns: vec![0.0, 1000.0] };
        assert!((explained_variance(&[estimate([0.0, 1000.0])]) - 1.0).abs() < 1e-9);
        assert!(explained_variance(&[estimate([7.0, 7.0])]).abs() < 1e-6);
        assert!((explained_variance(&[estimate([1000.0, 0.0])]) + 3.0).abs() < 1e-6);
    }

    /// Values within the clip, and beyond it on either side.
    #[test]
    fn value_loss_by_hand_and_derivative_by_finite_differences() {
        let values = [0.3, 0.9, 0.9, -0.2, -0.2, 0.4];
        let target = Estimate { values: vec![0.2; 6], advantages: vec![0.0; 6], returns: vec![1.0, 1.0, 0.0, -1.0, 1.0, 0.4] };
        let (clip, weight) = (0.25, 0.5);
        let mut d_values = Vec::new();
        let terms = value_loss(&values, &target, clip, weight, &mut d_values);
        // Clipped values: 0.3, 0.45, 0.45, -0.05, -0.05, 0.4.
        let squares = [0.49, 0.3025, 0.81, 0.9025, 1.44, 0.0];
        assert!((terms.loss - 0.25 * squares.iter().sum::<f64>()).abs() < 1e-6, "{terms:?}");
        assert_eq!((terms.clipped, terms.tokens), (2.0, 6.0));
        for (i, expected) in [-0.35, 0.0, 0.45, 0.0, -0.6, 0.0].into_iter().enumerate() {
            assert!((d_values[i] - expected).abs() < 1e-6, "token {i}: {}", d_values[i]);
            let at = |h: f32| {
                let mut moved = values;
                moved[i] += h;
                value_loss(&moved, &target, clip, weight, &mut Vec::new()).loss
            };
            let numeric = (at(1e-3) - at(-1e-3)) / 2e-3;
            assert!((numeric - f64::from(d_values[i])).abs() < 1e-3, "token {i}: {}, by differences {numeric}", d_values[i]);
        }
        let mut unclipped = Vec::new();
        assert_eq!(value_loss(&values, &target, 0.0, weight, &mut unclipped).clipped, 0.0);
        assert!((unclipped[1] + 0.05).abs() < 1e-6 && (unclipped[3] - 0.4).abs() < 1e-6, "{unclipped:?}");
    }
}
