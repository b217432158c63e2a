//! Presents a run's results: a line per evaluation, a sentence about the run, and the picture. `super::ending` prints the final tables.

use super::history::{Evaluation, History};
use super::settings::RunSettings;
use crate::data::example;
use crate::eval::statistics::Estimate;
use crate::metrics::percent;
use crate::plot::curve::{Curve, Point, svg};

/// Describes the last evaluation in one line, with the recent train accuracy; empty before the first evaluation.
pub fn evaluation_line(history: &History) -> String {
    let Some(evaluation) = history.evaluations.last() else { return String::new() };
    let what = if evaluation.step == 0 { "base model".to_owned() } else { format!("step {}", evaluation.step) };
    let passes = evaluation.scores.iter().enumerate().map(|(index, (name, score))| {
        // Show our strict grader's accuracy if another grader decides and they differ.
        let ours = score.accuracy_strict.filter(|ours| ours.mean != score.mean());
        let ours = ours.map_or_else(String::new, |ours| format!("strict {}, ", percent(ours.mean)));
        // Later passes omit the word, so that the line of two passes fits 80 columns.
        let boxed = if index == 0 || !ours.is_empty() { "boxed " } else { "" };
        format!("{name} {} ({ours}{boxed}{:.0}%)", percent(score.mean()), 100.0 * score.boxed)
    });
    let styles = if evaluation.step == 0 { answer_styles(evaluation) } else { String::new() };
    let train = history.recent_train_accuracy().map_or_else(String::new, |accuracy| format!("; train {}", percent(accuracy)));
    format!("{what}: {}{train}{styles}", passes.collect::<Vec<_>>().join(", "))
}

/// Returns the shares of answer styles among sampled answers, the most common first: "; answer styles: guess 55%, sketch 27%". Empty if the
/// benchmark does not classify answer styles.
fn answer_styles(evaluation: &Evaluation) -> String {
    let Some((_, score)) = evaluation.passes(false).next() else { return String::new() };
    let mut styles: Vec<(&String, &f64)> = score.styles.iter().collect();
    styles.sort_by(|one, other| other.1.total_cmp(one.1));
    let styles: Vec<String> = styles.into_iter().map(|(style, share)| format!("{style} {:.0}%", share * 100.0)).collect();
    if styles.is_empty() { String::new() } else { format!("; answer styles: {}", styles.join(", ")) }
}

/// Returns the picture of the run as SVG.
pub fn picture(settings: &RunSettings, history: &History) -> String {
    let points = |greedy: bool| {
        let point = |evaluation: &Evaluation| Some(Point::new(evaluation.step as u32, evaluation.estimate(greedy)?));
        history.evaluations.iter().filter_map(point).collect()
    };
    svg(&Curve {
        title: format!("{} on one example: {}", settings.algo.to_uppercase(), example::heading(&settings.example)),
        subtitle: format!(
            "{}, {} groups of {} at temperature {}, learning rate {:e}",
            settings.model, settings.rollout.groups, settings.rollout.group_size, settings.rollout.temperature, settings.optim.lr
        ),
        caption: caption(history),
        train: history.train_accuracy.clone(),
        greedy: points(true),
        sampled: points(false),
        saturation_step: history.saturation_step(),
        gain: history.post_saturation_gain(false),
        levels: Vec::new(),
        window: history.saturation_window,
    })
}

/// Describes what happened in one sentence.
pub fn caption(history: &History) -> String {
    let mut parts = Vec::new();
    let ends = |greedy: bool| Some((history.evaluations.first()?.accuracy(greedy)?, history.evaluations.last()?.accuracy(greedy)?));
    for (name, greedy) in [("greedy", true), ("sampled", false)] {
        parts.extend(ends(greedy).map(|(first, last)| format!("held-out {name} {} to {}", percent(first), percent(last))));
    }
    parts.push(match history.saturation_step() {
        Some(step) => format!("train accuracy saturates at step {step}"),
        None => "train accuracy has not saturated".to_owned(),
    });
    parts.extend(history.post_saturation_gain(false).map(|gain| format!("sampled accuracy after saturation {}", points_of(&gain))));
    let mut text = parts.join("; ");
    text[..1].make_ascii_uppercase();
    text + "."
}

/// Formats an estimate as "+4.5 points [+3.1, +5.9]".
pub fn points_of(gain: &Estimate) -> String {
    format!("{:+.1} points [{:+.1}, {:+.1}]", gain.mean * 100.0, gain.low * 100.0, gain.high * 100.0)
}
