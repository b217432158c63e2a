//! The per-token loss of GRPO, PPO and related algorithms, and its derivatives with respect to log-probability and entropy.

use serde::{Deserialize, Serialize};

use super::aggregation::Aggregation;
use super::kl::KlEstimator;

/// The terms of the loss. A coefficient of 0 turns a term off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossSettings {
    /// Coefficient of the policy loss; with 0, rewards have no effect.
    pub policy: f32,
    /// Whether the probability ratio of policy to old policy is per token or per response.
    pub ratio: Ratio,
    /// How ratio and advantage form the surrogate objective.
    pub surrogate: Surrogate,
    /// The clipped ratio is at least 1 - clip_low.
    pub clip_low: f32,
    /// The clipped ratio is at most 1 + clip_high.
    pub clip_high: f32,
    /// Coefficient of the KL divergence from the reference.
    pub kl: f32,
    /// The estimator of the KL divergence.
    pub kl_estimator: KlEstimator,
    /// Coefficient of the entropy bonus; its initial value if it has a schedule.
    pub entropy: f32,
    /// Final coefficient of the linear schedule.
    pub entropy_to: f32,
    /// Number of training steps of the schedule; 0 keeps the coefficient constant.
    pub entropy_steps: u64,
    /// Target entropy in nats per token, to which the coefficient adapts; 0 turns this off.
    pub entropy_target: f32,
    /// Change of the adapted coefficient per training step.
    pub entropy_step: f32,
    /// How token losses become one number.
    pub aggregation: Aggregation,
}

/// What a probability ratio refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ratio {
    /// Each token, as in PPO.
    Token,
    /// The whole response, with its ratio to the power of 1 / length (GSPO, Zheng et al. 2025). If advantages differ within a response,
    /// each token uses its own advantage with the common ratio (GSPO-token in that paper).
    Sequence,
}

/// The surrogate objective, as a function of ratio and advantage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Surrogate {
    /// PPO: the smaller of `ratio A` and `clip(ratio) A`.
    Clip,
    /// CISPO (MiniMax-M1, 2025): `clip(ratio) A log-probability`, where the clipped ratio counts as a constant, so that every token keeps
    /// its gradient.
    Cispo,
}

impl Default for LossSettings {
    /// The settings of the published run.
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

/// The response tokens of a batch. All slices have one number per token.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// Log-probabilities (nats) under the policy.
    pub logprobs: &'a [f32],
    /// Entropies (nats) of the policy.
    pub entropies: &'a [f32],
    /// Log-probabilities (nats) under the old policy; `None` if it is the same policy, so that every ratio is 1.
    pub old: Option<&'a [f32]>,
    /// The log of each token's response ratio ([`sequence_log_ratio`]), in place of its own ratio; `None` for token ratios.
    pub log_ratios: Option<&'a [f32]>,
    /// Log-probabilities (nats) under the reference; `None` only if the KL coefficient is 0.
    pub reference: Option<&'a [f32]>,
    /// Advantages, after any scaling.
    pub advantages: &'a [f32],
    /// Weights in the loss ([`Aggregation::sequence_weights`]).
    pub weights: &'a [f32],
}

/// Sums over tokens: loss terms weighted by the aggregation, and unweighted statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// Weighted policy loss, before its coefficient.
    pub policy: f64,
    /// Weighted KL divergence from the reference, before its coefficient.
    pub kl: f64,
    /// Weighted entropy, before its coefficient.
    pub entropy: f64,
    /// Number of tokens whose ratio was clipped; with PPO's surrogate, only those whose gradient is 0 as a result.
    pub clipped: f64,
    /// Sum of old minus new log-probabilities, in nats: the k1 estimate of the divergence from the old policy.
    pub old_kl: f64,
    /// Sum of the entropies, in nats.
    pub token_entropy: f64,
    /// Number of tokens.
    pub tokens: f64,
}

/// The loss of a range of tokens, with its derivatives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLoss {
    /// Sums of the terms.
    pub terms: Terms,
    /// dL/d(log-probability) of each token.
    pub d_logprobs: Vec<f32>,
    /// dL/d(entropy) of each token.
    pub d_entropies: Vec<f32>,
}

impl Terms {
    /// Returns the loss to minimize: the weighted terms times their coefficients, with the entropy subtracted.
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

    /// Divides a sum over tokens by the number of tokens; 0 if there are none.
    pub fn per_token(&self, sum: f64) -> f64 {
        if self.tokens > 0.0 { sum / self.tokens } else { 0.0 }
    }
}

/// Computes `sum over tokens of weight * (policy * -surrogate(ratio, A) + kl * KL - entropy * H)` and its derivatives.
///
/// # Panics
/// If a slice is shorter than the log-probabilities.
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

/// Returns the loss of PPO's clipped surrogate (Schulman et al. 2017), its derivative with respect to the log-probability, and true if
/// clipping removed the gradient.
fn clipped_policy(log_ratio: f32, advantage: f32, settings: &LossSettings) -> (f32, f32, bool) {
    // Without this bound the ratio could overflow. Clipping takes effect far below it.
    let ratio = log_ratio.clamp(-20.0, 20.0).exp();
    let bounded = ratio.clamp(1.0 - settings.clip_low, 1.0 + settings.clip_high);
    let (unclipped, clipped) = (-advantage * ratio, -advantage * bounded);
    if clipped > unclipped { (clipped, 0.0, true) } else { (unclipped, if log_ratio.abs() > 20.0 { 0.0 } else { unclipped }, false) }
}

/// Returns the loss of CISPO's surrogate, its derivative with respect to the log-probability, and true if the weight was clipped.
fn weighted_logprob(logprob: f32, log_ratio: f32, advantage: f32, settings: &LossSettings) -> (f32, f32, bool) {
    let ratio = log_ratio.clamp(-20.0, 20.0).exp();
    let weight = ratio.clamp(1.0 - settings.clip_low, 1.0 + settings.clip_high);
    (-advantage * weight * logprob, -advantage * weight, weight != ratio)
}

/// Returns the log of a response's ratio in GSPO: the mean over its tokens of the new minus the old log-probability; 0 if it has no tokens.
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

    const NO_TOKENS: Tokens =
        Tokens { logprobs: &[], entropies: &[], old: None, log_ratios: None, reference: None, advantages: &[], weights: &[] };

    /// Tests ratios inside and outside the clip range on both sides, with advantages of both signs.
    #[test]
    fn token_loss_derivatives_equal_finite_differences() {
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
        // Tokens 1 (ratio 0.67, A < 0) and 3 (ratio 2.0, A > 0) are clipped; 2 and 4 are outside the range on the side that keeps the
        // gradient.
        assert_eq!(loss.terms.clipped, 2.0);
        assert_eq!(loss.terms.per_token(loss.terms.clipped), 0.25);
    }

    #[test]
    fn token_loss_with_each_kl_estimator_equals_finite_differences() {
        for kl_estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3] {
            let settings = LossSettings { policy: 0.0, kl: 0.5, kl_estimator, ..settings() };
            let value = |logprob: f32| {
                let (weights, reference) = ([0.5], [-1.3]);
                let tokens =
                    Tokens { logprobs: &[logprob], entropies: &[0.0], weights: &weights, reference: Some(&reference), ..NO_TOKENS };
                token_loss(&settings, Tokens { advantages: &[1.0], ..tokens })
            };
            let numeric = (value(-0.898).terms.loss(&settings) - value(-0.902).terms.loss(&settings)) / 4e-3;
            assert!((numeric - f64::from(value(-0.9).d_logprobs[0])).abs() < 1e-4, "{kl_estimator:?}");
        }
    }

    /// Tests three responses with one advantage each: inside the clip range, outside it where the gradient vanishes, and outside it where
    /// the gradient stays.
    #[test]
    fn token_loss_with_sequence_ratios_equals_finite_differences() {
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
            let tokens = Tokens { logprobs, entropies: &[0.0; 7], old: Some(&old), log_ratios: Some(&log_ratios), ..NO_TOKENS };
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

    /// CISPO's weight counts as a constant, so the finite differences shift the old log-probabilities, too.
    #[test]
    fn token_loss_with_cispo_keeps_the_gradient_of_every_token() {
        let settings = LossSettings { surrogate: Surrogate::Cispo, clip_low: 1.0, kl: 0.0, entropy: 0.0, ..settings() };
        let (logprobs, old, advantages) = ([-0.5f32, -0.9, -1.5, -2.0], [-0.5f32, -0.1, -2.5, -2.1], [1.0f32, -1.0, 0.5, 0.0]);
        let value = |h: f32| {
            let (logprobs, old) = (logprobs.map(|logprob| logprob + h), old.map(|old| old + h));
            let tokens = Tokens { logprobs: &logprobs, entropies: &[0.0; 4], old: Some(&old), ..NO_TOKENS };
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
    fn token_loss_gradient_on_policy_is_the_advantage() {
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
    fn token_loss_stays_finite_for_extreme_ratios() {
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
