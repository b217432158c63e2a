//! Watches for a run that goes wrong or cannot learn. Owns the causes that are warned about and the thresholds of each; works on the plain
//! numbers of a step's line of metrics, so that a resumed run that reads its lines again stands where it stood. It must never know a model.
//!
//! A cause is *bad* at a step by its own rule, *warned about* once it was bad for as many steps in a row as its patience, and *clear* again
//! after `CALM` steps that were not bad. It is told once each time. A run that has learned its example looks much like a broken one
//! (no entropy, no gradient, no group with signal), so most rules hold only while rewards are not near their best ([`Watch::is_satisfied`]).

mod causes;

use std::collections::VecDeque;

use serde_json::{Map, Value};

pub use causes::CAUSES;

/// Steps without a cause after which it is clear.
const CALM: usize = 5;
/// Steps that means are taken over, at the beginning and now.
const WINDOW: usize = 5;
/// A reward is near its best from this share of the way between the lowest and the highest that any response had.
const SATISFIED: f64 = 0.9;

/// A step with so many boxes makes a few steps without any no chance: three of them then have a probability below 1e-15.
const BOXES: f64 = 16.0;

/// What a run is, as far as watches need it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Subject {
    /// The entropy of a uniform choice of token, nats.
    pub most_entropy: f64,
    /// Most tokens in a response.
    pub max_new: usize,
    /// Responses in a step that are drawn independently: all of one example, or one for each group of several examples.
    pub independent: usize,
    /// Whether a reward looks into boxes.
    pub reads_boxes: bool,
    /// Whether the policy loss is on.
    pub learns_from_reward: bool,
    /// Whether the loss has an entropy term.
    pub has_entropy_term: bool,
}

/// The numbers of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shown {
    /// Mean entropy, nats a token; none where the policy was not asked (a critic's warm-up).
    pub entropy: Option<f64>,
    /// Norm of the gradient before clipping, NaN where it is not finite; none as above.
    pub grad_norm: Option<f64>,
    /// Mean reward.
    pub reward: f64,
    /// Lowest reward of a response.
    pub reward_min: f64,
    /// Highest reward of a response.
    pub reward_max: f64,
    /// Share of right responses.
    pub accuracy: f64,
    /// Mean response length in tokens.
    pub length: f64,
    /// Share of responses that reached the limit of tokens.
    pub truncated: f64,
    /// Share of responses with a complete box.
    pub boxed: f64,
    /// Share of responses that are not readable text.
    pub garbled: f64,
    /// Share of groups whose rewards are all equal.
    pub without_signal: f64,
    /// Whether an update was skipped because its loss or gradient was not finite.
    pub skipped: bool,
}

/// What is told about a cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The cause, as `watch/KEY` in the metrics.
    pub key: &'static str,
    /// What was found, and what to try.
    pub text: String,
}

/// How one cause stands.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// Bad steps in a row.
    bad: usize,
    /// Steps in a row that were not bad.
    calm: usize,
    /// Told, and not clear yet.
    warned: bool,
}

/// All watches of a run.
#[derive(Clone, Debug)]
pub struct Watch {
    subject: Subject,
    /// The first steps: what later ones are compared with.
    first: Vec<Shown>,
    recent: VecDeque<Shown>,
    /// Lowest and highest reward that any response had.
    range: Option<(f64, f64)>,
    /// The best mean reward of a whole window.
    best_reward: Option<f64>,
    /// Whether a step had so many boxes that a few steps without one are no chance.
    had_boxes: bool,
    skipped_in_a_row: usize,
    causes: [Standing; CAUSES.len()],
    /// Steps at which something was warned about, in order.
    warned: Vec<u64>,
}

impl Watch {
    /// The watches of a run at its beginning.
    pub fn new(subject: Subject) -> Self {
        Self {
            subject,
            first: Vec::new(),
            recent: VecDeque::new(),
            range: None,
            best_reward: None,
            had_boxes: false,
            skipped_in_a_row: 0,
            causes: [Standing::default(); CAUSES.len()],
            warned: Vec::new(),
        }
    }

    /// Takes in a step's numbers. Gives what is warned about from this step on.
    pub fn observe(&mut self, step: u64, shown: Shown) -> Vec<Warning> {
        self.take(shown);
        let bad = CAUSES.map(|cause| (cause.is_bad)(self, &shown));
        let mut warnings = Vec::new();
        for ((cause, is_bad), number) in CAUSES.iter().zip(bad).zip(0..) {
            let patience = (cause.patience)(self);
            let standing = &mut self.causes[number];
            (standing.bad, standing.calm) = if is_bad { (standing.bad + 1, 0) } else { (0, standing.calm + 1) };
            if standing.calm >= CALM {
                standing.warned = false;
            }
            if standing.bad >= patience && !standing.warned {
                standing.warned = true;
                warnings.push(Warning { key: cause.key, text: format!("{}. {}", (cause.found)(self, &shown), cause.remedy) });
            }
        }
        if self.active().next().is_some() || shown.skipped {
            self.warned.push(step);
        }
        warnings
    }

    /// The causes that are warned about now.
    pub fn active(&self) -> impl Iterator<Item = &'static str> {
        CAUSES.iter().zip(self.causes).filter(|(_, standing)| standing.warned).map(|(cause, _)| cause.key)
    }

    /// Whether nothing was warned about at a step. What was saved then is a state to go back to.
    pub fn was_calm_at(&self, step: u64) -> bool {
        self.warned.binary_search(&step).is_err()
    }

    /// Steps in a row up to now with a skipped update.
    pub fn skipped_in_a_row(&self) -> usize {
        self.skipped_in_a_row
    }

    fn take(&mut self, shown: Shown) {
        if self.first.len() < WINDOW {
            self.first.push(shown);
        }
        self.recent.push_back(shown);
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        let (low, high) = self.range.unwrap_or((shown.reward_min, shown.reward_max));
        self.range = Some((low.min(shown.reward_min), high.max(shown.reward_max)));
        if self.recent.len() == WINDOW {
            self.best_reward = Some(self.now(|shown| shown.reward).max(self.best_reward.unwrap_or(f64::NEG_INFINITY)));
        }
        self.had_boxes |= shown.boxed * self.subject.independent as f64 >= BOXES;
        self.skipped_in_a_row = if shown.skipped { self.skipped_in_a_row + 1 } else { 0 };
    }

    /// The mean over the last steps.
    fn now(&self, value: impl Fn(&Shown) -> f64) -> f64 {
        self.recent.iter().map(value).sum::<f64>() / self.recent.len().max(1) as f64
    }

    /// The largest of the first steps, so that a run which breaks among them is compared with what it was; none where none has the value.
    fn at_first(&self, value: impl Fn(&Shown) -> Option<f64>) -> Option<f64> {
        self.first.iter().filter_map(value).filter(|value| value.is_finite()).reduce(f64::max)
    }

    /// The width of the range of rewards so far.
    fn reward_width(&self) -> f64 {
        self.range.map_or(0.0, |(low, high)| high - low)
    }

    /// Whether rewards are near their best: nine in ten responses are right, or the mean reward stands at 90% of the way from the lowest to the
    /// highest that any response has had. In the last step or over the last five.
    pub fn is_satisfied(&self) -> bool {
        let (low, width) = (self.range.map_or(0.0, |(low, _)| low), self.reward_width());
        let is_best = |accuracy: f64, reward: f64| accuracy >= SATISFIED || (width > 0.0 && reward - low >= SATISFIED * width);
        let last = self.recent.back().is_some_and(|last| is_best(last.accuracy, last.reward));
        last || is_best(self.now(|shown| shown.accuracy), self.now(|shown| shown.reward))
    }
}

impl Shown {
    /// The numbers of a step's line of metrics, as `measures` names them; a line of an older version lacks some, which then say nothing.
    pub fn of_line(line: &Map<String, Value>) -> Self {
        // JSON has null for a number that is not finite.
        let read = |key: &str| line.get(key).map(|value| value.as_f64().unwrap_or(f64::NAN));
        let or_zero = |key: &str| read(key).unwrap_or(0.0);
        let reward = or_zero("critic/score/mean");
        Self {
            entropy: read("actor/entropy"),
            grad_norm: read("actor/grad_norm"),
            reward,
            reward_min: read("critic/score/min").unwrap_or(reward),
            reward_max: read("critic/score/max").unwrap_or(reward),
            accuracy: or_zero("train/accuracy"),
            length: or_zero("response_length/mean"),
            truncated: or_zero("response_length/clip_ratio"),
            boxed: or_zero("train/boxed"),
            garbled: or_zero("watch/garbled_share"),
            without_signal: or_zero("reward/zero_std_groups"),
            skipped: or_zero("watch/skipped") > 0.0,
        }
    }
}

#[cfg(test)]
mod tests;
