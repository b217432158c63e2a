//! Rewards: functions of a step's responses, selected by name and combined in a weighted sum ([`Rewards`]), and the labels that responses
//! are graded against ([`label`]). Independent of models and files: a reward declares its inputs ([`Needs`]), and the caller passes them
//! in.

mod brier;
mod command;
pub mod label;
mod length;
mod majority;
pub mod parent_guard;
mod probability;
mod random;
mod sum;
mod think;

#[cfg(test)]
mod testing;

use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

pub use command::ensure_program;
pub use sum::{RewardBreakdown, Rewards};

use crate::config::nearest;
use crate::dist::World;
use crate::flow::{Problem, Prompt, Rollout};
use crate::interrupt::Interrupt;
use crate::objective::KlEstimator;
use crate::verify::{self, Grader, Mode, Verdict};

/// The `reward.*` settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardSettings {
    /// One reward, or a weighted sum of several: `outcome + 0.5*format - 0.1*length(64, 80)`.
    pub name: String,
    /// The grader that decides whether answers are correct.
    pub grader: Grader,
    /// True to grade only the text after the last `</think>`; a response without this tag is wrong.
    pub after_think: bool,
    /// The label that replaces the example's own answer; empty keeps it.
    pub label: String,
    /// The fraction of examples with a wrong label, which is the answer of another example.
    pub label_noise: f64,
    /// The seed for choosing these examples and their labels.
    pub label_seed: u64,
    /// The program of the `command` reward, with its arguments.
    pub command: Vec<String>,
    /// The maximum time in seconds that the program may take for the responses of a step.
    pub command_timeout_s: f64,
    /// The number of tokens before `rollout.max_new_tokens` over which DAPO's overlong penalty grows from 0 to 1; 0 disables it.
    pub overlong_buffer: usize,
    /// The coefficient of the KL divergence from the reference model, which is subtracted from each token's reward.
    pub kl: f32,
    /// The estimator of that divergence.
    pub kl_estimator: KlEstimator,
}

impl Default for RewardSettings {
    fn default() -> Self {
        Self {
            name: "outcome".into(),
            grader: Grader::Strict,
            after_think: false,
            label: String::new(),
            label_noise: 0.0,
            label_seed: 0,
            command: Vec::new(),
            command_timeout_s: 60.0,
            overlong_buffer: 0,
            kl: 0.0,
            kl_estimator: KlEstimator::K1,
        }
    }
}

impl RewardSettings {
    /// Checks the settings, for responses of at most `max_new_tokens` tokens.
    ///
    /// # Errors
    /// If [`Rewards::new`] fails, or if settings contradict each other. The message says what to change.
    pub fn validate(&self, max_new_tokens: usize) -> Result<()> {
        let rewards = Rewards::new(self, max_new_tokens)?;
        ensure!(
            rewards.needs_program() || self.command.is_empty(),
            "reward.command is set, but reward.name is \"{}\": use the reward \"command\", or remove reward.command",
            self.name
        );
        ensure!(
            self.label.is_empty() || self.label_noise == 0.0,
            "reward.label sets every label and reward.label_noise changes a share of them: set one of the two"
        );
        Ok(())
    }

    fn verifier(&self) -> verify::Settings {
        verify::Settings { mode: Mode::Reward, grader: self.grader, after_think: self.after_think }
    }
}

/// A response and its verdict.
pub struct Graded<'a> {
    /// The response. The answer in its problem is the label; empty if the example has none.
    pub rollout: &'a Rollout,
    /// The verdict against the label.
    pub verdict: Verdict,
}

/// The graded responses of a step.
pub struct Batch<'a> {
    /// The responses, group by group.
    pub responses: &'a [Graded<'a>],
    /// The number of responses in each group.
    pub group_size: usize,
    /// The run's seed.
    pub seed: u64,
    /// The training step, counted from 1.
    pub step: u64,
    /// The policy that sampled the responses. Required if [`Rewards::needs_scorer`] is true.
    pub scorer: Option<&'a dyn Scorer>,
    /// Stops waiting for a program when interrupted.
    pub interrupt: &'a Interrupt,
    /// The path of this program, if it can guard a user's program so that it does not outlive the run ([`parent_guard`]).
    pub guard: Option<&'a Path>,
    /// The ranks of the run. All of them compute the rewards together.
    pub world: &'a World,
}

/// Gives rewards access to the policy.
pub trait Scorer {
    /// Tokenizes a text.
    ///
    /// # Errors
    /// If the tokenizer cannot represent the text.
    fn encode(&self, text: &str) -> Result<Vec<u32>>;

    /// Returns the context length: the maximum number of tokens in prompt and continuation.
    fn context_length(&self) -> usize;

    /// Returns the log-probability in nats of each token of each continuation `(prompt, ids)`, at the sampling temperature of training.
    ///
    /// # Errors
    /// If the model's forward pass fails.
    fn logprobs(&self, continuations: &[(&Prompt, Vec<u32>)]) -> Result<Vec<Vec<f32>>>;
}

/// A reward function over the responses of a step.
pub trait Reward {
    /// Returns one finite number for each response, in order.
    ///
    /// # Errors
    /// If a program or the model fails. A bad response is never an error.
    fn of_batch(&self, batch: &Batch) -> Result<Vec<f32>>;
}

/// A reward that depends on each response alone.
struct PerResponse<F>(F);

impl<F: Fn(&Graded) -> f32> Reward for PerResponse<F> {
    fn of_batch(&self, batch: &Batch) -> Result<Vec<f32>> {
        Ok(batch.responses.iter().map(&self.0).collect())
    }
}

/// The inputs that a reward needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// A label for each example.
    pub label: bool,
    /// The policy's probabilities.
    pub scorer: bool,
    /// The user's program.
    pub program: bool,
    /// Boxed answers in the responses.
    pub boxes: bool,
}

impl Needs {
    const NOTHING: Self = Self { label: false, scorer: false, program: false, boxes: false };
    const BOXES: Self = Self { boxes: true, ..Self::NOTHING };
    const LABEL: Self = Self { label: true, ..Self::BOXES };
}

/// Creates a reward from its parameters, and checks their values. The caller checks their number.
type Make = fn(&[f64], &RewardSettings) -> Result<Box<dyn Reward>>;

/// An entry of the table of rewards.
pub struct RewardEntry {
    /// The name in `reward.name`.
    pub name: &'static str,
    /// The names of its parameters.
    pub parameters: &'static [&'static str],
    /// A one-line description for users.
    pub about: &'static str,
    /// The inputs that it needs.
    pub needs: Needs,
    make: Make,
}

impl RewardEntry {
    /// Returns the syntax, such as `length(low, high)`.
    pub fn usage(&self) -> String {
        if self.parameters.is_empty() { self.name.to_owned() } else { format!("{}({})", self.name, self.parameters.join(", ")) }
    }
}

/// All rewards.
pub const REWARDS: &[RewardEntry] = &[
    RewardEntry {
        name: "outcome",
        parameters: &[],
        about: "1 if the last complete \\boxed{} contains the right answer",
        needs: Needs::LABEL,
        make: |_, _| Ok(Box::new(PerResponse(|graded: &Graded| f32::from(graded.verdict.correct)))),
    },
    RewardEntry {
        name: "format",
        parameters: &[],
        about: "1 if an answer can be extracted",
        needs: Needs::BOXES,
        make: |_, _| Ok(Box::new(PerResponse(|graded: &Graded| f32::from(graded.verdict.extracted.is_some())))),
    },
    RewardEntry {
        name: "inverse",
        parameters: &[],
        about: "1 - outcome: 1 for every response that is not right, including one without an answer",
        needs: Needs::LABEL,
        make: |_, _| Ok(Box::new(PerResponse(|graded: &Graded| 1.0 - f32::from(graded.verdict.correct)))),
    },
    RewardEntry {
        name: "random",
        parameters: &["p"],
        about: "1 with probability p, independent of the response",
        needs: Needs::NOTHING,
        make: random::make,
    },
    RewardEntry {
        name: "length",
        parameters: &["low", "high"],
        about: "0 up to `low` tokens and 1 from `high` tokens on, linear in between; subtract it to shorten responses",
        needs: Needs::NOTHING,
        make: length::make,
    },
    RewardEntry {
        name: "majority",
        parameters: &[],
        about: "1 if the answer is the most frequent one of its group",
        needs: Needs::BOXES,
        make: majority::make,
    },
    RewardEntry {
        name: "probability",
        parameters: &[],
        about: "mean probability that the policy assigns to the gold answer's tokens in the box, after the response's own reasoning",
        needs: Needs { scorer: true, ..Needs::LABEL },
        make: |_, _| Ok(Box::new(probability::Probability)),
    },
    RewardEntry {
        name: "brier",
        parameters: &[],
        about: "outcome minus the squared error of the stated confidence, written as <confidence>0.8</confidence>",
        needs: Needs::LABEL,
        make: |_, _| Ok(Box::new(PerResponse(brier::reward))),
    },
    RewardEntry {
        name: "think",
        parameters: &[],
        about: "1 if the response is one thought, <think>...</think>, followed by an answer in a box",
        needs: Needs::BOXES,
        make: |_, _| Ok(Box::new(PerResponse(think::reward))),
    },
    RewardEntry {
        name: "command",
        parameters: &[],
        about: "the reward that your program prints (reward.command)",
        needs: Needs { program: true, ..Needs::NOTHING },
        make: command::make,
    },
    RewardEntry {
        name: "none",
        parameters: &[],
        about: "0 for every response, so only the other terms of the loss train the model",
        needs: Needs::NOTHING,
        make: |_, _| Ok(Box::new(PerResponse(|_: &Graded| 0.0))),
    },
];

/// Finds a reward by name.
///
/// # Errors
/// If the name is unknown. The message lists the known names.
pub fn by_name(name: &str) -> Result<&'static RewardEntry> {
    match REWARDS.iter().find(|reward| reward.name == name) {
        Some(reward) => Ok(reward),
        None => {
            let near = nearest(name, REWARDS.iter().map(|reward| reward.name));
            bail!(
                "unknown reward \"{name}\"; expected one of {}{}",
                usages(),
                near.map_or(String::new(), |near| format!(" (did you mean {near}?)"))
            )
        }
    }
}

/// Returns the syntax of all rewards, separated by commas.
fn usages() -> String {
    REWARDS.iter().map(RewardEntry::usage).collect::<Vec<_>>().join(", ")
}

/// Grades a training response, with the problem's unit and tolerance. Without a label no response is correct, but the answer is extracted.
pub fn grade(settings: &RewardSettings, problem: &Problem, response: &str) -> Verdict {
    let mut verdict = verify::verify_problem(problem, response, &settings.verifier());
    verdict.correct &= !problem.answer.trim().is_empty();
    verdict
}

#[cfg(test)]
mod tests;
