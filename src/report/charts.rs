//! What the charts of a page have in common: axes, colors, and points with intervals. Numbers are rounded to six significant digits, as in
//! the CSV data that comes with them.

use super::facts::Facts;
use super::numbers::six_digits;
use crate::eval::Score;
use crate::eval::statistics::Estimate;
use crate::plot::chart::{Axis, Line, LineStyle, Mark, Sample, Unit, Value};

/// The color of train accuracy and of a run's own metrics.
pub const TRAIN: usize = 1;

/// The axis of training steps.
pub fn step_axis() -> Axis {
    Axis::new("training step", Unit::Number)
}

/// An axis of shares from 0% to 100%.
pub fn share_axis(label: &str) -> Axis {
    Axis { range: Some((0.0, 1.0)), ..Axis::new(label, Unit::Percent) }
}

/// The mark at the step at which train accuracy saturates; empty if it does not.
pub fn saturation_mark(facts: &Facts) -> Vec<Mark> {
    facts.saturation.map(|step| Mark { x: step as f64, label: "saturation".to_owned() }).into_iter().collect()
}

/// A point with an interval.
pub fn sample(x: f64, estimate: &Estimate) -> Sample {
    Sample { x, y: six_digits(estimate.mean), low: six_digits(estimate.low), high: six_digits(estimate.high) }
}

/// A bar with an interval; a missing value has no bar.
pub fn bar(estimate: Option<Estimate>) -> Value {
    let [value, low, high] = estimate.map_or([f64::NAN; 3], |one| [one.mean, one.low, one.high].map(six_digits));
    Value { value, low, high }
}

/// A line with markers through a number of each evaluation that has the pass.
pub fn over_evaluations(facts: &Facts, pass: &str, name: &str, color: usize, value: impl Fn(&Score) -> f64) -> Line {
    let with_pass = facts.history.evaluations.iter().filter_map(|one| Some((one.step as f64, one.scores.get(pass)?)));
    let points = with_pass.map(|(step, score)| Sample::new(step, six_digits(value(score)))).collect();
    Line { name: name.to_owned(), points, style: LineStyle::Markers(color) }
}

/// A line with markers and a band through an estimate of each evaluation that has the pass.
pub fn estimates_over_evaluations(facts: &Facts, pass: &str, name: &str, style: LineStyle, value: fn(&Score) -> Option<Estimate>) -> Line {
    let with_pass = facts.history.evaluations.iter().filter_map(|one| Some((one.step as f64, one.scores.get(pass)?)));
    let points = with_pass.filter_map(|(step, score)| Some(sample(step, &value(score)?))).collect();
    Line { name: name.to_owned(), points, style }
}

/// Returns an `id` for an element from a name: letters, digits and hyphens.
pub fn element_id(prefix: &str, name: &str) -> String {
    let cleaned: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    format!("{prefix}-{cleaned}")
}
