//! The per-token loss of GRPO and PPO, and its derivatives by log-probability and entropy.

use serde::{Deserialize, Serialize};

use super::aggregation::Aggregation;

/// The terms of the loss; a coefficient of 0 turns a term off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossSettings {
    /// Coefficient of the clipped policy loss.
    pub policy: f32,
    /// The ratio is clipped below at 1 - clip_low.
    pub clip_low: f32,
    /// The ratio is clipped above at 1 + clip_high.
    pub clip_high: f32,
    /// Coefficient of the k3 KL divergence from the reference.
    pub kl: f32,
    /// Coefficient of the entropy bonus.
    pub entropy: f32,
    /// Divide advantages by the group's standard deviation.
    pub advantage_std: bool,
    /// The mean over tokens and sequences.
    pub aggregation: Aggregation,
}

impl Default for LossSettings {
    /// The published run's.
    fn default() -> Self {
        Self {
            policy: 1.0,
            clip_low: 0.2,
            clip_high: 0.2,
            kl: 0.001,
            entropy: 0.001,
            advantage_std: true,
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
    /// KL divergence from the reference (k3), before its coefficient.
    pub kl: f64,
    /// Entropy, before its coefficient.
    pub entropy: f64,
    /// Tokens whose ratio was clipped and whose gradient is 0 for it.
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

/// `sum over tokens of weight * (policy * -min(ratio A, clip(ratio) A) + kl * k3 - entropy * H)` with its derivatives.
pub fn token_loss(settings: &LossSettings, tokens: Tokens) -> TokenLoss {
    let mut loss = TokenLoss { d_logprobs: Vec::with_capacity(tokens.logprobs.len()), ..TokenLoss::default() };
    loss.d_entropies = tokens.weights.iter().map(|weight| -settings.entropy * weight).collect();
    for (i, logprob) in tokens.logprobs.iter().enumerate() {
        let (weight, advantage) = (tokens.weights[i], tokens.advantages[i]);
        let old = tokens.old.map_or(*logprob, |old| old[i]);
        let (policy, d_policy, clipped) = clipped_policy(logprob - old, advantage, settings);
        let (kl, d_kl) = tokens.reference.map_or((0.0, 0.0), |reference| k3(reference[i] - logprob));
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

/// The k3 estimator (Schulman 2020) for d = reference - policy log-probability: `e^d - d - 1`, at most 10, and its derivative by the policy's.
fn k3(difference: f32) -> (f32, f32) {
    let d = difference.clamp(-20.0, 20.0);
    let value = d.exp_m1() - d;
    if value > 10.0 || d != difference { (value.min(10.0), 0.0) } else { (value, -d.exp_m1()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> LossSettings {
        LossSettings { policy: 0.9, clip_low: 0.2, clip_high: 0.3, kl: 0.05, entropy: 0.02, ..LossSettings::default() }
    }

    /// Ratios inside and outside the clip on both sides, with advantages of both signs.
    #[test]
    fn derivatives_equal_finite_differences() {
        let logprobs = [-0.5f32, -0.9, -1.5, -0.5, -1.0, -2.0, -0.3, -0.35];
        let old = [-0.5f32, -0.5, -1.0, -1.2, -1.8, -2.1, -0.25, -0.3];
        let reference = [-0.6f32, -0.4, -1.5, -0.9, -3.0, -1.0, -0.2, -0.31];
        let advantages = [1.0f32, -1.0, 1.0, 1.0, -1.0, 0.0, -0.7, 2.0];
        let weights = [0.1f32, 0.2, 0.3, 0.1, 0.1, 0.2, 0.05, 0.15];
        let value = |logprobs: &[f32], entropies: &[f32]| {
            let tokens =
                Tokens { logprobs, entropies, old: Some(&old), reference: Some(&reference), advantages: &advantages, weights: &weights };
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
    fn on_policy_the_gradient_is_the_advantage() {
        let tokens = Tokens {
            logprobs: &[-1.0, -2.0],
            entropies: &[0.0; 2],
            old: None,
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
                reference: Some(&[old]),
                advantages: &[-1.0],
                weights: &[1.0],
            };
            let loss = token_loss(&settings(), tokens);
            assert!(loss.d_logprobs[0].is_finite() && loss.terms.loss(&settings()).is_finite());
        }
    }
}
