//! The measurement conditions of a score: everything that can affect it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::generator::Identity;
use super::sets::EvalSet;
use super::settings::EvalSettings;
use crate::data::benchmark::Decoding;
use crate::verify::{self, Grader};

/// The conditions of one pass over one set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// The model, the machine and the version of the weights.
    #[serde(flatten)]
    pub identity: Identity,
    /// The set's name.
    pub set: String,
    /// The number of problems.
    pub problems: usize,
    /// SHA-256 of the file with the problems; empty if they are not from a file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data_sha256: String,
    /// SHA-256 of the problems as JSON lines, with everything that affects prompts and grading.
    pub problems_sha256: String,
    /// The maximum number of tokens in a response.
    #[serde(rename = "max_new")]
    pub max_new_tokens: usize,
    /// Sampling temperature; 0 is greedy decoding.
    pub temperature: f64,
    /// Nucleus sampling: keeps the most likely tokens that together reach this probability; 1 keeps all.
    #[serde(default = "one")]
    pub top_p: f64,
    /// The number of responses per problem.
    pub samples: usize,
    /// The seed for sampling tokens.
    pub seed: u64,
    /// The grader that decides whether answers are correct.
    pub grader: Grader,
    /// The version of the grader ([`verify::VERSION`]).
    pub grader_version: u32,
    /// The version of this program.
    pub rlvr: String,
}

fn one() -> f64 {
    1.0
}

impl Conditions {
    /// Collects the conditions of a pass that is about to run.
    pub fn of(identity: &Identity, set: &EvalSet, decoding: Decoding, settings: &EvalSettings) -> Self {
        let mut problems = Sha256::new();
        for problem in &set.problems {
            // Serializing a plain record never fails.
            problems.update(serde_json::to_vec(&**problem).unwrap_or_default());
            problems.update(b"\n");
        }
        Self {
            identity: identity.clone(),
            set: set.name.clone(),
            problems: set.problems.len(),
            data_sha256: set.data_sha256.clone(),
            problems_sha256: problems.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            max_new_tokens: settings.max_new_tokens,
            temperature: decoding.temperature,
            top_p: decoding.top_p,
            samples: decoding.samples,
            seed: settings.seed,
            grader: settings.grader,
            grader_version: verify::VERSION,
            rlvr: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Lists the fields that differ from `others`, as `name: THEIRS, here OURS`.
    pub fn differences(&self, others: &Self) -> Vec<String> {
        let fields = |conditions: &Self| match serde_json::to_value(conditions) {
            Ok(Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let (ours, theirs) = (fields(self), fields(others));
        let names = ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name)));
        let shown = |value: Option<&Value>| value.map_or_else(|| "none".to_owned(), Value::to_string);
        names
            .filter(|name| ours.get(*name) != theirs.get(*name))
            .map(|name| format!("{name}: {}, here {}", shown(theirs.get(name)), shown(ours.get(name))))
            .collect()
    }
}
