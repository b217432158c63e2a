//! The lines of a run's evaluations in charts, and the mark at saturation.

use super::facts::Facts;
use crate::eval::Score;
use crate::eval::statistics::Estimate;
use crate::plot::chart::{Line, LineStyle, Mark, Sample};
use crate::report::page::charts::sample;
use crate::report::page::numbers::six_digits;

/// The mark at the step at which train accuracy saturates; empty if it does not.
pub fn saturation_mark(facts: &Facts) -> Vec<Mark> {
    facts.saturation.map(|step| Mark { x: step as f64, label: "saturation".to_owned() }).into_iter().collect()
}

/// A line with markers through a number of each evaluation that has the pass.
pub fn over_evaluations(facts: &Facts, pass: &str, name: &str, color: usize, value: impl Fn(&Score) -> f64) -> Line {
    let points = scores(facts, pass).map(|(step, score)| Sample::new(step, six_digits(value(score)))).collect();
    Line { name: name.to_owned(), points, style: LineStyle::Markers(color) }
}

/// A line with markers and a band through an estimate of each evaluation that has the pass.
pub fn estimates_over_evaluations(facts: &Facts, pass: &str, name: &str, style: LineStyle, value: fn(&Score) -> Option<Estimate>) -> Line {
    let points = scores(facts, pass).filter_map(|(step, score)| Some(sample(step, &value(score)?))).collect();
    Line { name: name.to_owned(), points, style }
}

/// The scores of a pass, with the steps of their evaluations.
fn scores<'a>(facts: &'a Facts, pass: &'a str) -> impl Iterator<Item = (f64, &'a Score)> {
    facts.history.evaluations.iter().filter_map(move |one| Some((one.step as f64, one.scores.get(pass)?)))
}
