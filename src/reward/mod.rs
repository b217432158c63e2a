//! Rewards: functions of a response and its reference answer, by name. A reward knows no model and no file; what it needs is passed in.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::objective::KlEstimator;
use crate::verify::{self, Grader, Mode, Verdict};

/// How responses are rewarded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardSettings {
    /// Which reward, by name.
    pub name: String,
    /// Whose notion of equality decides what is right.
    pub grader: Grader,
    /// Grade only what follows the last `</think>`; a response without one is wrong.
    pub after_think: bool,
    /// Reward this answer instead of the example's own; empty keeps it.
    pub label: String,
    /// Coefficient of the KL divergence from the reference that each token's reward is lowered by.
    pub kl: f32,
    /// Its estimator.
    pub kl_estimator: KlEstimator,
    /// Tokens before `rollout.max_new` over which a penalty grows to 1 (DAPO's overlong shaping); 0 is off.
    pub overlong_buffer: usize,
}

impl Default for RewardSettings {
    fn default() -> Self {
        Self {
            name: "outcome".into(),
            grader: Grader::Strict,
            after_think: false,
            label: String::new(),
            kl: 0.0,
            kl_estimator: KlEstimator::K1,
            overlong_buffer: 0,
        }
    }
}

/// What a reward is computed from.
pub struct Graded<'a> {
    /// The response's text.
    pub response: &'a str,
    /// What the verifier says of it.
    pub verdict: &'a Verdict,
}

/// A reward by name.
#[derive(Clone, Copy)]
pub struct Reward {
    /// What settings call it.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// The reward of a response.
    pub compute: fn(&Graded) -> f32,
}

/// All rewards.
pub const REWARDS: [Reward; 2] = [
    Reward {
        name: "outcome",
        about: "1 where the last complete \\boxed{} holds the right answer",
        compute: |graded| f32::from(graded.verdict.correct),
    },
    Reward {
        name: "format",
        about: "1 where an answer can be extracted at all",
        compute: |graded| f32::from(graded.verdict.extracted.is_some()),
    },
];

/// Finds a reward; an unknown name lists the known ones.
pub fn by_name(name: &str) -> Result<Reward> {
    match REWARDS.iter().find(|reward| reward.name == name) {
        Some(reward) => Ok(*reward),
        None => bail!("unknown reward \"{name}\"; known are {}", REWARDS.map(|reward| reward.name).join(", ")),
    }
}

/// The verdict on a training response.
pub fn grade(settings: &RewardSettings, answer: &str, response: &str) -> Verdict {
    let gold = if settings.label.is_empty() { answer } else { &settings.label };
    verify::verify(gold, response, &verify::Settings { mode: Mode::Reward, grader: settings.grader, after_think: settings.after_think })
}
