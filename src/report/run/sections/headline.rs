//! The headline picture: train accuracy and held-out accuracy over the steps, with the paper's accuracies where it has some.

use std::collections::{BTreeMap, BTreeSet};

use maud::html;

use super::training::smoothed;
use crate::eval::statistics::Estimate;
use crate::plot::chart::{Level, Line, LineChart, LineStyle, Sample, Size};
use crate::plot::curve::{self, Curve, Point};
use crate::report::page::charts::{TRAIN, sample, share_axis, step_axis};
use crate::report::page::figure::Figure;
use crate::report::page::numbers::{points_with_interval, six_digits};
use crate::report::record::run_record::RunRecord;
use crate::report::run::curves::saturation_mark;
use crate::report::run::facts::{Facts, Measure, describe_decoding};
use crate::report::run::published_values::{PublishedEnds, note};
use crate::train::history::{Evaluation, set_of};

/// Draws the picture. `published` are the accuracies of [`published_ends`].
pub fn figure(run: &RunRecord, facts: &Facts, published: &PublishedEnds) -> Figure {
    let gain = facts.gain_after_saturation(run);
    let passes = run.passes();
    let (svg, narrow, csv) = match facts.measures.first() {
        Some(Measure::Mean) => mean_picture(run, facts, published),
        _ => curve_picture(run, facts, gain, published),
    };
    let mut decodings: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    passes.iter().for_each(|pass| decodings.entry(describe_decoding(pass)).or_default().push(set_of(pass)));
    let decodings: Vec<String> = decodings.iter().map(|(decoding, sets)| format!("{} ({decoding})", sets.join(", "))).collect();
    let caption = html! {
        @if let Some(step) = facts.saturation {
            "Train accuracy saturates at step " (step) ": its mean over " (facts.history.saturation_window) " steps reaches 99%. "
        }
        @if let Some((measure, gain)) = gain {
            (describe_gain(run, facts, measure, &gain)) " "
        }
        @if !decodings.is_empty() { "Held-out problems: " (decodings.join("; ")) ". Bands are 95% intervals over problems. " }
        @if !published.is_empty() { (note()) }
    };
    Figure { id: "headline".to_owned(), title: "Accuracy by training step".to_owned(), caption, svg, narrow: Some(narrow), csv }
}

/// Returns the paper's accuracies for what the headline shows.
pub fn published_ends(run: &RunRecord, facts: &Facts) -> PublishedEnds {
    match run.passes().as_slice() {
        passes if facts.measures.first() == Some(&Measure::Mean) => PublishedEnds::of_mean(&run.settings, &sets(passes)),
        passes if sets(passes).len() == 1 => PublishedEnds::of_benchmark(&run.settings, set_of(passes[0])),
        _ => PublishedEnds::default(),
    }
}

fn sets<'a>(passes: &[&'a str]) -> BTreeSet<&'a str> {
    passes.iter().map(|pass| set_of(pass)).collect()
}

/// Says what the gain after saturation compares.
fn describe_gain(run: &RunRecord, facts: &Facts, measure: Measure, gain: &Estimate) -> String {
    let greedy = measure == Measure::Greedy;
    let summary =
        run.summary.as_ref().and_then(|summary| if greedy { summary.post_saturation_gain_greedy } else { summary.post_saturation_gain });
    let name = facts.history.evaluations.last().map_or_else(String::new, |newest| measure.name(newest));
    let points = points_with_interval(gain);
    if summary == Some(*gain) {
        return format!(
            "After saturation, {name} gains {points}: the mean of the last third of the evaluations minus the mean of the first two, paired \
             by problem."
        );
    }
    let between = facts.saturated().zip(facts.last()).map(|(from, to)| format!("from step {} to step {}", from.step, to.step));
    format!("After saturation, {name} gains {points}, {}, paired by problem.", between.unwrap_or_default())
}

fn curve_picture(run: &RunRecord, facts: &Facts, gain: Option<(Measure, Estimate)>, published: &PublishedEnds) -> (String, String, String) {
    let points = |measure: Measure| -> Vec<Point> {
        let point = |evaluation: &Evaluation| Some(Point::new(evaluation.step as u32, rounded(measure.estimate(evaluation)?)));
        facts.history.evaluations.iter().filter_map(point).collect()
    };
    let curve = Curve {
        title: "Accuracy by training step".to_owned(),
        caption: facts.outcome(run).sentence(),
        train: run.train_accuracy(),
        greedy: points(Measure::Greedy),
        sampled: points(Measure::Sampled),
        saturation_step: facts.saturation.map(|step| step as u32),
        gain: gain.filter(|(measure, _)| *measure == Measure::Sampled).map(|(_, gain)| gain),
        window: facts.history.saturation_window,
        levels: published.named(),
        ..Curve::default()
    };
    (curve::panel(&curve, Size::Full), curve::panel(&curve, Size::Narrow), curve::csv(&curve))
}

fn mean_picture(run: &RunRecord, facts: &Facts, published: &PublishedEnds) -> (String, String, String) {
    let train: Vec<Sample> =
        run.train_accuracy().iter().map(|(step, accuracy)| Sample::new(f64::from(*step), six_digits(f64::from(*accuracy)))).collect();
    let evaluations = || facts.history.evaluations.iter().filter_map(|one| Some((one.step as f64, one.mean()?)));
    let mut lines = train_lines(train, facts.history.saturation_window);
    lines.extend([
        Line {
            name: "held-out, unboxed answers too".to_owned(),
            points: evaluations().map(|(step, mean)| Sample::new(step, six_digits(mean.accuracy_with_fallback.mean))).collect(),
            style: LineStyle::Plain(3),
        },
        Line {
            name: "held-out, mean of benchmarks".to_owned(),
            points: evaluations().map(|(step, mean)| sample(step, &mean.accuracy)).collect(),
            style: LineStyle::Markers(0),
        },
    ]);
    let chart = LineChart {
        title: "Accuracy by training step".to_owned(),
        description: facts.outcome(run).sentence(),
        x: step_axis(),
        y: share_axis(""),
        lines,
        marks: saturation_mark(facts),
        levels: published.named().into_iter().map(|(label, y)| Level { y, label }).collect(),
        size: Size::Full,
    };
    (chart.svg(), chart.narrow_svg(), chart.csv())
}

/// Returns the mean of the train accuracy over the last `window` steps, in front of the single steps.
fn train_lines(steps: Vec<Sample>, window: usize) -> Vec<Line> {
    let window = window.clamp(1, steps.len().max(1));
    let line = |name: &str, points, style| Line { name: name.to_owned(), points, style };
    if window == 1 {
        return vec![line("training example", steps, LineStyle::Plain(TRAIN))];
    }
    let mean = smoothed(&steps, window).into_iter().map(|point| Sample::new(point.x, six_digits(point.y))).collect();
    vec![
        line(&format!("training example (mean of {window})"), mean, LineStyle::Plain(TRAIN)),
        line("each step", steps, LineStyle::Faint(TRAIN)),
    ]
}

fn rounded(estimate: Estimate) -> Estimate {
    Estimate { mean: six_digits(estimate.mean), low: six_digits(estimate.low), high: six_digits(estimate.high) }
}
