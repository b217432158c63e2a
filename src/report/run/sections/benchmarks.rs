//! The section about benchmarks: a table of all passes at the milestones, and a curve for each pass.

use std::collections::BTreeSet;

use maud::{Markup, html};

use crate::eval::Score;
use crate::eval::score::Mean;
use crate::eval::statistics::Estimate;
use crate::plot::chart::{Level, LineChart, LineStyle, Size};
use crate::report::page::Section;
use crate::report::page::charts::{element_id, share_axis, step_axis};
use crate::report::page::figure::{Figure, data_of, grid};
use crate::report::page::numbers::{count, interval, percent};
use crate::report::record::run_record::RunRecord;
use crate::report::run::curves::{estimates_over_evaluations, saturation_mark};
use crate::report::run::facts::{Facts, describe_decoding};
use crate::report::run::published_values::{PublishedEnds, note};
use crate::train::history::{Evaluation, set_of};

/// Writes the section; `None` without evaluations.
pub fn section(run: &RunRecord, facts: &Facts) -> Option<Section> {
    let columns = columns(facts);
    let passes = run.passes();
    if columns.is_empty() || passes.is_empty() {
        return None;
    }
    let published: Vec<PublishedEnds> = passes.iter().map(|pass| PublishedEnds::of_benchmark(&run.settings, set_of(pass))).collect();
    let figures: Vec<Figure> = passes.iter().zip(&published).map(|(pass, ends)| curve(facts, pass, ends)).collect();
    let has_published = published.iter().any(|ends| !ends.is_empty());
    let body = html! {
        p {
            "Accuracy with its 95% interval over problems. An answer counts only inside " code { "\\boxed{}" } "; the second line of each \
             benchmark also counts unboxed answers. The interval says how much the accuracy could differ with other problems of the same \
             kind, not with another seed."
            @if has_published { " " (note()) }
        }
        div.scroll tabindex="0" role="region" aria-label="Accuracy by benchmark" { (table(run, &columns, &passes, &published)) }
        (grid(&figures))
    };
    Some(Section { id: "benchmarks".to_owned(), title: "Benchmarks".to_owned(), body, data: data_of(&figures) })
}

/// Returns the evaluations of the table with their titles.
fn columns(facts: &Facts) -> Vec<(String, &Evaluation)> {
    let at = |name: &str, evaluation: &Evaluation| (format!("{name} (step {})", evaluation.step), evaluation.step);
    let named = [
        facts.base().map(|base| ("base".to_owned(), base.step)),
        facts.saturated().map(|saturated| at("saturation", saturated)),
        facts.last().map(|last| at("last", last)),
        facts.best().map(|best| at("best", best)),
    ];
    let mut columns: Vec<(String, &Evaluation)> = Vec::new();
    for (title, step) in named.into_iter().flatten() {
        let evaluation = facts.history.evaluations.iter().find(|one| one.step == step);
        columns.extend(evaluation.filter(|_| columns.iter().all(|(_, one)| one.step != step)).map(|one| (title, one)));
    }
    columns
}

fn table(run: &RunRecord, columns: &[(String, &Evaluation)], passes: &[&str], published: &[PublishedEnds]) -> Markup {
    html! {
        table.results {
            thead {
                tr { th scope="col" { "benchmark" } @for (title, _) in columns { th scope="col" { (title) } } }
            }
            @for (pass, ends) in passes.iter().zip(published) { (pass_rows(columns, pass, ends)) }
            (mean_rows(run, columns, passes))
        }
    }
}

fn pass_rows(columns: &[(String, &Evaluation)], pass: &str, published: &PublishedEnds) -> Markup {
    let scores: Vec<Option<&Score>> = columns.iter().map(|(_, evaluation)| evaluation.scores.get(pass)).collect();
    let problems = scores.iter().flatten().map(|score| score.problems).max().unwrap_or(0);
    let row = |name: &str, cell: &dyn Fn(&Score) -> Markup| {
        html! {
            tr { th scope="row" { (name) } @for score in &scores { td { @match score { Some(score) => { (cell(score)) }, None => { "–" } } } } }
        }
    };
    html! {
        tbody {
            tr.group {
                th scope="rowgroup" colspan=(columns.len() + 1) {
                    span.sticky { (pass) span.detail { " " (count(problems)) " problems; " (describe_decoding(pass)) } }
                }
            }
            (row("accuracy, boxed", &|score| html! { strong { (estimate_cell(score.accuracy)) } }))
            (row("with unboxed answers", &|score| estimate_cell(score.accuracy_with_fallback)))
            @if scores.iter().flatten().any(|score| score.accuracy_strict.map(|one| one.mean) != score.accuracy.map(|one| one.mean)) {
                (row("accuracy, strict grader", &|score| estimate_cell(score.accuracy_strict)))
            }
            (row("boxed", &|score| html! { (percent(score.boxed)) }))
            @if scores.iter().flatten().any(|score| score.too_long > 0) {
                (row("prompts too long", &|score| html! { (score.too_long) }))
            }
            @if !published.is_empty() { (published_row(columns, published)) }
        }
    }
}

/// Writes an accuracy with its interval below.
pub fn estimate_cell(estimate: Option<Estimate>) -> Markup {
    html! { @match estimate { Some(one) => { (percent(one.mean)) " " span.interval { (interval(&one)) } }, None => { "–" } } }
}

/// The paper's values below the base model and below the last evaluation.
fn published_row(columns: &[(String, &Evaluation)], published: &PublishedEnds) -> Markup {
    let last = columns.iter().map(|(_, evaluation)| evaluation.step).max();
    let cell = |step: u64| if step == 0 { published.base } else { published.trained.filter(|_| Some(step) == last) };
    html! {
        tr.published {
            th scope="row" { "paper" }
            @for (_, evaluation) in columns { td { @if let Some(value) = cell(evaluation.step) { (percent(value)) } } }
        }
    }
}

fn mean_rows(run: &RunRecord, columns: &[(String, &Evaluation)], passes: &[&str]) -> Markup {
    let means: Vec<Option<Mean>> = columns.iter().map(|(_, evaluation)| evaluation.mean()).collect();
    let Some(sets) = means.iter().flatten().map(|mean| mean.sets).max() else { return html! {} };
    let published = PublishedEnds::of_mean(&run.settings, &passes.iter().map(|pass| set_of(pass)).collect::<BTreeSet<_>>());
    let row = |name: &str, value: fn(&Mean) -> Markup| {
        html! {
            tr {
                th scope="row" { (name) }
                @for mean in &means { td { @match mean { Some(mean) => { (value(mean)) }, None => { "–" } } } }
            }
        }
    };
    html! {
        tbody {
            tr.group { th scope="rowgroup" colspan=(columns.len() + 1) { "mean of " (sets) " benchmarks" } }
            (row("accuracy, boxed", |mean| estimate_cell(Some(mean.accuracy))))
            (row("with unboxed answers", |mean| estimate_cell(Some(mean.accuracy_with_fallback))))
            @if !published.is_empty() { (published_row(columns, &published)) }
        }
    }
}

fn curve(facts: &Facts, pass: &str, published: &PublishedEnds) -> Figure {
    let boxed = estimates_over_evaluations(facts, pass, "boxed answers", LineStyle::Markers(0), |score| score.accuracy);
    let mut unboxed =
        estimates_over_evaluations(facts, pass, "unboxed answers too", LineStyle::Plain(3), |score| score.accuracy_with_fallback);
    unboxed.points.iter_mut().for_each(|point| (point.low, point.high) = (f64::NAN, f64::NAN));
    let levels = published.named().into_iter().map(|(label, y)| Level { y, label }).collect();
    let chart = LineChart {
        title: format!("Accuracy on {pass} by training step"),
        description: description(facts, pass),
        x: step_axis(),
        y: share_axis("accuracy"),
        lines: vec![unboxed, boxed],
        marks: saturation_mark(facts),
        levels,
        size: Size::Small,
    };
    Figure {
        id: element_id("benchmark", pass),
        title: pass.to_owned(),
        caption: html! { (sentence_case(&describe_decoding(pass))) ". The band is the 95% interval." },
        svg: chart.svg(),
        csv: chart.csv(),
        ..Figure::default()
    }
}

/// Describes a curve for screen readers by its ends.
fn description(facts: &Facts, pass: &str) -> String {
    let accuracy = |evaluation: &Evaluation| Some((evaluation.step, evaluation.scores.get(pass)?.accuracy?.mean));
    let ends: Vec<(u64, f64)> = facts.history.evaluations.iter().filter_map(accuracy).collect();
    match (ends.first(), ends.last()) {
        (Some((from, first)), Some((to, last))) if from < to => {
            format!("From {} at step {from} to {} at step {to}.", percent(*first), percent(*last))
        }
        (Some((step, only)), _) => format!("{} at step {step}.", percent(*only)),
        _ => "No evaluation.".to_owned(),
    }
}

fn sentence_case(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}
