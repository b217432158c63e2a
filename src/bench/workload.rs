//! The benchmark's workloads and their names.

use std::fmt;
use std::str::FromStr;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Scores all responses, each after its own copy of the prompt.
    Score,
    /// Samples all responses.
    Rollout,
    /// Computes the reference model, the gradient and the optimizer step for all responses.
    Update,
    /// Samples all responses, then updates the policy on them.
    Step,
    /// Computes the reference model and the gradient of each worker's first micro-batch. Short enough for a profiler.
    MicroBatch,
    /// Runs this number of decode passes with one token per sequence, after the prompt and a response.
    Decode(usize),
}

/// Default number of decode passes.
const DEFAULT_PASSES: usize = 20;
/// Largest number of decode passes.
const MAX_PASSES: usize = 10_000;
/// The names of the workloads, for messages and help texts.
pub const WORKLOADS: &str = "score, rollout, update, step, micro-batch, decode[:PASSES]";

impl Workload {
    /// Parses workloads separated by commas, such as `rollout,decode:20`.
    ///
    /// # Errors
    /// If a name is unknown, or a number of passes is out of range.
    pub fn list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(|name| name.trim().parse()).collect()
    }

    /// Returns true if the workload needs a trainer, with gradients and an optimizer.
    pub fn trains(self) -> bool {
        matches!(self, Self::Update | Self::Step | Self::MicroBatch)
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.split_once(':') {
            None if text == "score" => Self::Score,
            None if text == "rollout" => Self::Rollout,
            None if text == "update" => Self::Update,
            None if text == "step" => Self::Step,
            None if text == "micro-batch" => Self::MicroBatch,
            None if text == "decode" => Self::Decode(DEFAULT_PASSES),
            Some(("decode", passes)) => match passes.parse() {
                Ok(passes @ 1..=MAX_PASSES) => Self::Decode(passes),
                _ => {
                    return Err(format!("decode:{passes} has an invalid number of passes; expected a whole number from 1 to {MAX_PASSES}"));
                }
            },
            _ => return Err(format!("unknown workload \"{text}\"; expected one of {WORKLOADS}")),
        })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Score => f.write_str("score"),
            Self::Rollout => f.write_str("rollout"),
            Self::Update => f.write_str("update"),
            Self::Step => f.write_str("step"),
            Self::MicroBatch => f.write_str("micro-batch"),
            Self::Decode(passes) => write!(f, "decode:{passes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workload_list_parses_names_and_refuses_unknown_ones() {
        let workloads = Workload::list("score, rollout,update,step,micro-batch,decode:7").unwrap();
        let names: Vec<String> = workloads.iter().map(Workload::to_string).collect();
        assert_eq!(names, ["score", "rollout", "update", "step", "micro-batch", "decode:7"]);
        assert_eq!(Workload::list("decode").unwrap(), [Workload::Decode(20)]);
        let refused = |text: &str, expected: &str| assert!(Workload::list(text).unwrap_err().contains(expected), "{text}");
        refused("rollout,sleep", "unknown workload \"sleep\"; expected one of score, rollout");
        refused("", "unknown workload \"\"");
        refused("decode:0", "expected a whole number from 1 to 10000");
        refused("decode:many", "expected a whole number from 1 to 10000");
        refused("rollout:3", "unknown workload \"rollout:3\"");
    }
}
