//! Prints the scores of an evaluation.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::arguments::JsonArgs;
use crate::eval::Pass;
use crate::eval::conditions::Conditions;
use crate::eval::published::{Experiment, PublishedValue, accuracy_of, mean_of, published};
use crate::eval::score::Mean;
use crate::eval::statistics::Estimate;
use crate::metrics::{percent, table};
use crate::study::experiment::experiment_of;
use crate::train::RunFolder;
use crate::verify::Grader;

/// Returns the key to look up the paper's figures for a model: the run's experiment for a checkpoint of a run, otherwise a base model.
pub fn experiment(model: &str) -> Experiment {
    match RunFolder::of_checkpoint(Path::new(model)) {
        Some((_, settings)) => experiment_of(&settings),
        None => Experiment::base(model),
    }
}

/// Prints the scores of an evaluation in the requested form: tables, or `{"passes": [...], "mean": {...}}`.
pub fn print(passes: &[Pass], experiment: &Experiment, form: JsonArgs) -> Result<()> {
    let figures: Vec<Option<PublishedValue>> =
        passes.iter().map(|pass| accuracy_of(experiment, &pass.conditions.set, pass.conditions.max_new_tokens)).collect();
    let mean = Mean::over(passes.iter().map(|pass| (pass.conditions.set.as_str(), &pass.score)));
    let sets = passes.iter().map(|pass| pass.conditions.set.as_str()).collect();
    let paper_mean = passes.first().and_then(|pass| mean_of(experiment, &sets, pass.conditions.max_new_tokens));
    let document = || {
        let all: Vec<Value> = passes.iter().zip(&figures).map(|(pass, paper)| pass_record(pass, paper.as_ref())).collect();
        Ok(json!({"passes": all, "mean": mean.as_ref().map(|mean| mean_record(mean, paper_mean.as_ref()))}))
    };
    let tables = || {
        print_passes(passes, &figures, mean.as_ref().map(|mean| (mean, paper_mean.as_ref())));
        print_samples(passes);
        print_breakdowns(passes);
    };
    form.print(document, tables)?;
    print_conditions(passes);
    Ok(())
}

/// Returns a pass as JSON: its score with all conditions that affect it.
fn pass_record(pass: &Pass, paper: Option<&PublishedValue>) -> Value {
    let mut line = json!(pass.conditions);
    line["pass"] = json!(pass.name);
    line["score"] = json!(pass.score);
    line["published"] = json!(paper.map(record));
    line["times"] = json!(pass.times);
    line
}

/// Returns the mean over benchmarks as JSON.
fn mean_record(mean: &Mean, paper: Option<&PublishedValue>) -> Value {
    json!({
        "sets": mean.sets,
        "accuracy": mean.accuracy,
        "accuracy_with_fallback": mean.accuracy_with_fallback,
        "published": paper.map(record),
    })
}

/// Prints the scores of all passes and their mean, with a column for the paper's scores if it reports any of them.
fn print_passes(passes: &[Pass], figures: &[Option<PublishedValue>], mean: Option<(&Mean, Option<&PublishedValue>)>) {
    let mut header = vec!["pass", "problems", "accuracy [95%]", "incl. unboxed"];
    header.extend(["boxed", "cut off", "tokens", "too long", "reflects", "repeats", "not ASCII"]);
    let has_strict = passes.iter().any(|pass| pass.conditions.grader != Grader::Strict);
    header.extend(has_strict.then_some("strict grader"));
    let has_paper = figures.iter().any(Option::is_some);
    header.extend(has_paper.then_some("paper"));
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (pass, paper) in passes.iter().zip(figures) {
        let score = &pass.score;
        let mut row = vec![
            pass.name.clone(),
            score.problems.to_string(),
            interval(score.accuracy),
            score.accuracy_with_fallback.map_or_else(String::new, |accuracy| percent(accuracy.mean)),
            percent(score.boxed),
            percent(score.cut_off),
            format!("{:.1}", score.mean_tokens),
            score.too_long.to_string(),
            percent(score.reflecting),
            percent(score.repeated_tails),
            percent(score.foreign_letters),
        ];
        row.extend(has_strict.then(|| score.accuracy_strict.map_or_else(String::new, |accuracy| percent(accuracy.mean))));
        row.extend(has_paper.then(|| paper.as_ref().map_or_else(String::new, figure_cell)));
        rows.push(row);
    }
    if let Some((mean, paper)) = mean {
        let problems: usize = passes.iter().map(|pass| pass.score.problems).sum();
        let mut row = vec![format!("mean of {}", mean.sets), problems.to_string(), interval(Some(mean.accuracy))];
        row.push(percent(mean.accuracy_with_fallback.mean));
        row.resize(header.len() - usize::from(has_paper), String::new());
        row.extend(has_paper.then(|| paper.map_or_else(String::new, figure_cell)));
        rows.push(row);
    }
    print_result!("{}", table(&header, &rows));
    if has_paper {
        message!("{}", paper_note());
    }
}

/// Prints the metrics that need several samples per problem: avg@k, pass@k and majority.
fn print_samples(passes: &[Pass]) {
    let sampled: Vec<Vec<String>> = passes.iter().filter_map(samples_row).collect();
    if !sampled.is_empty() {
        print_result!("\n{}", table(&["pass", "avg@k", "pass@2", "pass@k", "majority of k", "k"], &sampled));
    }
}

/// Prints the accuracy by subject and by level.
fn print_breakdowns(passes: &[Pass]) {
    for pass in passes {
        for (title, parts) in [("subject", &pass.score.by_subject), ("level", &pass.score.by_level)] {
            let rows: Vec<Vec<String>> =
                parts.iter().map(|(name, part)| vec![name.clone(), part.problems.to_string(), interval(part.accuracy)]).collect();
            if !rows.is_empty() {
                print_result!("\n{}", table(&[&format!("{} by {title}", pass.name), "problems", "accuracy [95%]"], &rows));
            }
        }
    }
}

/// Prints the number of prompts that were too long, the conditions that all passes share, and the time.
fn print_conditions(passes: &[Pass]) {
    for pass in passes.iter().filter(|pass| pass.score.too_long > 0) {
        let (name, count) = (&pass.name, pass.score.too_long);
        message!("{name}: {count} of {} prompts exceed the model's context length and count as wrong", pass.score.problems);
    }
    if let Some(pass) = passes.first() {
        message!("{}", conditions_line(&pass.conditions));
    }
    let sum = |what: fn(&Pass) -> f64| passes.iter().map(what).sum::<f64>();
    let (elapsed_s, grading_s) = (sum(|pass| pass.times.elapsed_s), sum(|pass| pass.times.grading_s));
    let answered = sum(|pass| pass.times.answered as f64);
    message!(
        "{answered} responses in {elapsed_s:.1} s, {:.1} per second; grading took {:.2}% of the time",
        answered / elapsed_s.max(1e-9),
        grading_s / elapsed_s.max(1e-9) * 100.0
    );
}

/// Formats the row of a pass with several samples per problem; `None` with one sample.
fn samples_row(pass: &Pass) -> Option<Vec<String>> {
    let (score, k) = (&pass.score, pass.score.samples);
    (k > 1).then(|| {
        let at = |k: usize| interval(k.checked_sub(1).and_then(|item| score.pass_at.get(item)).copied());
        vec![pass.name.clone(), interval(score.accuracy), at(2), at(k), interval(score.majority), k.to_string()]
    })
}

/// Describes the conditions that all passes share.
fn conditions_line(conditions: &Conditions) -> String {
    let Conditions { identity, max_new_tokens, seed, grader, grader_version, rlvr, .. } = conditions;
    let short = |text: &str| text.trim_start_matches("sha256:").chars().take(12).collect::<String>();
    format!(
        "{} ({}) in {} on {}, {} kernels, template {}, at most {max_new_tokens} new tokens, seed {seed}, grader {} version {grader_version}, rlvr {rlvr}",
        identity.model,
        short(&identity.revision),
        identity.dtype,
        identity.device,
        identity.kernels,
        short(&identity.template),
        json!(grader).as_str().unwrap_or_default(),
    )
}

/// Formats an estimate with its interval: `12.5% [8.1, 17.0]`; empty for `None`.
pub fn interval(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(String::new, |a| format!("{:.1}% [{:.1}, {:.1}]", a.mean * 100.0, a.low * 100.0, a.high * 100.0))
}

/// Returns a figure of the paper as JSON, with the accuracy between 0 and 1.
fn record(figure: &PublishedValue) -> Value {
    let (table, row) = (figure.table, figure.row);
    json!({"accuracy": figure.value / 100.0, "table": table.id, "about": table.about, "example": row.on, "step": row.step, "source": published().source})
}

/// Formats a figure with its table: `36.0% (T8)`.
fn figure_cell(figure: &PublishedValue) -> String {
    format!("{:.1}% ({})", figure.value, figure.table.id)
}

/// Describes the conditions of the paper's figures.
fn paper_note() -> String {
    format!("paper: {}, including unboxed answers, at most 3072 new tokens unless its table says otherwise", published().source)
}
