//! What a critic makes of rewards: advantages and returns by generalised advantage estimation, and the loss that values are
//! learned by. Sums run in f64; tokens of responses only, one slice a response.

/// What a critic's values say of one response. All of its length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Each token's value, from before the critic learned of this response.
    pub values: Vec<f32>,
    /// How much better it went from each token on than its value had it.
    pub advantages: Vec<f32>,
    /// What each value is to become: advantage plus value.
    pub returns: Vec<f32>,
}

/// Generalised advantage estimation (Schulman et al., arXiv 1506.02438, equations 11 to 16): with `delta_t = r_t + gamma V_(t+1) - V_t` the
/// advantage is `A_t = delta_t + gamma lambda A_(t+1)`. Nothing follows the last token, whether the response ended there or was cut off (so has
/// verl it): its `V_(t+1)` is 0. `values[t]` is that of the state in which token `t` is chosen. With gamma and lambda 1 every return is the
/// sum of the rewards from there on.
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

/// Mean and variance (with n - 1); 0 where there is too little to have one.
pub fn moments(values: impl Iterator<Item = f32> + Clone) -> (f64, f64) {
    let (sum, count) = values.clone().fold((0.0, 0.0), |(sum, count), value| (sum + f64::from(value), count + 1.0));
    let mean = if count > 0.0 { sum / count } else { 0.0 };
    let squares: f64 = values.map(|value| (f64::from(value) - mean).powi(2)).sum();
    (mean, if count > 1.0 { squares / (count - 1.0) } else { 0.0 })
}

/// The share of the returns' variance that values from before explain: `1 - var(R - V) / (var(R) + 1e-5)`, as verl has it.
pub fn explained_variance(estimates: &[Estimate]) -> f64 {
    let (_, total) = moments(estimates.iter().flat_map(|one| one.returns.iter().copied()));
    let left = estimates.iter().flat_map(|one| one.returns.iter().zip(&one.values).map(|(ret, value)| ret - value));
    1.0 - moments(left).1 / (total + 1e-5)
}

/// Sums over tokens of the value loss; `loss` is weighted, the rest is not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ValueTerms {
    /// The loss.
    pub loss: f64,
    /// Tokens whose clipped error was the larger one, so that their gradient is 0.
    pub clipped: f64,
    /// Values, summed.
    pub values: f64,
    /// Tokens.
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

    /// A sum over tokens as their mean; 0 without tokens.
    pub fn per_token(&self, sum: f64) -> f64 {
        if self.tokens > 0.0 { sum / self.tokens } else { 0.0 }
    }
}

/// PPO's clipped value loss (Schulman et al. 2017's code, and verl's `compute_value_loss`): of each token
/// `weight * 0.5 * max((V - R)^2, (clip(V, old - c, old + c) - R)^2)`, where `target` has the old values and the returns R. A clip of 0 turns clipping
/// off. Gives the sums, and adds dL/dV of each token to the end of `d_values`.
pub fn value_loss(values: &[f32], target: &Estimate, clip: f32, weight: f32, d_values: &mut Vec<f32>) -> ValueTerms {
    let mut terms = ValueTerms::default();
    for ((value, old), goal) in values.iter().zip(&target.values).zip(&target.returns) {
        // Not `clamp`, which panics where a critic that has diverged gives no number.
        let held = if clip > 0.0 { value.max(old - clip).min(old + clip) } else { *value };
        let (free, bounded) = (f64::from(value - goal).powi(2), f64::from(held - goal).powi(2));
        let is_clipped = bounded > free;
        d_values.push(if is_clipped { 0.0 } else { weight * (value - goal) });
        terms.add(&ValueTerms {
            loss: 0.5 * f64::from(weight) * free.max(bounded),
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
    fn estimates_equal_hand_worked_cases() {
        let values = [0.5, 0.25, 0.75];
        // Gamma and lambda 1: the return is the reward to come, whatever the values.
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
    fn explained_variance_is_1_for_right_values_and_0_for_constant_ones() {
        let estimate = |values: [f32; 2]| Estimate { values: values.to_vec(), advantages: vec![0.0; 2], returns: vec![0.0, 1000.0] };
        assert!((explained_variance(&[estimate([0.0, 1000.0])]) - 1.0).abs() < 1e-9);
        assert!(explained_variance(&[estimate([7.0, 7.0])]).abs() < 1e-6);
        assert!((explained_variance(&[estimate([1000.0, 0.0])]) + 3.0).abs() < 1e-6);
    }

    /// Within the clip, beyond it on the side where the clipped error is larger, and beyond it on the other.
    #[test]
    fn the_value_loss_and_its_derivative_equal_hand_worked_cases_and_finite_differences() {
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
            assert!((numeric - f64::from(d_values[i])).abs() < 1e-3, "token {i}: {numeric} against {}", d_values[i]);
        }
        let mut free = Vec::new();
        assert_eq!(value_loss(&values, &target, 0.0, weight, &mut free).clipped, 0.0);
        assert!((free[1] + 0.05).abs() < 1e-6 && (free[3] - 0.4).abs() < 1e-6, "{free:?}");
    }
}
