//! Computes the advantages of tokens from the rewards of a step: subtracts a baseline and divides by a scale, which are two independent
//! settings. Known algorithms combine them as follows:
//!
//! | | baseline | scale |
//! |---|---|---|
//! | GRPO (Shao et al. 2024) | group | group |
//! | Dr. GRPO (Liu et al. 2025) | group | none |
//! | RLOO (Ahmadian et al. 2024) | leave-one-out | none |
//! | REINFORCE++ (Hu 2025) | none | batch |
//!
//! Rewards that differ only by rounding count as equal ([`has_signal`]), because dividing by their tiny standard deviation would turn
//! rounding errors into advantages of about +-1.

use serde::{Deserialize, Serialize};

use super::gae::Estimate;

/// How to compute advantages from rewards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdvantageSettings {
    /// The baseline that is subtracted from rewards.
    pub baseline: Baseline,
    /// The standard deviation that advantages are divided by.
    pub scale: Scale,
    /// Discount per token. Used without a baseline and with a critic.
    pub gamma: f32,
    /// Lambda of generalized advantage estimation. Used with a critic.
    pub lambda: f32,
}

impl Default for AdvantageSettings {
    /// The settings of the published run.
    fn default() -> Self {
        Self { baseline: Baseline::Group, scale: Scale::Group, gamma: 1.0, lambda: 1.0 }
    }
}

/// The baseline that is subtracted from rewards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// The mean reward of the response's group.
    Group,
    /// The mean reward of the other responses in the group.
    LeaveOneOut,
    /// A critic's value for each token.
    Critic,
    /// Nothing: a token's advantage is the discounted sum of the rewards from that token on.
    None,
}

/// The standard deviation that advantages are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// That of the rewards in the response's group. Requires a group baseline (`group` or `leave-one-out`).
    Group,
    /// That of the advantages of all tokens in the step. Also subtracts their mean.
    Batch,
    /// No scaling.
    None,
}

/// The rewards of one response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseRewards<'a> {
    /// The reward of the whole response, assigned to its last token.
    pub outcome: f32,
    /// An additional reward for each token, such as a KL penalty; zeros if there is none.
    pub tokens: &'a [f32],
}

impl ResponseRewards<'_> {
    /// Returns the reward of each token, with the outcome added to the last one.
    pub fn by_token(&self) -> Vec<f32> {
        let mut rewards = self.tokens.to_vec();
        rewards.last_mut().into_iter().for_each(|last| *last += self.outcome);
        rewards
    }

    fn sum(&self) -> f32 {
        let tokens: f64 = self.tokens.iter().map(|reward| f64::from(*reward)).sum();
        (f64::from(self.outcome) + tokens) as f32
    }

    /// Returns, for each token, the sum of the rewards from that token on, discounted by `gamma` per token.
    fn returns(&self, gamma: f32) -> Vec<f32> {
        let mut future = f64::from(self.outcome);
        let mut returns = vec![0.0; self.tokens.len()];
        for (index, (reward, slot)) in self.tokens.iter().zip(&mut returns).enumerate().rev() {
            let discount = if index + 1 == self.tokens.len() { 1.0 } else { f64::from(gamma) };
            future = f64::from(*reward) + discount * future;
            *slot = future as f32;
        }
        returns
    }
}

/// Returns the advantages of a step as `[response][token]`, in the order of `responses`. The responses of a group are consecutive.
/// `estimates` has a critic's estimate for each response; `None` without a critic.
///
/// With a group baseline, all tokens of a response have the same advantage, and a KL penalty on its tokens is part of its reward.
pub fn advantages(
    settings: &AdvantageSettings,
    group_size: usize,
    responses: &[ResponseRewards],
    estimates: Option<&[Estimate]>,
) -> Vec<Vec<f32>> {
    let mut advantages: Vec<Vec<f32>> = match (estimates, settings.baseline) {
        (Some(estimates), _) => estimates.iter().map(|estimate| estimate.advantages.clone()).collect(),
        (None, Baseline::Group | Baseline::LeaveOneOut) => group_baseline(settings, group_size, responses),
        (None, Baseline::None | Baseline::Critic) => responses.iter().map(|response| response.returns(settings.gamma)).collect(),
    };
    if settings.scale == Scale::Batch {
        whiten(&mut advantages);
    }
    advantages
}

fn group_baseline(settings: &AdvantageSettings, group_size: usize, responses: &[ResponseRewards]) -> Vec<Vec<f32>> {
    let of_group = |group: &[ResponseRewards]| {
        let rewards: Vec<f32> = group.iter().map(ResponseRewards::sum).collect();
        group_advantages(&rewards, settings.baseline, settings.scale == Scale::Group)
    };
    let advantages = responses.chunks(group_size).flat_map(of_group);
    responses.iter().zip(advantages).map(|(response, advantage)| vec![advantage; response.tokens.len()]).collect()
}

/// Values count as equal if they differ by at most this fraction of the largest magnitude, about 8 rounding steps of f32. Summing the same
/// numbers in another order can change the result that much.
pub const EQUAL_WITHIN: f64 = 1e-6;

/// Returns true if values differ by more than rounding ([`EQUAL_WITHIN`]). If the rewards of a group have no signal, all its responses have
/// advantage 0. Metrics and dynamic sampling use the same test. Values that are not finite have signal, so that they show up in the loss.
pub fn has_signal(values: impl IntoIterator<Item = f32>) -> bool {
    let (mut min, mut max, mut all_finite) = (f64::INFINITY, f64::NEG_INFINITY, true);
    for value in values {
        all_finite &= value.is_finite();
        (min, max) = (min.min(f64::from(value)), max.max(f64::from(value)));
    }
    !all_finite || max - min > EQUAL_WITHIN * min.abs().max(max.abs())
}

/// Returns the advantages of a group: `(r - mean) / (std + 1e-6)`, where the variance has the denominator n - 1, as in GRPO. Does not
/// divide if `by_std` is false. With `LeaveOneOut`, subtracts the mean of the other responses. Returns zeros if the rewards have no signal.
fn group_advantages(rewards: &[f32], baseline: Baseline, by_std: bool) -> Vec<f32> {
    let n = rewards.len() as f64;
    let mean = rewards.iter().map(|r| f64::from(*r)).sum::<f64>() / n;
    if !has_signal(rewards.iter().copied()) {
        return vec![0.0; rewards.len()];
    }
    let variance = rewards.iter().map(|r| (f64::from(*r) - mean).powi(2)).sum::<f64>() / (n - 1.0);
    // r - (n mean - r) / (n - 1) = (r - mean) n / (n - 1)
    let leave_one_out = if baseline == Baseline::LeaveOneOut { n / (n - 1.0) } else { 1.0 };
    let scale = leave_one_out * if by_std { 1.0 / (variance.sqrt() + 1e-6) } else { 1.0 };
    rewards.iter().map(|r| ((f64::from(*r) - mean) * scale) as f32).collect()
}

/// Subtracts the mean over all tokens of the step and divides by the standard deviation: `(a - mean) / sqrt(variance + 1e-8)`, where the
/// variance has the denominator n - 1, as in verl. Sets all to 0 if they have no signal.
fn whiten(advantages: &mut [Vec<f32>]) {
    let count = advantages.iter().map(Vec::len).sum::<usize>() as f64;
    let all = || advantages.iter().flatten().map(|advantage| f64::from(*advantage));
    let mean = all().sum::<f64>() / count.max(1.0);
    let variance = all().map(|advantage| (advantage - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    let has_signal = has_signal(advantages.iter().flatten().copied());
    let scale = if has_signal { 1.0 / (variance + 1e-8).sqrt() } else { 0.0 };
    advantages.iter_mut().flatten().for_each(|advantage| *advantage = ((f64::from(*advantage) - mean) * scale) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-5), "{found:?}, expected {expected:?}");
    }

    fn check(rewards: &[f32], baseline: Baseline, by_std: bool, expected: &[f32]) {
        let found = group_advantages(rewards, baseline, by_std);
        near(&found, expected);
        assert!(found.iter().sum::<f32>().abs() < 1e-5, "advantages sum to 0");
    }

    #[test]
    fn group_advantages_by_hand() {
        // mean 1/4, variance (3 * 1/16 + 9/16) / 3 = 1/4, std 1/2
        check(&[1.0, 0.0, 0.0, 0.0], Baseline::Group, true, &[1.5, -0.5, -0.5, -0.5]);
        check(&[1.0, 0.0, 0.0, 0.0], Baseline::Group, false, &[0.75, -0.25, -0.25, -0.25]);
        // The means of the others are 0 and 1/3.
        check(&[1.0, 0.0, 0.0, 0.0], Baseline::LeaveOneOut, false, &[1.0, -1.0 / 3.0, -1.0 / 3.0, -1.0 / 3.0]);
        check(&[3.0, 1.0], Baseline::LeaveOneOut, false, &[2.0, -2.0]);
        for baseline in [Baseline::Group, Baseline::LeaveOneOut] {
            check(&[1.0, 1.0, 1.0], baseline, true, &[0.0, 0.0, 0.0]);
            check(&[0.5], baseline, true, &[0.0]);
            check(&[], baseline, true, &[]);
        }
    }

    /// The same numbers summed in two orders can give neighboring f32 values.
    #[test]
    fn has_signal_ignores_one_rounding_step() {
        let (sum, other) = (100.1f32, f32::from_bits(100.1f32.to_bits() + 1));
        assert_ne!(sum, other);
        for rewards in [[sum, other, sum, sum], [-sum, -other, -other, -sum], [sum * 1e-20, other * 1e-20, sum * 1e-20, sum * 1e-20]] {
            assert!(!has_signal(rewards), "{rewards:?}");
            for by_std in [true, false] {
                assert_eq!(group_advantages(&rewards, Baseline::Group, by_std), [0.0; 4]);
                assert_eq!(group_advantages(&rewards, Baseline::LeaveOneOut, by_std), [0.0; 4]);
            }
            let mut tokens = rewards.map(|reward| vec![reward; 3]);
            whiten(&mut tokens);
            assert_eq!(tokens.concat(), [0.0; 12]);
        }
        // Intended differences have signal, however small the rewards are.
        for rewards in [[0.0, 1e-9], [1.0, 1.0 + 1e-5], [100.1, 100.11], [0.0, f32::NAN], [f32::INFINITY, f32::INFINITY]] {
            assert!(has_signal(rewards), "{rewards:?}");
        }
        assert!(!has_signal([]) && !has_signal([7.0]) && !has_signal([0.0, -0.0]));
    }

    #[test]
    fn advantages_include_token_rewards() {
        let responses = [ResponseRewards { outcome: 1.0, tokens: &[-0.1, -0.2, -0.3] }, ResponseRewards { outcome: 0.0, tokens: &[-0.4] }];
        let of = |baseline, scale, gamma| advantages(&AdvantageSettings { baseline, scale, gamma, lambda: 1.0 }, 2, &responses, None);
        // Sums 0.4 and -0.4.
        let group = of(Baseline::Group, Scale::None, 1.0);
        near(&group[0], &[0.4; 3]);
        near(&group[1], &[-0.4]);
        near(&of(Baseline::LeaveOneOut, Scale::None, 1.0)[0], &[0.8; 3]);
        let none = of(Baseline::None, Scale::None, 1.0);
        near(&none[0], &[0.4, 0.5, 0.7]);
        near(&none[1], &[-0.4]);
        // From the end: 0.7; -0.2 + 0.35; -0.1 + 0.075.
        near(&of(Baseline::None, Scale::None, 0.5)[0], &[-0.025, 0.15, 0.7]);
    }

    #[test]
    fn by_token_adds_the_outcome_to_the_last_token() {
        let by_token = |outcome, tokens: &[f32]| ResponseRewards { outcome, tokens }.by_token();
        assert_eq!(by_token(1.0, &[0.0; 4]), [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(by_token(1.0, &[-0.25; 3]), [-0.25, -0.25, 0.75]);
        assert_eq!(by_token(1.0, &[]), [0.0; 0]);
    }

    #[test]
    fn advantages_of_a_critic_are_whitened_with_batch_scale() {
        let of = |advantages: &[f32]| Estimate { advantages: advantages.to_vec(), ..Estimate::default() };
        let estimates = [of(&[1.0, 3.0]), of(&[5.0])];
        let responses = [ResponseRewards { outcome: 1.0, tokens: &[0.0; 2] }, ResponseRewards { outcome: 0.0, tokens: &[0.0] }];
        let found = |scale| {
            let settings = AdvantageSettings { baseline: Baseline::Critic, scale, ..AdvantageSettings::default() };
            advantages(&settings, 2, &responses, Some(&estimates))
        };
        near(&found(Scale::Batch).concat(), &[-1.0, 0.0, 1.0]);
        assert_eq!(found(Scale::None), [vec![1.0, 3.0], vec![5.0]]);
    }

    #[test]
    fn whiten_gives_mean_0_and_deviation_1_over_all_tokens() {
        // Tokens 1, 1, 4: mean 2, variance (1 + 1 + 4) / 2 = 3.
        let mut advantages = vec![vec![1.0, 1.0], vec![4.0], vec![]];
        whiten(&mut advantages);
        let root = 3f32.sqrt();
        near(&advantages.concat(), &[-1.0 / root, -1.0 / root, 2.0 / root]);
        let mut equal = vec![vec![0.1; 3], vec![0.1]];
        whiten(&mut equal);
        assert_eq!(equal.concat(), [0.0; 4]);
        whiten(&mut []);
    }
}
