//! Warns when a run diverges or cannot learn. Owns the health checks and their thresholds. Reads only the numbers of a step's metrics line,
//! so that a resumed run restores its state from these lines. Knows nothing about models.
//!
//! Each check has a rule that marks a step as *bad*. A check becomes *active* after a number of consecutive bad steps (its patience), and
//! warns once when it does. It becomes inactive after `CLEAR_AFTER` consecutive steps that are not bad. A run that has learned its example
//! looks much like a failed one (no entropy, no gradient, no group with signal), so most rules apply only while rewards are not near their
//! best ([`Monitor::is_reward_near_best`]).

mod checks;

use std::collections::VecDeque;

use serde_json::{Map, Value};

pub use checks::HEALTH_CHECKS;

/// A check becomes inactive after this many consecutive steps that are not bad.
const CLEAR_AFTER: usize = 5;
/// The number of steps that recent means and initial values cover.
const WINDOW: usize = 5;
/// A reward counts as near its best at or above this fraction of the range between the lowest and the highest reward of any response.
const NEAR_BEST: f64 = 0.9;
/// After a step with this many boxed answers, three steps without any cannot be chance: their probability is below 1e-15.
const MANY_BOXES: f64 = 16.0;

/// The facts about a run that the checks depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunTraits {
    /// The entropy of the uniform distribution over the vocabulary, in nats.
    pub max_entropy: f64,
    /// The maximum number of tokens in a response.
    pub max_new_tokens: usize,
    /// The number of independent samples in a step: every response if there is one example, one per group if there are several.
    pub independent_samples: usize,
    /// True if a reward reads `\boxed{}`.
    pub reads_boxes: bool,
    /// True if the policy loss is on.
    pub learns_from_reward: bool,
    /// True if the loss has an entropy term.
    pub has_entropy_term: bool,
}

/// The metrics of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepMetrics {
    /// Mean entropy in nats per token; `None` if the policy was not updated (critic warm-up).
    pub entropy: Option<f64>,
    /// Gradient norm before clipping; NaN if an update was skipped, `None` if the policy was not updated.
    pub grad_norm: Option<f64>,
    /// Mean reward.
    pub reward: f64,
    /// Lowest reward of a response.
    pub reward_min: f64,
    /// Highest reward of a response.
    pub reward_max: f64,
    /// Fraction of correct responses.
    pub accuracy: f64,
    /// Mean response length in tokens.
    pub length: f64,
    /// Fraction of responses that reached the token limit.
    pub truncated: f64,
    /// Fraction of responses with a complete `\boxed{}`.
    pub boxed: f64,
    /// Fraction of responses that are not readable text.
    pub garbled: f64,
    /// Fraction of groups whose rewards are all equal.
    pub without_signal: f64,
    /// True if an update was skipped because its loss or gradient was not finite.
    pub skipped: bool,
}

/// A warning to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The key of the check; its metric is `watch/KEY`.
    pub key: &'static str,
    /// The finding, and what to try.
    pub text: String,
}

/// The state of a check.
#[derive(Clone, Copy, Debug, Default)]
struct CheckState {
    /// The number of consecutive bad steps.
    bad_steps: usize,
    /// The number of consecutive steps that were not bad.
    clear_steps: usize,
    /// True if the check is active: its warning was printed, and it has not cleared yet.
    is_active: bool,
}

/// The health checks of a run.
#[derive(Clone, Debug)]
pub struct Monitor {
    traits: RunTraits,
    /// The first steps, which later ones are compared with.
    first: Vec<StepMetrics>,
    /// The last steps.
    recent: VecDeque<StepMetrics>,
    /// The lowest and the highest reward of any response.
    reward_range: Option<(f64, f64)>,
    /// The highest mean reward over `WINDOW` steps.
    best_reward: Option<f64>,
    /// True if a step had at least `MANY_BOXES` boxed answers.
    had_boxes: bool,
    skipped_in_a_row: usize,
    checks: [CheckState; HEALTH_CHECKS.len()],
    /// Steps with an active check or a skipped update, in order.
    steps_with_warning: Vec<u64>,
}

impl Monitor {
    /// Creates the monitor of a new run.
    pub fn new(traits: RunTraits) -> Self {
        Self {
            traits,
            first: Vec::new(),
            recent: VecDeque::new(),
            reward_range: None,
            best_reward: None,
            had_boxes: false,
            skipped_in_a_row: 0,
            checks: [CheckState::default(); HEALTH_CHECKS.len()],
            steps_with_warning: Vec::new(),
        }
    }

    /// Records a step's metrics and returns the warnings that start at this step.
    pub fn observe(&mut self, step: u64, metrics: StepMetrics) -> Vec<Warning> {
        self.record(metrics);
        let bad = HEALTH_CHECKS.map(|check| (check.is_bad)(self, &metrics));
        let mut warnings = Vec::new();
        for ((check, is_bad), number) in HEALTH_CHECKS.iter().zip(bad).zip(0..) {
            let patience = (check.patience)(self);
            let state = &mut self.checks[number];
            (state.bad_steps, state.clear_steps) = if is_bad { (state.bad_steps + 1, 0) } else { (0, state.clear_steps + 1) };
            if state.clear_steps >= CLEAR_AFTER {
                state.is_active = false;
            }
            if state.bad_steps >= patience && !state.is_active {
                state.is_active = true;
                warnings.push(Warning { key: check.key, text: format!("{}. {}", (check.found)(self, &metrics), check.remedy) });
            }
        }
        if self.active().next().is_some() || metrics.skipped {
            self.steps_with_warning.push(step);
        }
        warnings
    }

    /// Returns the keys of the active checks.
    pub fn active(&self) -> impl Iterator<Item = &'static str> {
        HEALTH_CHECKS.iter().zip(self.checks).filter(|(_, state)| state.is_active).map(|(check, _)| check.key)
    }

    /// True if no check was active and no update was skipped at a step.
    pub fn had_no_warning_at(&self, step: u64) -> bool {
        self.steps_with_warning.binary_search(&step).is_err()
    }

    /// Returns the number of consecutive steps with a skipped update, up to the last step.
    pub fn skipped_in_a_row(&self) -> usize {
        self.skipped_in_a_row
    }

    fn record(&mut self, metrics: StepMetrics) {
        if self.first.len() < WINDOW {
            self.first.push(metrics);
        }
        self.recent.push_back(metrics);
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        let (low, high) = self.reward_range.unwrap_or((metrics.reward_min, metrics.reward_max));
        self.reward_range = Some((low.min(metrics.reward_min), high.max(metrics.reward_max)));
        if self.recent.len() == WINDOW {
            self.best_reward = Some(self.recent_mean(|metrics| metrics.reward).max(self.best_reward.unwrap_or(f64::NEG_INFINITY)));
        }
        self.had_boxes |= metrics.boxed * self.traits.independent_samples as f64 >= MANY_BOXES;
        self.skipped_in_a_row = if metrics.skipped { self.skipped_in_a_row + 1 } else { 0 };
    }

    /// Returns the mean over the last `WINDOW` steps, or fewer at the start.
    fn recent_mean(&self, value: impl Fn(&StepMetrics) -> f64) -> f64 {
        self.recent.iter().map(value).sum::<f64>() / self.recent.len().max(1) as f64
    }

    /// Returns the largest finite value of the first `WINDOW` steps; `None` if there is none. Takes the largest because some of these steps
    /// may already have collapsed.
    fn initial_max(&self, value: impl Fn(&StepMetrics) -> Option<f64>) -> Option<f64> {
        self.first.iter().filter_map(value).filter(|value| value.is_finite()).reduce(f64::max)
    }

    /// Returns the difference between the highest and the lowest reward of any response.
    fn reward_width(&self) -> f64 {
        self.reward_range.map_or(0.0, |(low, high)| high - low)
    }

    /// True if rewards are near their best, in the last step or on average over the last `WINDOW` steps: at least 90% of the responses are
    /// correct, or the mean reward has reached 90% of the range between the lowest and the highest reward of any response.
    pub fn is_reward_near_best(&self) -> bool {
        let (low, width) = (self.reward_range.map_or(0.0, |(low, _)| low), self.reward_width());
        let is_best = |accuracy: f64, reward: f64| accuracy >= NEAR_BEST || (width > 0.0 && reward - low >= NEAR_BEST * width);
        let last = self.recent.back().is_some_and(|last| is_best(last.accuracy, last.reward));
        last || is_best(self.recent_mean(|metrics| metrics.accuracy), self.recent_mean(|metrics| metrics.reward))
    }
}

impl StepMetrics {
    /// Reads the numbers of a step's metrics line with current names. Keys that older versions did not write get values that cause no
    /// warning. A line without rewards is of a run whose reward is `outcome` alone: each response has 0 or 1, and the mean is the accuracy.
    pub fn from_record(line: &Map<String, Value>) -> Self {
        // The line has null for a number that is not finite.
        let read = |key: &str| line.get(key).map(|value| value.as_f64().unwrap_or(f64::NAN));
        let or_zero = |key: &str| read(key).unwrap_or(0.0);
        let accuracy = or_zero("train/accuracy");
        let (reward, reward_min, reward_max) = match read("reward/mean") {
            Some(reward) => (reward, read("reward/min").unwrap_or(reward), read("reward/max").unwrap_or(reward)),
            None => (accuracy, accuracy.floor(), accuracy.ceil()),
        };
        Self {
            entropy: read("actor/entropy"),
            grad_norm: read("actor/grad_norm"),
            reward,
            reward_min,
            reward_max,
            accuracy,
            length: or_zero("response_length/mean"),
            truncated: or_zero("response_length/clip_ratio"),
            boxed: or_zero("train/boxed_share"),
            garbled: or_zero("watch/garbled_share"),
            without_signal: or_zero("reward/zero_std_share"),
            skipped: or_zero("watch/skipped") > 0.0,
        }
    }
}

#[cfg(test)]
mod tests;
