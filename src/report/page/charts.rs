//! What the charts of all pages have in common: axes, colors, and points with intervals. Numbers are rounded to six significant digits, as in
//! the CSV data that comes with them.

use super::numbers::six_digits;
use crate::eval::statistics::Estimate;
use crate::plot::chart::{Axis, Sample, Unit, Value};

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

/// A point with an interval.
pub fn sample(x: f64, estimate: &Estimate) -> Sample {
    Sample { x, y: six_digits(estimate.mean), low: six_digits(estimate.low), high: six_digits(estimate.high) }
}

/// A bar with an interval; a missing value has no bar.
pub fn bar(estimate: Option<Estimate>) -> Value {
    let [value, low, high] = estimate.map_or([f64::NAN; 3], |one| [one.mean, one.low, one.high].map(six_digits));
    Value { value, low, high }
}

/// Returns an `id` for an element from a name: letters, digits and hyphens.
pub fn element_id(prefix: &str, name: &str) -> String {
    let cleaned: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    format!("{prefix}-{cleaned}")
}
