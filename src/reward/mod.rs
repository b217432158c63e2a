//! Rewards: functions of a step's responses, by name, added up with weights ([`Rewards`]); and the labels that they are held to ([`label`]).
//! A reward knows no model and no file: what it needs (a label, the policy's probabilities, a program) it declares, and gets passed in.

mod brier;
mod command;
pub mod guard;
pub mod label;
mod length;
mod majority;
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
pub use sum::{Rewarded, Rewards};

use crate::config::nearest;
use crate::flow::{Problem, Prompt, Rollout};
use crate::interrupt::Interrupt;
use crate::objective::KlEstimator;
use crate::verify::{self, Grader, Mode, Verdict};

/// How responses are rewarded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardSettings {
    /// One reward, or a weighted sum of several: "outcome + 0.5*format - 0.1*length(64, 80)".
    pub name: String,
    /// Whose notion of equality decides what is right.
    pub grader: Grader,
    /// Grade only what follows the last `</think>`; a response without one is wrong.
    pub after_think: bool,
    /// Reward this answer instead of the example's own; empty keeps it.
    pub label: String,
    /// The share of examples that get a wrong label: the answer of another example.
    pub label_noise: f64,
    /// Seed of the choice of these examples and of their labels.
    pub label_seed: u64,
    /// The program that `command` asks, with its arguments.
    pub command: Vec<String>,
    /// Seconds that the program may take for the responses of a step.
    pub command_timeout_s: f64,
    /// Tokens before `rollout.max_new` over which a penalty grows from 0 to 1 (DAPO's overlong shaping); 0 is off.
    pub overlong_buffer: usize,
    /// Coefficient of the KL divergence from the reference that each token's reward is lowered by.
    pub kl: f32,
    /// Its estimator.
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
    /// Refuses what cannot be computed with responses of at most `max_new` tokens.
    ///
    /// # Errors
    /// When a reward is unknown or lacks what it needs, or settings contradict each other; the message says what to write.
    pub fn validate(&self, max_new: usize) -> Result<()> {
        let rewards = Rewards::new(self, max_new)?;
        ensure!(
            rewards.needs_program() || self.command.is_empty(),
            "reward.command is given, but reward.name is \"{}\": name the reward \"command\", or leave the program out",
            self.name
        );
        ensure!(
            self.label.is_empty() || self.label_noise == 0.0,
            "reward.label gives every label and reward.label_noise changes a share of them: set one of the two"
        );
        Ok(())
    }

    fn verifier(&self) -> verify::Settings {
        verify::Settings { mode: Mode::Reward, grader: self.grader, after_think: self.after_think }
    }
}

/// A response with what the verifier says of it.
pub struct Graded<'a> {
    /// The response. Its problem's answer is the label, empty where the example has none.
    pub rollout: &'a Rollout,
    /// The verdict under the label.
    pub verdict: Verdict,
}

/// The responses of a step.
pub struct Batch<'a> {
    /// Group after group.
    pub responses: &'a [Graded<'a>],
    /// Responses in each group.
    pub group_size: usize,
    /// The run's seed.
    pub seed: u64,
    /// The step.
    pub step: u64,
    /// The policy that gave the responses; there whenever [`Rewards::needs_scorer`].
    pub scorer: Option<&'a dyn Scorer>,
    /// Ends the wait for a program.
    pub interrupt: &'a Interrupt,
    /// This program, where it can stand before one of the user's, which then does not outlive it ([`guard`]).
    pub guard: Option<&'a Path>,
}

/// The policy, as rewards may ask it.
pub trait Scorer {
    /// The token ids of a text.
    ///
    /// # Errors
    /// When the tokenizer cannot represent it.
    fn encode(&self, text: &str) -> Result<Vec<u32>>;

    /// Most tokens of a prompt with its continuation.
    fn window(&self) -> usize;

    /// Log-probabilities (nats) of each token of each continuation `(prompt, ids)`, at the temperature of training.
    ///
    /// # Errors
    /// As the computation fails.
    fn logprobs(&self, continuations: &[(&Prompt, Vec<u32>)]) -> Result<Vec<Vec<f32>>>;
}

/// A reward as it is computed: all responses of a step in, a finite number for each out, in their order.
pub trait Reward {
    /// The rewards of a step's responses.
    ///
    /// # Errors
    /// When what it needs fails it: a program, a model. A poor response is never an error.
    fn of_batch(&self, batch: &Batch) -> Result<Vec<f32>>;
}

/// A reward that looks at each response by itself.
struct Each<F>(F);

impl<F: Fn(&Graded) -> f32> Reward for Each<F> {
    fn of_batch(&self, batch: &Batch) -> Result<Vec<f32>> {
        Ok(batch.responses.iter().map(&self.0).collect())
    }
}

/// What a reward has to be given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// A reference answer for each example.
    pub label: bool,
    /// The policy's probabilities.
    pub scorer: bool,
    /// A program of the user's.
    pub program: bool,
    /// An answer in a box.
    pub boxes: bool,
}

impl Needs {
    const NOTHING: Self = Self { label: false, scorer: false, program: false, boxes: false };
    const BOXES: Self = Self { boxes: true, ..Self::NOTHING };
    const LABEL: Self = Self { label: true, ..Self::BOXES };
}

/// Makes a reward from as many parameters as it has, which it checks.
type Make = fn(&[f64], &RewardSettings) -> Result<Box<dyn Reward>>;

/// A reward by name.
pub struct Known {
    /// What settings call it.
    pub name: &'static str,
    /// What its parameters are called.
    pub parameters: &'static [&'static str],
    /// One line for people.
    pub about: &'static str,
    /// What it has to be given.
    pub needs: Needs,
    make: Make,
}

impl Known {
    /// How it is written: `length(low, high)`.
    pub fn usage(&self) -> String {
        if self.parameters.is_empty() { self.name.to_owned() } else { format!("{}({})", self.name, self.parameters.join(", ")) }
    }
}

/// All rewards.
pub const REWARDS: &[Known] = &[
    Known {
        name: "outcome",
        parameters: &[],
        about: "1 where the last complete \\boxed{} holds the right answer",
        needs: Needs::LABEL,
        make: |_, _| Ok(Box::new(Each(|graded: &Graded| f32::from(graded.verdict.correct)))),
    },
    Known {
        name: "format",
        parameters: &[],
        about: "1 where an answer can be extracted at all",
        needs: Needs::BOXES,
        make: |_, _| Ok(Box::new(Each(|graded: &Graded| f32::from(graded.verdict.extracted.is_some())))),
    },
    Known {
        name: "inverse",
        parameters: &[],
        about: "1 - outcome: 1 for every response that is not right, also for one without an answer",
        needs: Needs::LABEL,
        make: |_, _| Ok(Box::new(Each(|graded: &Graded| 1.0 - f32::from(graded.verdict.correct)))),
    },
    Known {
        name: "random",
        parameters: &["p"],
        about: "1 with probability p, whatever the response is",
        needs: Needs::NOTHING,
        make: random::make,
    },
    Known {
        name: "length",
        parameters: &["low", "high"],
        about: "0 for responses of up to `low` tokens, 1 from `high` tokens on, a straight line between; subtract it to shorten responses",
        needs: Needs::NOTHING,
        make: length::make,
    },
    Known {
        name: "majority",
        parameters: &[],
        about: "1 where the answer is the one that most responses of the group gave",
        needs: Needs::BOXES,
        make: majority::make,
    },
    Known {
        name: "probability",
        parameters: &[],
        about: "the mean probability that the policy gives to the tokens of the reference answer in the box of the response's own reasoning",
        needs: Needs { scorer: true, ..Needs::LABEL },
        make: |_, _| Ok(Box::new(probability::Probability)),
    },
    Known {
        name: "brier",
        parameters: &[],
        about: "outcome minus the squared error of the confidence that the response states as <confidence>0.8</confidence>",
        needs: Needs::LABEL,
        make: |_, _| Ok(Box::new(Each(brier::reward))),
    },
    Known {
        name: "think",
        parameters: &[],
        about: "1 where the response is one thought, <think>...</think>, and then an answer in a box",
        needs: Needs::BOXES,
        make: |_, _| Ok(Box::new(Each(think::reward))),
    },
    Known {
        name: "command",
        parameters: &[],
        about: "what a program of yours says (reward.command)",
        needs: Needs { program: true, ..Needs::NOTHING },
        make: command::make,
    },
    Known {
        name: "none",
        parameters: &[],
        about: "0 for every response: only the other terms of the loss act",
        needs: Needs::NOTHING,
        make: |_, _| Ok(Box::new(Each(|_: &Graded| 0.0))),
    },
];

/// Finds a reward; an unknown name lists the known ones.
pub fn by_name(name: &str) -> Result<&'static Known> {
    match REWARDS.iter().find(|reward| reward.name == name) {
        Some(reward) => Ok(reward),
        None => {
            let near = nearest(name, REWARDS.iter().map(|reward| reward.name));
            bail!(
                "unknown reward \"{name}\"; known are {}{}",
                usages(),
                near.map_or(String::new(), |near| format!(" (did you mean {near}?)"))
            )
        }
    }
}

fn usages() -> String {
    REWARDS.iter().map(Known::usage).collect::<Vec<_>>().join(", ")
}

/// The verdict on a training response, in the problem's unit and within its tolerance. Without a label nothing is right, but an answer is found
/// all the same.
pub fn grade(settings: &RewardSettings, problem: &Problem, response: &str) -> Verdict {
    let mut verdict = verify::verify_problem(problem, response, &settings.verifier());
    verdict.correct &= !problem.answer.trim().is_empty();
    verdict
}

#[cfg(test)]
mod tests {
    use super::testing::check;
    use super::*;

    #[test]
    fn what_looks_at_the_verdict_alone() {
        let responses = [r"\boxed{1/2}", r"\boxed{3}", "one half", r"\boxed{0.5"];
        check("outcome", "0.5", &responses, &[1.0, 0.0, 0.0, 0.0]);
        check("inverse", "0.5", &responses, &[0.0, 1.0, 1.0, 1.0]);
        check("format", "0.5", &responses, &[1.0, 1.0, 0.0, 0.0]);
        check("none", "0.5", &responses, &[0.0; 4]);
        // Without a label nothing is right.
        check("outcome", "", &[r"\boxed{}", r"\boxed{3}"], &[0.0, 0.0]);
        check("format", "", &[r"\boxed{3}", "3"], &[1.0, 0.0]);
    }

    fn problem(answer: &str, tolerance: Option<f64>) -> Problem {
        Problem { answer: answer.into(), tolerance, ..Problem::default() }
    }

    #[test]
    fn what_a_problem_tolerates_is_right_in_training_too() {
        let is_right = |tolerance| grade(&RewardSettings::default(), &problem("4.2", tolerance), r"\boxed{4.24}").correct;
        assert!(is_right(Some(0.1)) && !is_right(None));
    }

    #[test]
    fn the_grader_and_the_thinking_part_are_settings() {
        let verdict = |change: fn(&mut RewardSettings), response: &str| {
            let mut settings = RewardSettings::default();
            change(&mut settings);
            grade(&settings, &problem("12.8", None), response).correct
        };
        assert!(verdict(|_| (), r"\boxed{12.8}"));
        assert!(!verdict(|settings| settings.after_think = true, r"\boxed{12.8}"));
        assert!(verdict(|settings| settings.after_think = true, r"<think>...</think> \boxed{12.8}"));
        // The published training reward takes no box without a brace; ours does.
        assert!(verdict(|_| (), r"\boxed 12.8"));
        assert!(!verdict(|settings| settings.grader = Grader::Deepscaler, r"\boxed 12.8"));
    }

    #[test]
    fn contradictions_are_named() {
        let check = |change: fn(&mut RewardSettings), expected: &str| {
            let mut settings = RewardSettings::default();
            change(&mut settings);
            let message = format!("{:#}", settings.validate(80).unwrap_err());
            assert!(message.contains(expected), "{message}");
        };
        assert!(RewardSettings::default().validate(80).is_ok());
        check(|settings| settings.command = vec!["grade".into()], "reward.command is given, but reward.name is \"outcome\"");
        check(|settings| settings.name = "command".into(), "reward.command is empty");
        check(|settings| (settings.label, settings.label_noise) = ("4".into(), 0.5), "set one of the two");
        check(|settings| settings.overlong_buffer = 81, "reward.overlong_buffer is 81");
    }
}
