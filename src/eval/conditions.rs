//! What a score was measured under: everything that moves it, as it stands beside it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::answerer::Identity;
use super::sets::EvalSet;
use super::settings::EvalSettings;
use crate::data::benchmark::Decoding;
use crate::verify::{self, Grader};

/// The conditions of one pass over one set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Who answered and with what.
    #[serde(flatten)]
    pub identity: Identity,
    /// The set's name.
    pub set: String,
    /// How many of its problems were asked.
    pub problems: usize,
    /// The sha256 of the file that the problems are from; empty for those that are from none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data_sha256: String,
    /// The sha256 of the problems as they were asked and graded: a JSON line each.
    pub problems_sha256: String,
    /// Most tokens in a response.
    pub max_new: usize,
    /// 0 is greedy.
    pub temperature: f64,
    /// Only the likeliest tokens that together reach this probability; 1 is all.
    #[serde(default = "everything")]
    pub top_p: f64,
    /// Responses to each problem.
    pub samples: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// Whose notion of equality decides.
    pub grader: Grader,
    /// Which verdicts that notion gives.
    pub grader_version: u32,
    /// The program's version.
    pub rlvr: String,
}

fn everything() -> f64 {
    1.0
}

impl Conditions {
    /// Of a pass that is about to be made.
    pub fn of(identity: &Identity, set: &EvalSet, decoding: Decoding, settings: &EvalSettings) -> Self {
        let mut problems = Sha256::new();
        for problem in &set.problems {
            // A record of texts is always JSON.
            problems.update(serde_json::to_vec(&**problem).unwrap_or_default());
            problems.update(b"\n");
        }
        Self {
            identity: identity.clone(),
            set: set.name.clone(),
            problems: set.problems.len(),
            data_sha256: set.data_sha256.clone(),
            problems_sha256: problems.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            max_new: settings.max_new,
            temperature: decoding.temperature,
            top_p: decoding.top_p,
            samples: decoding.samples,
            seed: settings.seed,
            grader: settings.grader,
            grader_version: verify::VERSION,
            rlvr: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// What differs from others, as `name: theirs, here ours`.
    pub fn differences(&self, others: &Self) -> Vec<String> {
        let fields = |conditions: &Self| match serde_json::to_value(conditions) {
            Ok(Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let (ours, theirs) = (fields(self), fields(others));
        let names = ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name)));
        let word = |value: Option<&Value>| value.map_or_else(|| "none".to_owned(), Value::to_string);
        names
            .filter(|name| ours.get(*name) != theirs.get(*name))
            .map(|name| format!("{name}: {}, here {}", word(theirs.get(name)), word(ours.get(name))))
            .collect()
    }
}
