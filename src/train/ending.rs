//! The last lines of a run: its tables, a sentence about what happened, and the commands to type next.

use serde_json::json;

use super::folder::RunFolder;
use super::history::{Evaluation, Gain, History};
use super::run_summary::{caption, points_of};
use super::settings::RunSettings;
use crate::eval::score::{Mean, Part};
use crate::eval::statistics::Comparison;
use crate::metrics::table::width;
use crate::metrics::{beside, percent, table_within};
use crate::output::{self, Level, shell};
use crate::tiny::embedded;

/// A held-out problem of the embedded model's benchmark.
const HELD_OUT_QUESTION: &str = "What is the sum of the digits of 978,431?";

/// Returns the final tables, at most `columns` wide where their cells allow it: the results, the scores by subject, the answer styles, and
/// `times`.
pub fn tables(history: &History, times: &str, columns: usize) -> String {
    let (Some(base), Some(last), Some(best)) = (history.evaluations.first(), history.evaluations.last(), history.best()) else {
        return times.trim_end().to_owned();
    };
    let step = format!("step {}", last.step);
    let part = |title: &str, rows: Vec<Vec<String>>| (!rows.is_empty()).then(|| table_within(&[title, "base", &step], &rows, columns));
    let subjects = part("by subject (greedy)", by_subject(base, last)).unwrap_or_default();
    let styles = part("answers (sampled)", by_answer_style(base, last));
    let right = styles.into_iter().chain([times.trim_end().to_owned()]).collect::<Vec<_>>().join("\n\n");
    let lower = beside(&subjects, &right);
    let results = result_table(base, last, best, columns);
    match subjects.is_empty() {
        true => format!("{results}\n\n{right}"),
        false if width(&lower) <= columns => format!("{results}\n\n{lower}"),
        false => format!("{results}\n\n{subjects}\n\n{right}"),
    }
}

/// Prints what happened, what is missing, and the next commands.
pub fn print(settings: &RunSettings, folder: &RunFolder, history: &History) {
    output::print(Level::Info, &format!("\n{}", caption(history)), &[("steps", json!(settings.train.steps))]);
    gain_lines(history).iter().for_each(|line| message!("{line}"));
    if let Some(gain) = history.post_saturation_gain(true) {
        let text = "Greedy accuracy in the last third of the evaluations after saturation, compared with the first two evaluations";
        output::print(Level::Detail, &format!("{text}: {}.", points_of(&gain)), &[]);
    }
    for what in &history.missing {
        output::print_warning(&format!("these figures leave out a lost record: {what}"));
    }
    message!("\nThe picture is {}. Next:\n{}", folder.picture().display(), next_commands(settings, folder).join("\n"));
}

/// Returns the commands to type next, with the flags that they need. A question of the embedded model's benchmark is suggested only after
/// training on one of its problems: after training on others, the responses that were recorded say more.
fn next_commands(settings: &RunSettings, folder: &RunFolder) -> [String; 2] {
    const INDENT: &str = "  ";
    let root = folder.root().to_string_lossy();
    let newest = || folder.exported_steps().ok()?.last().map(|step| folder.checkpoint(*step));
    let model = Some(folder.best()).filter(|best| best.exists()).or_else(newest);
    let look = match model {
        Some(model) if settings.model == embedded::NAME && settings.example.starts_with("tiny/") => {
            let model = model.to_string_lossy();
            let arguments: [&[&str]; 4] = [&["sample"], &["--model", &model], &["--temperature", "0"], &["--prompt", HELD_OUT_QUESTION]];
            shell::command(&arguments, INDENT)
        }
        _ => shell::command(&[&["show"], &[&root]], INDENT),
    };
    [shell::command(&[&["report"], &[&root]], INDENT), look]
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

/// Returns the accuracies of the base model, the last step and the best one. The best one has no column of its own if it is one of the
/// others.
fn result_table(base: &Evaluation, last: &Evaluation, best: &Evaluation, columns: usize) -> String {
    let is_best = |evaluation: &Evaluation| evaluation.step == best.step;
    let mark = |title: String, evaluation: &Evaluation| if is_best(evaluation) { format!("{title}, best") } else { title };
    let (mut shown, mut titles) = (vec![base], vec!["accuracy [95%]".to_owned(), mark("base".to_owned(), base)]);
    if last.step != base.step {
        shown.push(last);
        titles.push(mark(format!("step {}", last.step), last));
    }
    if !is_best(base) && !is_best(last) {
        shown.push(best);
        titles.push(format!("best, step {}", best.step));
    }
    let row = |title: &str, cell: &dyn Fn(&Evaluation) -> Option<String>| {
        let cells = shown.iter().map(|evaluation| cell(evaluation).unwrap_or_default());
        std::iter::once(title.to_owned()).chain(cells).collect::<Vec<String>>()
    };
    let mut rows = Vec::new();
    for name in base.scores.keys() {
        rows.push(row(name, &|evaluation| {
            let accuracy = evaluation.scores.get(name)?.accuracy?;
            Some(format!("{} [{}, {}]", percent(accuracy.mean), tenth(accuracy.low), tenth(accuracy.high)))
        }));
        rows.push(row("  boxed", &|evaluation| evaluation.scores.get(name).map(|score| percent(score.boxed))));
        rows.push(row("  incl. unboxed", &|evaluation| Some(percent(evaluation.scores.get(name)?.accuracy_with_fallback?.mean))));
    }
    if let Some(sets) = base.mean().map(|mean| mean.sets) {
        let of = |evaluation: &Evaluation, share: fn(&Mean) -> f64| evaluation.mean().map(|mean| percent(share(&mean)));
        rows.push(row(&format!("mean of {sets} sets"), &|evaluation| of(evaluation, |mean| mean.accuracy.mean)));
        rows.push(row("  incl. unboxed", &|evaluation| of(evaluation, |mean| mean.accuracy_with_fallback.mean)));
    }
    table_within(&titles.iter().map(String::as_str).collect::<Vec<_>>(), &rows, columns)
}

fn by_subject(base: &Evaluation, last: &Evaluation) -> Vec<Vec<String>> {
    let Some(((_, base), (_, last))) = base.passes(true).next().zip(last.passes(true).next()) else { return Vec::new() };
    base.by_subject.iter().map(|(subject, part)| row(subject, part.mean(), last.by_subject.get(subject).map(Part::mean))).collect()
}

fn by_answer_style(base: &Evaluation, last: &Evaluation) -> Vec<Vec<String>> {
    let Some(((_, base), (_, last))) = base.passes(false).next().zip(last.passes(false).next()) else { return Vec::new() };
    let styles = base.styles.keys().chain(last.styles.keys().filter(|style| !base.styles.contains_key(*style)));
    styles.map(|style| row(style, base.styles.get(style).copied().unwrap_or(0.0), last.styles.get(style).copied())).collect()
}

fn row(name: &str, base: f64, last: Option<f64>) -> Vec<String> {
    vec![name.to_owned(), percent(base), percent(last.unwrap_or(0.0))]
}

fn tenth(share: f64) -> String {
    format!("{:.1}", share * 100.0)
}
