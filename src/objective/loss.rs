//! The per-token loss of GRPO, PPO and their relatives, and its derivatives by log-probability and entropy.

use serde::{Deserialize, Serialize};

use super::aggregation::Aggregation;
use super::kl::KlEstimator;

/// The terms of the loss; a coefficient of 0 turns a term off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossSettings {
    /// Coefficient of the policy loss; 0 learns from no reward.
    pub policy: f32,
    /// What the ratio to the policy that sampled is of.
    pub ratio: Ratio,
    /// What is made of ratio and advantage.
    pub surrogate: Surrogate,
    /// The ratio is clipped below at 1 - clip_low.
    pub clip_low: f32,
    /// The ratio is clipped above at 1 + clip_high.
    pub clip_high: f32,
    /// Coefficient of the KL divergence from the reference.
    pub kl: f32,
    /// Its estimator.
    pub kl_estimator: KlEstimator,
    /// Coefficient of the entropy bonus; at first, where it has a course.
    pub entropy: f32,
    /// The coefficient that a linear course ends at.
    pub entropy_to: f32,
    /// Steps of that course; 0 keeps the coefficient.
    pub entropy_steps: u64,
    /// Entropy in nats a token that the coefficient is steered to hold; 0 is off.
    pub entropy_target: f32,
    /// How far steering moves the coefficient at each step.
    pub entropy_step: f32,
    /// The mean over tokens and sequences.
    pub aggregation: Aggregation,
}

/// What a ratio of probabilities is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ratio {
    /// Each token, as in PPO.
    Token,
    /// The whole response, to the power of 1 / its length (GSPO, Zheng et al. 2025). Where advantages differ within a response, each token
    /// has its own with the common ratio (their GSPO-token).
    Sequence,
}

/// What is made of ratio and advantage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Surrogate {
    /// PPO's: the smaller of `ratio A` and `clip(ratio) A`.
    Clip,
    /// CISPO's (MiniMax-M1, 2025): `clip(ratio) A log-probability`, the clipped ratio being a constant, so that every token keeps its
    /// gradient.
    Cispo,
}

impl Default for LossSettings {
    /// The published run's.
    fn default() -> Self {
        Self {
            policy: 1.0,
            ratio: Ratio::Token,
            surrogate: Surrogate::Clip,
            clip_low: 0.2,
            clip_high: 0.2,
            kl: 0.001,
            kl_estimator: KlEstimator::K3,
            entropy: 0.001,
            entropy_to: 0.0,
            entropy_steps: 0,
            entropy_target: 0.0,
            entropy_step: 0.0,
            aggregation: Aggregation::TokenMean,
        }
    }
}

/// Response tokens, all slices of one length.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// Log-probabilities under the policy, which the loss is differentiated by.
    pub logprobs: &'a [f32],
    /// Entropies of the policy, likewise.
    pub entropies: &'a [f32],
    /// Log-probabilities under the policy that sampled; none means the same policy, so that every ratio is 1.
    pub old: Option<&'a [f32]>,
    /// For each token the log of its whole response's ratio (`sequence_log_ratio`), where that takes the place of its own.
    pub log_ratios: Option<&'a [f32]>,
    /// Log-probabilities under the reference; needed where the KL coefficient is not 0.
    pub reference: Option<&'a [f32]>,
    /// Each token's advantage.
    pub advantages: &'a [f32],
    /// Each token's weight in the mean (see `Aggregation`).
    pub weights: &'a [f32],
}

/// Sums over tokens: the loss and what it is made of, weighted by the aggregation; and what is told of tokens, unweighted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// Policy loss, before its coefficient.
    pub policy: f64,
    /// KL divergence from the reference, before its coefficient.
    pub kl: f64,
    /// Entropy, before its coefficient.
    pub entropy: f64,
    /// Tokens whose ratio was clipped; with PPO's surrogate those whose gradient is 0 for it.
    pub clipped: f64,
    /// Old minus new log-probability, summed: the k1 divergence from the sampling policy.
    pub old_kl: f64,
    /// Entropy, summed.
    pub token_entropy: f64,
    /// Tokens.
    pub tokens: f64,
}

/// The loss of a range of tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLoss {
    /// The terms, summed.
    pub terms: Terms,
    /// dL/dlogp of each token.
    pub d_logprobs: Vec<f32>,
    /// dL/dH of each token.
    pub d_entropies: Vec<f32>,
}

impl Terms {
    /// The loss that is minimised.
    pub fn loss(&self, settings: &LossSettings) -> f64 {
        f64::from(settings.policy) * self.policy + f64::from(settings.kl) * self.kl - f64::from(settings.entropy) * self.entropy
    }

    /// Adds the terms of other tokens of the same mini-batch.
    pub fn add(&mut self, other: &Terms) {
        self.policy += other.policy;
        self.kl += other.kl;
        self.entropy += other.entropy;
        self.clipped += other.clipped;
        self.old_kl += other.old_kl;
        self.token_entropy += other.token_entropy;
        self.tokens += other.tokens;
    }

    /// A sum over tokens as their mean; 0 without tokens.
    pub fn per_token(&self, sum: f64) -> f64 {
        if self.tokens > 0.0 { sum / self.tokens } else { 0.0 }
    }
}

/// `sum over tokens of weight * (policy * -surrogate(ratio, A) + kl * KL - entropy * H)` with its derivatives.
pub fn token_loss(settings: &LossSettings, tokens: Tokens) -> TokenLoss {
    let mut loss = TokenLoss { d_logprobs: Vec::with_capacity(tokens.logprobs.len()), ..TokenLoss::default() };
    loss.d_entropies = tokens.weights.iter().map(|weight| -settings.entropy * weight).collect();
    for (i, logprob) in tokens.logprobs.iter().enumerate() {
        let (weight, advantage) = (tokens.weights[i], tokens.advantages[i]);
        let old = tokens.old.map_or(*logprob, |old| old[i]);
        let log_ratio = tokens.log_ratios.map_or(logprob - old, |ratios| ratios[i]);
        let (policy, d_policy, clipped) = match settings.surrogate {
            Surrogate::Clip => clipped_policy(log_ratio, advantage, settings),
            Surrogate::Cispo => weighted_logprob(*logprob, log_ratio, advantage, settings),
        };
        let estimate = |reference: &[f32]| settings.kl_estimator.value_and_derivative(*logprob, reference[i]);
        let (kl, d_kl) = tokens.reference.map_or((0.0, 0.0), estimate);
        loss.d_logprobs.push(weight * (settings.policy * d_policy + settings.kl * d_kl));
        let weight = f64::from(weight);
        loss.terms.add(&Terms {
            policy: weight * f64::from(policy),
            kl: weight * f64::from(kl),
            entropy: weight * f64::from(tokens.entropies[i]),
            clipped: f64::from(u8::from(clipped)),
            old_kl: f64::from(old - logprob),
            token_entropy: f64::from(tokens.entropies[i]),
            tokens: 1.0,
        });
    }
    loss
}

/// PPO's clipped surrogate (Schulman et al. 2017): value, derivative by the log-probability, and whether the clip took the gradient away.
fn clipped_policy(log_ratio: f32, advantage: f32, settings: &LossSettings) -> (f32, f32, bool) {
    // Beyond +-20 the ratio overflows sums; the clip has acted long before.
    let ratio = log_ratio.clamp(-20.0, 20.0).exp();
    let bounded = ratio.clamp(1.0 - settings.clip_low, 1.0 + settings.clip_high);
    let (free, held) = (-advantage * ratio, -advantage * bounded);
    if held > free { (held, 0.0, true) } else { (free, if log_ratio.abs() > 20.0 { 0.0 } else { free }, false) }
}

/// CISPO's surrogate: value, derivative, and whether the weight was clipped.
fn weighted_logprob(logprob: f32, log_ratio: f32, advantage: f32, settings: &LossSettings) -> (f32, f32, bool) {
    let ratio = log_ratio.clamp(-20.0, 20.0).exp();
    let weight = ratio.clamp(1.0 - settings.clip_low, 1.0 + settings.clip_high);
    (-advantage * weight * logprob, -advantage * weight, weight != ratio)
}

/// The log of GSPO's ratio of a response: the mean over its tokens of new minus old log-probability; 0 for an empty one.
pub fn sequence_log_ratio(new: &[f32], old: &[f32]) -> f32 {
    let sum: f64 = new.iter().zip(old).map(|(new, old)| f64::from(*new) - f64::from(*old)).sum();
    (sum / new.len().max(1) as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> LossSettings {
        LossSettings { policy: 0.9, clip_low: 0.2, clip_high: 0.3, kl: 0.05, entropy: 0.02, ..LossSettings::default() }
    }

    const NOTHING: Tokens =
        Tokens { logprobs: &[], entropies: &[], old: None, log_ratios: None, reference: None, advantages: &[], weights: &[] };

    /// Ratios inside and outside the clip on both sides, with advantages of both signs.
    #[test]
    fn derivatives_equal_finite_differences() {
        let logprobs = [-0.5f32, -0.9, -1.5, -0.5, -1.0, -2.0, -0.3, -0.35];
        let old = [-0.5f32, -0.5, -1.0, -1.2, -1.8, -2.1, -0.25, -0.3];
        let reference = [-0.6f32, -0.4, -1.5, -0.9, -3.0, -1.0, -0.2, -0.31];
        let advantages = [1.0f32, -1.0, 1.0, 1.0, -1.0, 0.0, -0.7, 2.0];
        let weights = [0.1f32, 0.2, 0.3, 0.1, 0.1, 0.2, 0.05, 0.15];
        let value = |logprobs: &[f32], entropies: &[f32]| {
            let tokens = Tokens {
                logprobs,
                entropies,
                old: Some(&old),
                log_ratios: None,
                reference: Some(&reference),
                advantages: &advantages,
                weights: &weights,
            };
            token_loss(&settings(), tokens)
        };
        let entropies = [0.7f32; 8];
        let loss = value(&logprobs, &entropies);
        for i in 0..logprobs.len() {
            let moved = |slice: &[f32], h: f32| {
                let mut slice = slice.to_vec();
                slice[i] += h;
                slice
            };
            let at = |h: f32| value(&moved(&logprobs, h), &entropies).terms.loss(&settings());
            let numeric = (at(1e-3) - at(-1e-3)) / 2e-3;
            assert!((numeric - f64::from(loss.d_logprobs[i])).abs() < 1e-4, "token {i}: {numeric} against {}", loss.d_logprobs[i]);
            let at = |h: f32| value(&logprobs, &moved(&entropies, h)).terms.loss(&settings());
            assert!(((at(1e-3) - at(-1e-3)) / 2e-3 - f64::from(loss.d_entropies[i])).abs() < 1e-5);
        }
        // Tokens 1 (ratio 0.67, A < 0) and 3 (ratio 2.0, A > 0) are clipped; 2 and 4 lie outside on the side where the gradient stays.
        assert_eq!(loss.terms.clipped, 2.0);
        assert_eq!(loss.terms.per_token(loss.terms.clipped), 0.25);
    }

    #[test]
    fn every_kl_estimator_equals_finite_differences() {
        for kl_estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3] {
            let settings = LossSettings { policy: 0.0, kl: 0.5, kl_estimator, ..settings() };
            let value = |logprob: f32| {
                let (weights, reference) = ([0.5], [-1.3]);
                let tokens = Tokens { logprobs: &[logprob], entropies: &[0.0], weights: &weights, reference: Some(&reference), ..NOTHING };
                token_loss(&settings, Tokens { advantages: &[1.0], ..tokens })
            };
            let numeric = (value(-0.898).terms.loss(&settings) - value(-0.902).terms.loss(&settings)) / 4e-3;
            assert!((numeric - f64::from(value(-0.9).d_logprobs[0])).abs() < 1e-4, "{kl_estimator:?}");
        }
    }

    /// Three responses of one advantage each: inside the clip, outside where the gradient goes, outside where it stays.
    #[test]
    fn the_ratio_of_a_sequence_equals_finite_differences() {
        let settings = LossSettings { ratio: Ratio::Sequence, kl: 0.0, entropy: 0.0, ..settings() };
        let lengths = [3, 2, 2];
        let logprobs = [-0.5f32, -0.9, -1.5, -0.2, -0.3, -0.4, -0.2];
        let old = [-0.6f32, -0.7, -1.6, -1.2, -0.8, -1.0, -0.9];
        let advantages = [1.0f32, 1.0, 1.0, 0.7, 0.7, -0.5, -0.5];
        let weights = Aggregation::SeqMeanTokenMean.sequence_weights(&lengths);
        let spread = |values: &[f32]| -> Vec<f32> { values.iter().zip(lengths).flat_map(|(value, n)| vec![*value; n]).collect() };
        let value = |logprobs: &[f32]| {
            let mut start = 0;
            let ratios = lengths.map(|n| {
                let range = start..start + n;
                start += n;
                sequence_log_ratio(&logprobs[range.clone()], &old[range])
            });
            let (log_ratios, weights) = (spread(&ratios), spread(&weights));
            let tokens = Tokens { logprobs, entropies: &[0.0; 7], old: Some(&old), log_ratios: Some(&log_ratios), ..NOTHING };
            token_loss(&settings, Tokens { advantages: &advantages, weights: &weights, ..tokens })
        };
        let loss = value(&logprobs);
        for i in 0..logprobs.len() {
            let at = |h: f32| {
                let mut moved = logprobs;
                moved[i] += h;
                value(&moved).terms.loss(&settings)
            };
            let numeric = (at(1e-3) - at(-1e-3)) / 2e-3;
            assert!((numeric - f64::from(loss.d_logprobs[i])).abs() < 1e-4, "token {i}: {numeric} against {}", loss.d_logprobs[i]);
        }
        assert_eq!(loss.terms.clipped, 2.0, "both tokens of the second response");
    }

    /// The weight is a constant: the differences are taken with old log-probabilities that move along.
    #[test]
    fn a_clipped_weight_keeps_every_tokens_gradient() {
        let settings = LossSettings { surrogate: Surrogate::Cispo, clip_low: 1.0, kl: 0.0, entropy: 0.0, ..settings() };
        let (logprobs, old, advantages) = ([-0.5f32, -0.9, -1.5, -2.0], [-0.5f32, -0.1, -2.5, -2.1], [1.0f32, -1.0, 0.5, 0.0]);
        let value = |h: f32| {
            let (logprobs, old) = (logprobs.map(|logprob| logprob + h), old.map(|old| old + h));
            let tokens = Tokens { logprobs: &logprobs, entropies: &[0.0; 4], old: Some(&old), ..NOTHING };
            token_loss(&settings, Tokens { advantages: &advantages, weights: &[0.25; 4], ..tokens })
        };
        let numeric = (value(1e-2).terms.loss(&settings) - value(-1e-2).terms.loss(&settings)) / 2e-2;
        let loss = value(0.0);
        assert!((numeric - f64::from(loss.d_logprobs.iter().sum::<f32>())).abs() < 1e-4);
        // Ratios 1, e^-0.8 (no lower bound), e^1 (clipped to 1.3), and an advantage of 0.
        let expected = [-0.9 * 0.25, 0.9 * 0.25 * (-0.8f32).exp(), -0.9 * 0.25 * 1.3 * 0.5, 0.0];
        assert!(loss.d_logprobs.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{:?}", loss.d_logprobs);
        assert_eq!(loss.terms.clipped, 1.0);
    }

    #[test]
    fn on_policy_the_gradient_is_the_advantage() {
        let tokens = Tokens {
            logprobs: &[-1.0, -2.0],
            entropies: &[0.0; 2],
            old: None,
            log_ratios: None,
            reference: None,
            advantages: &[1.5, -0.5],
            weights: &[0.5; 2],
        };
        let loss = token_loss(&LossSettings { kl: 0.0, entropy: 0.0, ..LossSettings::default() }, tokens);
        assert_eq!(loss.d_logprobs, [-0.75, 0.25]);
        assert_eq!(loss.terms.policy, -0.5);
    }

    #[test]
    fn extreme_ratios_stay_finite() {
        for (logprob, old) in [(0.0, -500.0), (-500.0, 0.0)] {
            let tokens = Tokens {
                logprobs: &[logprob],
                entropies: &[0.0],
                old: Some(&[old]),
                log_ratios: None,
                reference: Some(&[old]),
                advantages: &[-1.0],
                weights: &[1.0],
            };
            let loss = token_loss(&settings(), tokens);
            assert!(loss.d_logprobs[0].is_finite() && loss.terms.loss(&settings()).is_finite());
        }
    }
}
