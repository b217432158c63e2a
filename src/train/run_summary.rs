//! Presents a run's results: a line per evaluation, the final tables, and the picture.

use anyhow::Result;

use super::folder::RunFolder;
use super::history::{Evaluation, Gain, History};
use super::settings::RunSettings;
use crate::checkpoint::write_file;
use crate::data::example;
use crate::eval::score::{Mean, Part};
use crate::eval::statistics::{Comparison, Estimate};
use crate::metrics::{percent, table};
use crate::plot::curve::{Curve, Point, svg};

/// Describes the last evaluation in one line, with the recent train accuracy; empty before the first evaluation.
pub fn evaluation_line(history: &History) -> String {
    let Some(evaluation) = history.evaluations.last() else { return String::new() };
    let what = if evaluation.step == 0 { "base model".to_owned() } else { format!("step {}", evaluation.step) };
    let passes = evaluation.scores.iter().map(|(name, score)| {
        // Show our strict grader's accuracy if another grader decides and they differ.
        let ours = score.accuracy_strict.filter(|ours| ours.mean != score.mean());
        let ours = ours.map_or_else(String::new, |ours| format!("strict {}, ", percent(ours.mean)));
        format!("{name} {} ({ours}boxed {})", percent(score.mean()), percent(score.boxed))
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

fn caption(history: &History) -> String {
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

/// Prints the final tables, including `times`, and writes the picture.
///
/// # Errors
/// If the picture cannot be written.
pub fn print(settings: &RunSettings, folder: &RunFolder, history: &History, times: &str) -> Result<()> {
    write_file(&folder.picture(), picture(settings, history).as_bytes())?;
    if let (Some(base), Some(last), Some(best)) = (history.evaluations.first(), history.evaluations.last(), history.best()) {
        message!("\n{}", result_table(base, last, best));
        for (title, rows) in [("by subject (greedy)", by_subject(base, last)), ("answer style", by_answer_style(base, last))] {
            if !rows.is_empty() {
                message!("{}", table(&[title, "base", &format!("step {}", last.step)], &rows));
            }
        }
    }
    message!("{times}\n{}", caption(history));
    for line in gain_lines(history) {
        message!("{line}");
    }
    if let Some(gain) = history.post_saturation_gain(true) {
        message!(
            "Greedy accuracy in the last third of the evaluations after saturation, compared with the first two evaluations: {}.",
            points_of(&gain)
        );
    }
    for what in &history.missing {
        message!("These figures leave out a lost record: {what}");
    }
    message!("All results are in {}; the picture is {}", folder.root().display(), folder.picture().display());
    Ok(())
}

/// Returns one line for the gains before saturation and one for the gains after it, if known. Each lists all passes.
fn gain_lines(history: &History) -> Vec<String> {
    let line = |when: &str, gain: &Gain| {
        let from = if gain.from == 0 { "the base model".to_owned() } else { format!("step {}", gain.from) };
        let pass = |(name, compared): (&String, &Comparison)| {
            format!("{name} {} ({} problems won, {} lost)", points_of(&compared.difference), compared.won, compared.lost)
        };
        let passes: Vec<String> = gain.by_pass.iter().map(pass).collect();
        format!("{when} saturation, {from} to step {}: {}.", gain.to, passes.join(", "))
    };
    let (before, after) = history.gains();
    before.iter().map(|gain| line("Before", gain)).chain(after.iter().map(|gain| line("After", gain))).collect()
}

fn result_table(base: &Evaluation, last: &Evaluation, best: &Evaluation) -> String {
    let mut rows = Vec::new();
    for name in base.scores.keys() {
        let cells = |evaluation: &Evaluation| {
            evaluation.scores.get(name).map_or_else(String::new, |score| {
                score.accuracy.map_or_else(String::new, |accuracy| {
                    format!("{} [{}, {}]", percent(accuracy.mean), tenth(accuracy.low), tenth(accuracy.high))
                })
            })
        };
        rows.push(vec![name.clone(), cells(base), cells(last), cells(best)]);
        let boxed = |evaluation: &Evaluation| evaluation.scores.get(name).map_or_else(String::new, |score| percent(score.boxed));
        rows.push(vec!["  boxed".into(), boxed(base), boxed(last), boxed(best)]);
        let fallback = |evaluation: &Evaluation| {
            evaluation
                .scores
                .get(name)
                .and_then(|score| score.accuracy_with_fallback)
                .map_or_else(String::new, |accuracy| percent(accuracy.mean))
        };
        rows.push(vec!["  unboxed answers counted".into(), fallback(base), fallback(last), fallback(best)]);
    }
    if let [Some(base), Some(last), Some(best)] = [base, last, best].map(Evaluation::mean) {
        let row = |of: fn(&Mean) -> f64| [base, last, best].iter().map(|mean| percent(of(mean))).collect::<Vec<_>>();
        rows.push([vec![format!("mean of {} sets", base.sets)], row(|mean| mean.accuracy.mean)].concat());
        rows.push([vec!["  unboxed answers counted".into()], row(|mean| mean.accuracy_with_fallback.mean)].concat());
    }
    let (last_title, best_title) = (format!("step {}", last.step), format!("best (step {})", best.step));
    table(&["accuracy [95%]", "base", &last_title, &best_title], &rows)
}

fn by_subject(base: &Evaluation, last: &Evaluation) -> Vec<Vec<String>> {
    let Some(((_, base), (_, last))) = base.passes(true).next().zip(last.passes(true).next()) else { return Vec::new() };
    base.by_subject.iter().map(|(subject, part)| row(subject, part.mean(), last.by_subject.get(subject).map(Part::mean))).collect()
}

fn by_answer_style(base: &Evaluation, last: &Evaluation) -> Vec<Vec<String>> {
    let Some(((_, base), (_, last))) = base.passes(false).next().zip(last.passes(false).next()) else { return Vec::new() };
    let styles = base.styles.keys().chain(last.styles.keys().filter(|style| !base.styles.contains_key(*style)));
    styles
        .map(|style| row(&format!("{style} (sampled)"), base.styles.get(style).copied().unwrap_or(0.0), last.styles.get(style).copied()))
        .collect()
}

fn row(name: &str, base: f64, last: Option<f64>) -> Vec<String> {
    vec![name.to_owned(), percent(base), percent(last.unwrap_or(0.0))]
}

fn tenth(share: f64) -> String {
    format!("{:.1}", share * 100.0)
}

/// Formats an estimate as "+4.5 points [+3.1, +5.9]".
fn points_of(gain: &Estimate) -> String {
    format!("{:+.1} points [{:+.1}, {:+.1}]", gain.mean * 100.0, gain.low * 100.0, gain.high * 100.0)
}
