//! The section about several samples per problem: pass@k and majority votes, which say how much of the gain repeated sampling of the base
//! model would reach.

use maud::{Markup, html};

use super::benchmarks::estimate_cell;
use crate::eval::Score;
use crate::plot::chart::{Axis, Line, LineChart, LineStyle, Scale, Size, Unit};
use crate::report::page::Section;
use crate::report::page::charts::{element_id, sample};
use crate::report::page::figure::{Figure, data_of, grid};
use crate::report::record::run_record::RunRecord;
use crate::report::run::facts::Facts;
use crate::train::history::{Evaluation, set_of};

/// Writes the section; `None` without evaluations.
pub fn section(run: &RunRecord, facts: &Facts) -> Option<Section> {
    let passes = run.passes();
    if passes.is_empty() {
        return None;
    }
    let several = |pass: &&&str| facts.history.evaluations.iter().any(|one| one.scores.get(**pass).is_some_and(|score| score.samples > 1));
    let sampled: Vec<&str> = passes.iter().filter(several).copied().collect();
    let figures: Vec<Figure> = sampled.iter().map(|pass| figure(facts, pass)).collect();
    let body = html! {
        @if sampled.is_empty() {
            p {
                "No pass of this run samples several responses per problem, so it is not known how often the base model would find the right \
                 answer in several attempts. To measure it, train with " code { "--set eval.decoding=t0.6x8" } " (eight responses at \
                 temperature 0.6 to each problem), choose benchmarks that are published with several responses, such as "
                code { "--set eval.benchmarks=aime24" } ", or evaluate the base model and a checkpoint:"
            }
            (commands(run, facts, set_of(passes[0])))
        } @else {
            p {
                "pass@k is the probability that at least one of k responses is right. If the base model reaches the trained model's pass@1 \
                 with a few attempts, training made right answers more likely rather than possible. A majority vote needs no knowledge of the \
                 right answer."
            }
            (grid(&figures))
            (majority_table(facts, &sampled))
        }
    };
    Some(Section { id: "pass-at-k".to_owned(), title: "Several attempts: pass@k".to_owned(), body, data: data_of(&figures) })
}

fn commands(run: &RunRecord, facts: &Facts, benchmark: &str) -> Markup {
    let last = facts.last().map_or(0, |last| last.step);
    let model = &run.settings.model;
    let max_new = run.settings.eval.max_new_tokens;
    let checkpoint = run.folder.checkpoint(last);
    let evaluate = |model: &str| format!("rlvr eval --model {model} --benchmarks {benchmark} --decoding t0.6x8 --max-new-tokens {max_new}");
    html! { pre tabindex="0" { (evaluate(model)) "\n" (evaluate(&checkpoint.display().to_string())) } }
}

/// The evaluations to compare, with their names and colors.
fn milestones(facts: &Facts) -> Vec<(String, usize, &Evaluation)> {
    let mut found: Vec<(String, usize, &Evaluation)> = Vec::new();
    let named = [("base", 4, facts.base()), ("saturation", 1, facts.saturated()), ("last", 0, facts.last())];
    for (name, color, evaluation) in named.into_iter().filter_map(|(name, color, evaluation)| Some((name, color, evaluation?))) {
        if found.iter().all(|(_, _, earlier)| earlier.step != evaluation.step) {
            let step = if evaluation.step == 0 { String::new() } else { format!(" (step {})", evaluation.step) };
            found.push((format!("{name}{step}"), color, evaluation));
        }
    }
    found
}

fn figure(facts: &Facts, pass: &str) -> Figure {
    let line = |(name, color, evaluation): (String, usize, &Evaluation)| {
        let score = evaluation.scores.get(pass)?;
        let points = score.pass_at.iter().enumerate().map(|(index, estimate)| sample((index + 1) as f64, estimate)).collect();
        Some(Line { name, points, style: LineStyle::Markers(color) })
    };
    let chart = LineChart {
        title: format!("pass@k on {pass}"),
        description: "Probability that at least one of k responses is right.".to_owned(),
        x: Axis { scale: Scale::Log, ..Axis::new("attempts k, log scale", Unit::Number) },
        y: Axis { range: Some((0.0, 1.0)), ..Axis::new("problems solved", Unit::Percent) },
        lines: milestones(facts).into_iter().filter_map(line).collect(),
        size: Size::Small,
        ..LineChart::default()
    };
    Figure {
        id: element_id("pass-at-k", pass),
        title: format!("pass@k, {pass}"),
        caption: html! { "Unbiased estimate from all responses. Bands are 95% intervals over problems." },
        svg: chart.svg(),
        csv: chart.csv(),
        ..Figure::default()
    }
}

fn majority_table(facts: &Facts, passes: &[&str]) -> Markup {
    let milestones = milestones(facts);
    let row = |name: &str, pass: &str, value: fn(&Score) -> Option<crate::eval::statistics::Estimate>| {
        html! {
            tr {
                th scope="row" { (name) }
                @for (_, _, evaluation) in &milestones { td { (estimate_cell(evaluation.scores.get(pass).and_then(value))) } }
            }
        }
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label="Majority votes" {
            table.results {
                thead { tr { th scope="col" { "benchmark" } @for (name, _, _) in &milestones { th scope="col" { (name) } } } }
                @for pass in passes {
                    tbody {
                        tr.group { th scope="rowgroup" colspan=(milestones.len() + 1) { (pass) } }
                        (row("one attempt (mean)", pass, |score| score.accuracy))
                        (row("majority vote", pass, |score| score.majority))
                        (row("any of all attempts", pass, |score| score.pass_at.last().copied()))
                    }
                }
            }
        }
    }
}
