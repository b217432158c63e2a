//! Advantages from rewards.

use serde::{Deserialize, Serialize};

/// How rewards become advantages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdvantageSettings {
    /// What is subtracted from a reward.
    pub baseline: Baseline,
    /// The standard deviation that divides.
    pub scale: Scale,
    /// Discount of rewards to come, a token.
    pub gamma: f32,
    /// Of generalised advantage estimation: 1 takes rewards as they came, 0 the next token's value for all that follows.
    pub lambda: f32,
}

/// What is subtracted from a reward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// The mean of its group.
    Group,
    /// The mean of the others in its group.
    LeaveOneOut,
    /// The values of a critic.
    Critic,
    /// Nothing.
    None,
}

/// The standard deviation that divides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// That of the group's rewards.
    Group,
    /// That of all tokens of the step, whose mean is subtracted too.
    Batch,
    /// Nothing.
    None,
}

impl Default for AdvantageSettings {
    /// The published run's.
    fn default() -> Self {
        Self { baseline: Baseline::Group, scale: Scale::Group, gamma: 1.0, lambda: 1.0 }
    }
}

/// GRPO's advantage (Shao et al. 2024): `(r - mean) / (std + 1e-6)` within a group, std with n - 1; all 0 where all rewards are equal.
/// With `by_std` false only the mean is subtracted (Dr. GRPO, Liu et al. 2025).
pub fn group_advantages(rewards: &[f32], by_std: bool) -> Vec<f32> {
    let n = rewards.len() as f64;
    let mean = rewards.iter().map(|r| f64::from(*r)).sum::<f64>() / n;
    if rewards.iter().all(|r| *r == rewards[0]) {
        return vec![0.0; rewards.len()];
    }
    let variance = rewards.iter().map(|r| (f64::from(*r) - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let scale = if by_std { 1.0 / (variance.sqrt() + 1e-6) } else { 1.0 };
    rewards.iter().map(|r| ((f64::from(*r) - mean) * scale) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rewards: &[f32], by_std: bool, expected: &[f32]) {
        let found = group_advantages(rewards, by_std);
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-5), "{rewards:?}: {found:?}");
        assert!(found.iter().sum::<f32>().abs() < 1e-5, "advantages sum to 0");
    }

    #[test]
    fn advantages_equal_hand_worked_cases() {
        // mean 1/4, variance (3 * 1/16 + 9/16) / 3 = 1/4, std 1/2
        check(&[1.0, 0.0, 0.0, 0.0], true, &[1.5, -0.5, -0.5, -0.5]);
        check(&[1.0, 0.0, 0.0, 0.0], false, &[0.75, -0.25, -0.25, -0.25]);
        check(&[1.0, 1.0, 1.0], true, &[0.0, 0.0, 0.0]);
        check(&[0.5], true, &[0.0]);
        check(&[], true, &[]);
    }
}
