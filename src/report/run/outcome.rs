//! What happened in a run, in one sentence, for every way in which a run can end. Pure functions on plain data.

use crate::eval::statistics::Estimate;
use crate::report::page::numbers::{count, percent, percent_with_interval, points_with_interval};

/// The numbers that the sentence is about.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The training examples.
    pub example: String,
    /// What the accuracies measure, such as `greedy accuracy`.
    pub measure: String,
    /// The number of held-out problems.
    pub problems: usize,
    /// The base model's accuracy; `None` if it was not evaluated.
    pub base: Option<Estimate>,
    /// The last evaluation after the base model: its step and accuracy.
    pub last: Option<(u64, Estimate)>,
    /// The gain from the base model to the last evaluation, paired by problem.
    pub gain: Option<Estimate>,
    /// The step at which train accuracy saturated.
    pub saturation: Option<u64>,
    /// The gain after saturation; `None` if there are too few evaluations.
    pub gain_after: Option<Estimate>,
    /// What `gain_after` measures, such as `sampled accuracy`.
    pub measure_after: String,
    /// The train accuracy over the last steps, and their number; `None` before the first step.
    pub train: Option<(f64, usize)>,
}

impl Outcome {
    /// Returns the sentence.
    pub fn sentence(&self) -> String {
        format!("{}; {}.", self.held_out(), self.training())
    }

    fn held_out(&self) -> String {
        let (example, measure, problems) = (&self.example, &self.measure, count(self.problems));
        match (&self.base, &self.last) {
            (Some(base), Some((step, last))) => {
                let gain = self.gain.unwrap_or(Estimate { mean: last.mean - base.mean, low: f64::NAN, high: f64::NAN });
                let (from, to) = (percent(base.mean), percent(last.mean));
                let by = if gain.low.is_finite() { format!(" ({})", points_with_interval(&gain)) } else { String::new() };
                match change(&gain) {
                    Change::Unclear => format!(
                        "{step} steps of training on {example} did not change {measure} on {problems} held-out problems measurably: it was \
                         {from} before and is {to} after{by}"
                    ),
                    change => {
                        let verb = if change == Change::Up { "raised" } else { "lowered" };
                        format!(
                            "{step} steps of training on {example} {verb} {measure} on {problems} held-out problems from {from} to {to}{by}"
                        )
                    }
                }
            }
            (Some(base), None) => format!(
                "Before training on {example}, {measure} on {problems} held-out problems is {}, and no later evaluation says what training \
                 changed",
                percent_with_interval(base)
            ),
            (None, Some((step, last))) => format!(
                "After {step} steps of training on {example}, {measure} on {problems} held-out problems is {}; the base model was not \
                 evaluated, so the gain is unknown",
                percent_with_interval(last)
            ),
            (None, None) => format!("No evaluation says how training on {example} changes answers to other problems"),
        }
    }

    fn training(&self) -> String {
        match (self.saturation, &self.gain_after, self.train) {
            (Some(step), Some(gain), _) => {
                let (measure, by) = (&self.measure_after, points_with_interval(gain));
                match change(gain) {
                    Change::Up => format!("train accuracy saturated at step {step}, and {measure} kept rising after that ({by})"),
                    Change::Down => format!("train accuracy saturated at step {step}, and {measure} fell after that ({by})"),
                    Change::Unclear => {
                        format!("train accuracy saturated at step {step}, and {measure} did not change measurably after that ({by})")
                    }
                }
            }
            (Some(step), None, _) => {
                format!(
                    "train accuracy saturated at step {step}, and too few evaluations follow to tell whether held-out accuracy rose after that"
                )
            }
            (None, _, Some((accuracy, window))) => {
                let over = if window == 1 { "at the last step".to_owned() } else { format!("over the last {window} steps") };
                format!("train accuracy has not saturated: it is {} {over}", percent(accuracy))
            }
            (None, _, None) => "no training step is recorded yet".to_owned(),
        }
    }
}

/// What an interval says about the direction of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The whole interval is above zero.
    Up,
    /// The whole interval is below zero.
    Down,
    /// The interval contains zero.
    Unclear,
}

/// Returns the direction of a change. Without an interval, the direction of the mean.
pub fn change(difference: &Estimate) -> Change {
    let (low, high) = if difference.low.is_finite() { (difference.low, difference.high) } else { (difference.mean, difference.mean) };
    match (low > 0.0, high < 0.0) {
        (true, _) => Change::Up,
        (_, true) => Change::Down,
        _ => Change::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(mean: f64) -> Estimate {
        Estimate { mean, low: mean - 0.01, high: mean + 0.01 }
    }

    fn outcome() -> Outcome {
        Outcome {
            example: "pi1".to_owned(),
            measure: "greedy accuracy".to_owned(),
            problems: 1500,
            base: Some(around(0.36)),
            last: Some((300, around(0.72))),
            gain: Some(around(0.36)),
            saturation: Some(110),
            gain_after: Some(around(0.05)),
            measure_after: "sampled accuracy".to_owned(),
            train: Some((1.0, 5)),
        }
    }

    fn check(change: impl Fn(&mut Outcome), expected: &str) {
        let mut outcome = outcome();
        change(&mut outcome);
        assert_eq!(outcome.sentence(), expected);
    }

    #[test]
    fn sentence_describes_every_outcome() {
        let raised = "300 steps of training on pi1 raised greedy accuracy on 1,500 held-out problems from 36.0% to 72.0% (+36.0 points [+35.0, +37.0])";
        check(
            |_| (),
            &format!(
                "{raised}; train accuracy saturated at step 110, and sampled accuracy kept rising after that (+5.0 points [+4.0, +6.0])."
            ),
        );
        check(
            |one| one.gain_after = Some(around(-0.05)),
            &format!("{raised}; train accuracy saturated at step 110, and sampled accuracy fell after that (−5.0 points [−6.0, −4.0])."),
        );
        check(
            |one| one.gain_after = Some(around(0.0)),
            &format!(
                "{raised}; train accuracy saturated at step 110, and sampled accuracy did not change measurably after that (+0.0 points [−1.0, \
                 +1.0])."
            ),
        );
        check(
            |one| one.gain_after = None,
            &format!(
                "{raised}; train accuracy saturated at step 110, and too few evaluations follow to tell whether held-out accuracy rose after \
                 that."
            ),
        );
        check(
            |one| (one.saturation, one.train) = (None, Some((0.5, 5))),
            &format!("{raised}; train accuracy has not saturated: it is 50.0% over the last 5 steps."),
        );
    }

    #[test]
    fn sentence_says_what_is_not_known() {
        let saturates = |one: &mut Outcome| (one.saturation, one.train) = (None, Some((0.5, 1)));
        let unsaturated = "train accuracy has not saturated: it is 50.0% at the last step.";
        let with = |change: fn(&mut Outcome), expected: &str| {
            check(
                |one| {
                    saturates(one);
                    change(one);
                },
                expected,
            );
        };
        with(
            |one| (one.last, one.gain) = (Some((9, around(0.30))), Some(around(-0.06))),
            &format!(
                "9 steps of training on pi1 lowered greedy accuracy on 1,500 held-out problems from 36.0% to 30.0% (−6.0 points [−7.0, −5.0]); \
                 {unsaturated}"
            ),
        );
        with(
            |one| (one.last, one.gain) = (Some((9, around(0.365))), Some(around(0.005))),
            &format!(
                "9 steps of training on pi1 did not change greedy accuracy on 1,500 held-out problems measurably: it was 36.0% before and is \
                 36.5% after (+0.5 points [−0.5, +1.5]); {unsaturated}"
            ),
        );
        with(
            |one| (one.last, one.gain) = (None, None),
            &format!(
                "Before training on pi1, greedy accuracy on 1,500 held-out problems is 36.0% [35.0, 37.0], and no later evaluation says what \
                 training changed; {unsaturated}"
            ),
        );
        with(
            |one| (one.base, one.gain) = (None, None),
            &format!(
                "After 300 steps of training on pi1, greedy accuracy on 1,500 held-out problems is 72.0% [71.0, 73.0]; the base model was not \
                 evaluated, so the gain is unknown; {unsaturated}"
            ),
        );
        with(
            |one| (one.base, one.last, one.gain, one.train) = (None, None, None, None),
            "No evaluation says how training on pi1 changes answers to other problems; no training step is recorded yet.",
        );
    }
}
