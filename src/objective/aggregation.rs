//! Aggregates per-token losses into one number. Each token gets a weight that only depends on the lengths of the sequences, so the weights
//! are known before any loss is computed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How the loss averages over the tokens and sequences of a mini-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Aggregation {
    /// The mean over all tokens of the mini-batch.
    TokenMean,
    /// The mean over sequences of the mean over each sequence's tokens.
    SeqMeanTokenMean,
    /// The mean over sequences of the sum over each sequence's tokens.
    SeqMeanTokenSum,
    /// Like [`Self::SeqMeanTokenSum`], divided by a constant number of tokens.
    SeqMeanTokenSumNorm(usize),
    /// The aggregation of the published code: the token mean of each logical micro-batch of N consecutive sequences, weighted by the
    /// micro-batch's share of the sequences. Independent of how tokens are actually packed.
    MicrobatchTokenMean(usize),
}

impl Aggregation {
    /// Returns the weight of each sequence's tokens, so that the loss is the sum over all tokens of `weight * token loss`. `lengths` has
    /// the number of tokens of each sequence in the mini-batch, including empty sequences, which count in means over sequences.
    pub fn sequence_weights(self, lengths: &[usize]) -> Vec<f32> {
        let sequences = lengths.len() as f64;
        let reciprocal = |denominator: f64| if denominator > 0.0 { (1.0 / denominator) as f32 } else { 0.0 };
        match self {
            Self::TokenMean => vec![reciprocal(lengths.iter().sum::<usize>() as f64); lengths.len()],
            Self::SeqMeanTokenMean => lengths.iter().map(|length| reciprocal(sequences * *length as f64)).collect(),
            Self::SeqMeanTokenSum => vec![reciprocal(sequences); lengths.len()],
            Self::SeqMeanTokenSumNorm(norm) => vec![reciprocal(sequences * norm as f64); lengths.len()],
            Self::MicrobatchTokenMean(size) => {
                let micro_batch = |chunk: &[usize]| {
                    let tokens: usize = chunk.iter().sum();
                    vec![reciprocal(tokens as f64 * sequences / chunk.len() as f64); chunk.len()]
                };
                lengths.chunks(size).flat_map(micro_batch).collect()
            }
        }
    }
}

impl fmt::Display for Aggregation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenMean => f.write_str("token-mean"),
            Self::SeqMeanTokenMean => f.write_str("seq-mean-token-mean"),
            Self::SeqMeanTokenSum => f.write_str("seq-mean-token-sum"),
            Self::SeqMeanTokenSumNorm(n) => write!(f, "seq-mean-token-sum-norm({n})"),
            Self::MicrobatchTokenMean(n) => write!(f, "microbatch-token-mean({n})"),
        }
    }
}

impl FromStr for Aggregation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            let known = "token-mean, seq-mean-token-mean, seq-mean-token-sum, seq-mean-token-sum-norm(N), microbatch-token-mean(N)";
            format!("unknown aggregation \"{text}\"; expected one of {known}")
        };
        let (name, argument) = match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
            Some((name, argument)) => (name, Some(argument.trim().parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(unknown)?)),
            None => (text, None),
        };
        match (name, argument) {
            ("token-mean", None) => Ok(Self::TokenMean),
            ("seq-mean-token-mean", None) => Ok(Self::SeqMeanTokenMean),
            ("seq-mean-token-sum", None) => Ok(Self::SeqMeanTokenSum),
            ("seq-mean-token-sum-norm", Some(n)) => Ok(Self::SeqMeanTokenSumNorm(n)),
            ("microbatch-token-mean", Some(n)) => Ok(Self::MicrobatchTokenMean(n)),
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for Aggregation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Aggregation> for String {
    fn from(aggregation: Aggregation) -> String {
        aggregation.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: &[f32]) {
        let aggregation: Aggregation = name.parse().unwrap();
        assert_eq!(aggregation.to_string(), name);
        assert_eq!(aggregation.sequence_weights(&[1, 3, 4]), expected, "{name}");
    }

    #[test]
    fn sequence_weights_by_hand() {
        check("token-mean", &[1.0 / 8.0; 3]);
        check("seq-mean-token-mean", &[1.0 / 3.0, 1.0 / 9.0, 1.0 / 12.0]);
        check("seq-mean-token-sum", &[1.0 / 3.0; 3]);
        check("seq-mean-token-sum-norm(10)", &[1.0 / 30.0; 3]);
        // Micro-batches (1, 3) and (4): means over 4 tokens each, weighted 2/3 and 1/3.
        check("microbatch-token-mean(2)", &[1.0 / 6.0, 1.0 / 6.0, 1.0 / 12.0]);
    }

    #[test]
    fn from_str_lists_the_valid_names() {
        for bad in ["mean", "token-mean(3)", "microbatch-token-mean", "microbatch-token-mean(0)"] {
            assert!(bad.parse::<Aggregation>().unwrap_err().contains("expected one of token-mean"), "{bad}");
        }
    }
}
