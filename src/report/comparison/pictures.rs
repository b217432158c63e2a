//! The pictures of a comparison: a line with a band for each group.

use maud::html;

use super::group::{Group, Groups, Saturation};
use super::quantity::{Quantity, accuracies, accuracy_in, training};
use super::seeds::{over_seeds, trailing_means};
use crate::plot::chart::{Axis, BarChart, BarSeries, Line, LineChart, LineStyle, Mark, Sample, Size, Unit, Value};
use crate::report::page::charts::{element_id, share_axis, step_axis};
use crate::report::{Figure, RunRecord};

/// The largest number of groups in one picture, which is the number of colors.
pub const MOST_GROUPS: usize = 8;

/// The number of values per step that a picture can show. Curves of training are means over that share of the steps.
const POINTS: u64 = 60;

/// Returns the pictures of accuracy, one below another.
pub fn accuracy_figures(groups: &Groups) -> Vec<Figure> {
    accuracies().iter().filter_map(|quantity| figure(groups, quantity, Size::Full)).collect()
}

/// Returns the small pictures of training.
pub fn training_figures(groups: &Groups) -> Vec<Figure> {
    training().iter().filter_map(|quantity| figure(groups, quantity, Size::Small)).collect()
}

/// Returns a small picture of the accuracy in each pass, if there are more than the two that the large pictures show.
pub fn pass_figures(groups: &Groups) -> Vec<Figure> {
    let passes = passes(groups);
    if passes.len() <= 2 {
        return Vec::new();
    }
    let of = |pass: &String| {
        let lines = lines(groups, |run| accuracy_in(run, pass), (0.0, 1.0), LineStyle::Markers);
        line_figure(&element_id("compare-pass", pass), line_chart(pass, "accuracy", Unit::Percent, lines, Size::Small))
    };
    passes.iter().filter_map(of).collect()
}

/// Returns the accuracy by subject at the last evaluation, for each pass that has subjects.
pub fn subject_figures(groups: &Groups) -> Vec<Figure> {
    passes(groups).iter().filter_map(|pass| subject_figure(groups, pass)).collect()
}

/// Returns a small picture for each group with its train accuracy and its held-out accuracy, all with the same axes; `None` for a group
/// without numbers.
pub fn arm_figures(groups: &Groups) -> Vec<Option<Figure>> {
    let window = window(groups);
    let steps = groups.groups.iter().flat_map(|group| &group.runs).map(|run| run.settings.train.steps).max().unwrap_or(0);
    let figure = |(index, group): (usize, &Group)| {
        let line = |quantity: &Quantity| {
            let window = if quantity.at_evaluations { 1 } else { window };
            let curves: Vec<Vec<(u64, f64)>> = group.runs.iter().map(|run| trailing_means(&(quantity.of)(run), window)).collect();
            over_seeds(&curves, 0.0, 1.0)
        };
        let [greedy, sampled, train] = accuracies();
        let lines = vec![
            Line { name: "train".to_owned(), points: line(&train), style: LineStyle::Plain(4) },
            Line { name: "greedy".to_owned(), points: line(&greedy), style: LineStyle::Markers(0) },
            Line { name: "sampled".to_owned(), points: line(&sampled), style: LineStyle::Markers(1) },
        ];
        let lines: Vec<Line> = lines.into_iter().filter(|line| !line.points.is_empty()).collect();
        let mut chart = line_chart(&group.name, "accuracy", Unit::Percent, lines, Size::Small);
        chart.x.range = Some((0.0, steps as f64));
        let saturation = Saturation::of(group);
        chart.marks.extend(saturation.map(|found| Mark { x: found.mean, label: "saturation".to_owned() }));
        let mut figure = line_figure(&format!("arm-{index}"), chart)?;
        figure.caption = html! {
            (counted(group.seeds(), "run"))
            @if let Some(found) = saturation { "; train accuracy saturates at step " (found.text()) }
        };
        Some(figure)
    };
    groups.groups.iter().enumerate().map(figure).collect()
}

/// Returns the names of all passes, in order.
pub fn passes(groups: &Groups) -> Vec<String> {
    let mut names: Vec<String> =
        groups.groups.iter().flat_map(|group| &group.runs).flat_map(|run| run.passes()).map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Returns the number of steps that a value of a training curve is averaged over.
pub fn window(groups: &Groups) -> usize {
    let steps = groups.groups.iter().flat_map(|group| &group.runs).filter_map(|run| run.metrics.last_step()).max();
    (steps.unwrap_or(0) / POINTS).max(1) as usize
}

/// Returns a picture of a quantity; `None` if no run recorded it.
fn figure(groups: &Groups, quantity: &Quantity, size: Size) -> Option<Figure> {
    let window = if quantity.at_evaluations { 1 } else { window(groups) };
    let curve = |run: &RunRecord| trailing_means(&(quantity.of)(run), window);
    let style = if quantity.at_evaluations { LineStyle::Markers } else { LineStyle::Plain };
    let lines = lines(groups, curve, quantity.limits, style);
    let chart = line_chart(quantity.title, quantity.label, quantity.unit, lines, size);
    let mut figure = line_figure(&format!("compare-{}", quantity.id), chart)?;
    let smoothed = if window > 1 { format!(" Each value is the mean of up to {window} steps.") } else { String::new() };
    figure.caption = html! { (quantity.about) (smoothed) };
    Some(figure)
}

/// Returns the mean over the runs of each group, with its band. Groups beyond the number of colors are left out.
fn lines(groups: &Groups, curve: impl Fn(&RunRecord) -> Vec<(u64, f64)>, limits: (f64, f64), style: fn(usize) -> LineStyle) -> Vec<Line> {
    let line = |(index, group): (usize, &Group)| {
        let curves: Vec<Vec<(u64, f64)>> = group.runs.iter().map(|run| curve(run)).collect();
        Line { name: group.name.clone(), points: over_seeds(&curves, limits.0, limits.1), style: style(index) }
    };
    groups.groups.iter().take(MOST_GROUPS).enumerate().map(line).collect()
}

/// Returns a chart of lines over the steps.
fn line_chart(title: &str, label: &str, unit: Unit, lines: Vec<Line>, size: Size) -> LineChart {
    LineChart {
        title: title.to_owned(),
        description: format!("{title} by step, for {}.", names(lines.iter().map(|line| line.name.as_str()))),
        x: step_axis(),
        y: Axis { range: (unit == Unit::Percent).then_some((0.0, 1.0)), ..Axis::new(label, unit) },
        lines,
        size,
        ..LineChart::default()
    }
}

/// Returns the picture of a chart, also for narrow screens if it is large; `None` if no line has a point.
fn line_figure(id: &str, chart: LineChart) -> Option<Figure> {
    if chart.lines.iter().all(|line| line.points.is_empty()) {
        return None;
    }
    let narrow = (chart.size == Size::Full).then(|| chart.narrow_svg());
    Some(Figure { id: id.to_owned(), svg: chart.svg(), narrow, csv: chart.csv(), title: chart.title, ..Figure::default() })
}

fn subject_figure(groups: &Groups, pass: &str) -> Option<Figure> {
    let parts = |run: &RunRecord| run.evaluations.last().and_then(|last| last.scores.get(pass)).map(|score| score.by_subject.clone());
    let runs = || groups.groups.iter().take(MOST_GROUPS).flat_map(|group| &group.runs);
    let mut subjects: Vec<String> = runs().filter_map(|run| parts(run)).flat_map(|parts| parts.into_keys()).collect();
    subjects.sort_unstable();
    subjects.dedup();
    if subjects.is_empty() {
        return None;
    }
    let value = |runs: &[&RunRecord], subject: &String| {
        let mean = |run: &&RunRecord| Some(vec![(0, parts(run)?.get(subject)?.accuracy?.mean)]);
        let values: Vec<Vec<(u64, f64)>> = runs.iter().filter_map(mean).collect();
        let sample = over_seeds(&values, 0.0, 1.0).pop().unwrap_or(Sample::new(0.0, f64::NAN));
        Value { value: sample.y, low: sample.low, high: sample.high }
    };
    let series = groups
        .groups
        .iter()
        .take(MOST_GROUPS)
        .map(|group| BarSeries { name: group.name.clone(), values: subjects.iter().map(|subject| value(&group.runs, subject)).collect() });
    let title = format!("By subject: {pass}");
    let chart = BarChart {
        description: format!("Accuracy on {pass} by subject at the last evaluation."),
        value: share_axis("accuracy"),
        series: series.collect(),
        categories: subjects,
        size: Size::Full,
        title: title.clone(),
    };
    let caption = html! { "Error bars are like the bands of lines: over seeds, not over problems." };
    let (svg, narrow) = (chart.svg(), Some(chart.narrow_svg()));
    Some(Figure { id: element_id("compare-subject", pass), title, caption, svg, narrow, csv: chart.csv() })
}

/// Returns a number with its noun: `1 run`, `2 runs`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Joins names: "A, B and C".
pub fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::comparison::testing::record;

    #[test]
    fn arm_figures_mark_saturation() {
        let folder = tempfile::tempdir().unwrap();
        let run = |name: &str, accuracy: &str| {
            let lines: String = (1..=2).map(|step| format!("{{\"step\":{step},\"train/accuracy\":{accuracy}}}\n")).collect();
            let change = |run: &mut crate::train::RunSettings| (run.train.steps, run.eval.saturation_window) = (2, 2);
            record(&folder.path().join(name), change, &lines, &[(0, 1), (2, 6)])
        };
        for (accuracy, is_marked) in [("1.0", true), ("0.5", false)] {
            let runs = [run(accuracy, accuracy)];
            let figure = arm_figures(&Groups::by_settings(&runs).unwrap()).remove(0).unwrap();
            let caption = figure.caption.into_string();
            assert_eq!(figure.svg.contains(">saturation</text>"), is_marked, "{}", figure.svg);
            assert_eq!(caption.starts_with("1 run; train accuracy saturates at step "), is_marked, "{caption}");
        }
    }
}
