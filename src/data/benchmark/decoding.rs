//! The decoding settings of a benchmark and their text form: `greedy`, `t0.6x8`, `t0.6p0.95x8`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How the responses to a benchmark are sampled. Parses from and prints as `greedy`, `t0.6x8` or `t0.6p0.95x8`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Decoding {
    /// The sampling temperature; 0 is greedy.
    pub temperature: f64,
    /// Nucleus sampling: keeps the most likely tokens until their total probability reaches this value; 1 keeps all.
    pub top_p: f64,
    /// The number of responses per problem; the problem's score is their mean.
    pub samples: usize,
}

impl Decoding {
    /// One response per problem, always the most likely token.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, samples: 1 };
    /// avg@8: the mean over eight responses at temperature 0.6. A single response would make scores on small sets too noisy.
    pub const AVG_AT_8: Self = Self { temperature: 0.6, top_p: 1.0, samples: 8 };
}

impl fmt::Display for Decoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::GREEDY {
            return f.write_str("greedy");
        }
        let nucleus = if self.top_p < 1.0 { format!("p{}", self.top_p) } else { String::new() };
        write!(f, "t{}{nucleus}x{}", self.temperature, self.samples)
    }
}

impl FromStr for Decoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "greedy" {
            return Ok(Self::GREEDY);
        }
        let parse = || {
            let (sampling, samples) = text.strip_prefix('t')?.split_once('x')?;
            let (temperature, top_p) = sampling.split_once('p').unwrap_or((sampling, "1"));
            let decoding = Self { temperature: temperature.parse().ok()?, top_p: top_p.parse().ok()?, samples: samples.parse().ok()? };
            let is_valid = decoding.temperature > 0.0 && decoding.temperature.is_finite() && decoding.top_p > 0.0 && decoding.top_p <= 1.0;
            (is_valid && decoding.samples > 0).then_some(decoding)
        };
        parse().ok_or_else(|| {
            format!(
                "{text:?} is not a decoding; expected greedy, t0.6x8 (8 samples at temperature 0.6) or t0.6p0.95x8 (the same with top-p 0.95)"
            )
        })
    }
}

impl TryFrom<String> for Decoding {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Decoding> for String {
    fn from(decoding: Decoding) -> String {
        decoding.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_parses_and_prints() {
        let check = |text: &str, temperature: f64, top_p: f64, samples: usize| {
            let decoding: Decoding = text.parse().unwrap();
            assert_eq!((decoding, decoding.to_string().as_str()), (Decoding { temperature, top_p, samples }, text));
        };
        check("greedy", 0.0, 1.0, 1);
        check("t0.6x8", 0.6, 1.0, 8);
        check("t1p0.95x1", 1.0, 0.95, 1);
        for bad in ["", "t0x8", "t0.6", "t0.6x0", "t0.6p0x8", "t0.6p1.5x8", "0.6x8", "tx8", "t-1x1", "tinfx1", "t0.6x8 "] {
            assert!(bad.parse::<Decoding>().unwrap_err().contains("expected greedy, t0.6x8"), "{bad}");
        }
    }
}
