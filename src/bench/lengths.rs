//! Samples realistic response lengths: log-normal, capped at a maximum length.
//!
//! A length is `X = min(exp(N(mu, sigma^2)), L)`. Let Phi be the standard normal distribution function and z its 97% quantile. If `ln L =
//! mu + z sigma`, then 3% of all lengths are capped, and the mean after capping is
//!
//! ```text
//! E[X] = exp(mu + sigma^2 / 2) Phi(z - sigma) + 0.03 L = L (exp(sigma^2 / 2 - z sigma) Phi(z - sigma) + 0.03)
//! ```
//!
//! This mean falls from L at sigma = 0 toward 0.03 L as sigma grows. Bisection therefore finds the only sigma for a mean in between.

use std::f64::consts::SQRT_2;
use std::str::FromStr;

use candle_core::cpu::erf::erf_f64;

use crate::rng::{Purpose, Stream};

/// The fraction of lengths that are capped.
const CAPPED_SHARE: f64 = 0.03;
/// The 97% quantile of the standard normal distribution.
const Z_97: f64 = 1.880_793_608_151_250_8;
/// The seed of the lengths.
const SEED: u64 = 0;
/// Upper limit of the search for sigma. At this sigma the capped lengths determine the mean to 15 digits.
const MAX_SIGMA: f64 = 64.0;

/// A log-normal distribution of lengths in tokens, written `MEAN:LONGEST`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogNormal {
    /// Mean of the logarithm.
    mu: f64,
    /// Standard deviation of the logarithm.
    sigma: f64,
    /// Maximum length in tokens.
    longest: usize,
}

impl LogNormal {
    /// Returns the distribution that has mean `mean` and caps 3% of the lengths at `longest` tokens.
    ///
    /// # Errors
    /// If `mean` is not above 3% of `longest` and below `longest`: no such distribution exists.
    pub fn new(mean: f64, longest: u32) -> Result<Self, String> {
        let top = f64::from(longest);
        if !(mean > CAPPED_SHARE * top && mean < top) {
            return Err(format!(
                "log-normal lengths of which 3% are capped at {longest} cannot have a mean of {mean}: choose a mean above {} and below {longest}, as in lognormal:760:3072",
                CAPPED_SHARE * top
            ));
        }
        let (mut low, mut high) = (0.0, MAX_SIGMA);
        for _ in 0..200 {
            let middle = (low + high) / 2.0;
            *(if capped_mean(middle) * top > mean { &mut low } else { &mut high }) = middle;
        }
        Ok(Self { mu: top.ln() - Z_97 * low, sigma: low, longest: longest as usize })
    }

    /// Returns `count` random lengths of at least 1 token each. The seed is fixed, so a smaller count returns a prefix of the same sequence.
    pub fn sample(&self, count: usize) -> Vec<usize> {
        let mut stream = Stream::new(SEED, Purpose::Lengths, 0);
        let length = |_| (self.mu + self.sigma * f64::from(stream.normal())).exp().round() as usize;
        (0..count).map(length).map(|length| length.clamp(1, self.longest)).collect()
    }
}

/// Returns the mean after capping, as a fraction of the longest length.
fn capped_mean(sigma: f64) -> f64 {
    let phi = |x: f64| (1.0 + erf_f64(x / SQRT_2)) / 2.0;
    (sigma * sigma / 2.0 - Z_97 * sigma).exp() * phi(Z_97 - sigma) + CAPPED_SHARE
}

impl FromStr for LogNormal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once(':').and_then(|(mean, longest)| Some((mean.parse::<f64>().ok()?, longest.parse::<u32>().ok()?)));
        let (mean, longest) = numbers.ok_or_else(|| {
            format!("\"{text}\" is not MEAN:LONGEST: write the mean and the longest length in tokens, as in lognormal:760:3072")
        })?;
        Self::new(mean, longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) {
        let (mean, longest) = text.split_once(':').unwrap();
        let (mean, longest): (f64, usize) = (mean.parse().unwrap(), longest.parse().unwrap());
        let lengths = text.parse::<LogNormal>().unwrap().sample(1_000_000);
        let found = lengths.iter().sum::<usize>() as f64 / lengths.len() as f64;
        assert!((found / mean - 1.0).abs() < 0.005, "{text}: a mean of {found}");
        let capped = lengths.iter().filter(|length| **length == longest).count() as f64 / lengths.len() as f64;
        assert!((capped - 0.03).abs() < 0.002, "{text}: {capped} are capped");
        assert!(lengths.iter().all(|length| (1..=longest).contains(length)));
    }

    #[test]
    fn log_normal_sample_has_the_requested_mean_and_capped_share() {
        for text in ["760:3072", "3000:3072", "200:3072", "1100.5:8192"] {
            check(text);
        }
    }

    /// The lengths must not change, because published measurements depend on them.
    #[test]
    fn log_normal_sample_returns_the_published_lengths() {
        let lengths = "760:3072".parse::<LogNormal>().unwrap();
        let sampled = lengths.sample(1024);
        assert_eq!(sampled[..8], lengths.sample(8));
        assert!((lengths.mu - 6.247_904_489_674).abs() < 1e-9 && (lengths.sigma - 0.947_567_876_066).abs() < 1e-9, "{lengths:?}");
        assert_eq!(sampled[..8], [319, 160, 346, 632, 900, 3072, 508, 823]);
        assert_eq!((sampled.iter().sum::<usize>(), sampled.iter().max()), (801_281, Some(&3072)));
    }

    #[test]
    fn log_normal_refuses_impossible_means() {
        let refused = |text: &str, expected: &str| {
            let error = text.parse::<LogNormal>().unwrap_err();
            assert!(error.contains(expected) && error.contains("as in lognormal:760:3072"), "{text}: {error}");
        };
        refused("3072:760", "have a mean of 3072: choose a mean above 22.8 and below 760");
        refused("760:760", "choose a mean above 22.8 and below 760");
        refused("20:3072", "choose a mean above 92.16 and below 3072");
        refused("0:3072", "have a mean of 0");
        refused("760:0", "have a mean of 760: choose a mean above 0 and below 0");
        for text in ["", "760", "760:", "a:b", "760:3072:1", "760:-1", "760:1.5"] {
            refused(text, "is not MEAN:LONGEST");
        }
        refused("nan:3072", "have a mean of NaN");
        refused("inf:3072", "have a mean of inf");
    }
}
