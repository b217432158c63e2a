//! The section about what a gain consists of: format, choice among answer styles, broken responses, and the rest.

use maud::{Markup, html};

use crate::eval::statistics::{Estimate, GainParts};
use crate::plot::chart::{Axis, BarChart, BarSeries, LineChart, LineStyle, Size, StackedChart, Unit};
use crate::report::page::Section;
use crate::report::page::charts::{bar, element_id, share_axis, step_axis};
use crate::report::page::figure::{Figure, data_of, grid};
use crate::report::page::numbers::{count, percent, points, six_digits};
use crate::report::record::run_record::RunRecord;
use crate::report::run::curves::{over_evaluations, saturation_mark};
use crate::report::run::facts::Facts;

/// A pass whose gain is split.
type Split = (String, GainParts);

/// With more passes, the picture shows only their mean.
const MOST_IN_PICTURE: usize = 3;

/// A part of the gain: its name, its definition, and its size.
type Part = (&'static str, &'static str, fn(&GainParts) -> Estimate);

/// The parts in the order of the picture.
const PARTS: [Part; 4] = [
    (
        "format",
        "Right answers that get their box. This is the gain that disappears when unboxed answers count too; the other parts split what \
         remains.",
        |parts| parts.format,
    ),
    (
        STYLE,
        "The model chooses other ways of answering, each as good as it was before: the change of each style's share times the base model's \
         accuracy in that style.",
        |parts| parts.styles,
    ),
    (
        "complete responses",
        "Within each style, fewer responses are cut off by the token limit or end in endless repetition: the change of their share times \
         the base model's difference in accuracy.",
        |parts| parts.broken,
    ),
    (
        "the rest",
        "Complete responses in the same style are right more often. Only this part can be better calculation or reasoning.",
        |parts| parts.rest,
    ),
];

/// The part that only benchmarks with a classifier of answer styles have.
const STYLE: &str = "answer style";

/// Writes the section; `None` without an evaluation.
pub fn section(run: &RunRecord, facts: &Facts) -> Option<Section> {
    facts.history.evaluations.first()?;
    let passes = run.passes();
    let mut splits: Vec<Split> = facts.gain_parts.iter().map(|(pass, parts)| (pass.clone(), parts.clone())).collect();
    let has_styles = splits.iter().any(|(_, parts)| !parts.by_style.is_empty());
    if splits.len() > MOST_IN_PICTURE {
        splits.extend(facts.mean_gain_parts().map(|mean| (format!("mean of {}", splits.len()), mean)));
    }
    let mut figures = Vec::new();
    if !splits.is_empty() {
        figures.push(parts_figure(if splits.len() > MOST_IN_PICTURE { &splits[splits.len() - 1..] } else { &splits }, has_styles));
    }
    let small: Vec<Figure> = std::iter::once(boxed_figure(run, facts, &passes)).chain(style_figures(facts, &passes)).collect();
    let body = html! {
        @if !splits.is_empty() {
            p {
                "The gain from the base model to step " (facts.last().map_or(0, |last| last.step)) ", split into parts that add up to it. Each \
                 part has its 95% interval over problems."
                @if !has_styles {
                    " These benchmarks have no classifier of answer styles, so a change of style counts in the rest."
                }
            }
            @for figure in &figures { (figure.markup()) }
            (definitions())
            (parts_table(&splits))
            @for (pass, parts) in splits.iter().filter(|(_, parts)| !parts.by_style.is_empty()) { (style_table(pass, parts)) }
        } @else {
            p { "A split of the gain needs the responses of the base model and of a later step; this run does not have both." }
        }
        (grid(&small))
    };
    figures.extend(small);
    Some(Section { id: "gain".to_owned(), title: "What the gain is".to_owned(), body, data: data_of(&figures) })
}

fn definitions() -> Markup {
    html! { dl.definitions { @for (name, definition, _) in PARTS { div { dt { (name) } dd { (definition) } } } } }
}

fn parts_figure(splits: &[Split], has_styles: bool) -> Figure {
    let shown: Vec<Part> = PARTS.into_iter().filter(|(name, _, _)| has_styles || *name != STYLE).collect();
    let value = |parts: &GainParts| {
        let parts = shown.iter().map(|(_, _, part)| part(parts)).chain([parts.gain]);
        parts.map(|part| bar(Some(in_points(part)))).collect()
    };
    let chart = BarChart {
        title: "The gain in accuracy, split into parts".to_owned(),
        description: splits.iter().map(|(pass, parts)| format!("{pass}: {}. ", in_words(parts))).collect(),
        value: Axis::new("percentage points of accuracy", Unit::Points),
        categories: shown.iter().map(|(name, _, _)| (*name).to_owned()).chain(["whole gain".to_owned()]).collect(),
        series: splits.iter().map(|(pass, parts)| BarSeries { name: pass.clone(), values: value(parts) }).collect(),
        size: Size::Full,
    };
    Figure {
        id: "gain-parts".to_owned(),
        title: "Parts of the gain".to_owned(),
        caption: html! {
            @if let [(pass, _)] = splits { (pass) ". " }
            "Bars from zero; those above the last add up to it. Lines are 95% intervals."
        },
        svg: chart.svg(),
        narrow: Some(chart.narrow_svg()),
        csv: chart.csv(),
    }
}

/// Converts shares to percentage points, rounded as in the table, so that both show the same numbers.
fn in_points(share: Estimate) -> Estimate {
    let points = |share: f64| format!("{:.1}", 100.0 * share).parse().unwrap_or(f64::NAN);
    Estimate { mean: points(share.mean), low: points(share.low), high: points(share.high) }
}

fn in_words(parts: &GainParts) -> String {
    let words: Vec<String> = PARTS.iter().map(|(name, _, part)| format!("{name} {}", points(part(parts).mean))).collect();
    format!("{}, whole gain {}", words.join(", "), points(parts.gain.mean))
}

fn parts_table(splits: &[Split]) -> Markup {
    let cell = |estimate: Estimate| {
        let [mean, low, high] = [estimate.mean, estimate.low, estimate.high].map(|share| points(share).replace(" points", ""));
        html! { (mean) " " span.interval { "[" (low) ", " (high) "]" } }
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label="Parts of the gain in percentage points" {
            table.results {
                caption { "Parts in percentage points, rounded" }
                thead {
                    tr {
                        th scope="col" { "benchmark" }
                        th scope="col" { "problems" }
                        @for (name, _, _) in PARTS { th scope="col" { (name) } }
                        th scope="col" { "whole gain" }
                    }
                }
                tbody {
                    @for (pass, parts) in splits {
                        tr {
                            th scope="row" { (pass) }
                            td { (count(parts.problems)) }
                            @for (_, _, part) in PARTS { td { (cell(part(parts))) } }
                            td { strong { (cell(parts.gain)) } }
                        }
                    }
                }
            }
        }
    }
}

fn style_table(pass: &str, parts: &GainParts) -> Markup {
    let accuracy = |accuracy: Option<f64>| accuracy.map_or_else(|| "–".to_owned(), percent);
    let is_assumed = parts.by_style.iter().any(|style| style.accuracy[0].is_none() && style.assumed.is_some());
    let is_unknown = parts.by_style.iter().any(|style| style.assumed.is_none());
    html! {
        details {
            summary { "Answer styles of " (pass) }
            div.scroll tabindex="0" role="region" aria-label={ "Answer styles of " (pass) } {
                table.results {
                    thead {
                        tr {
                            th scope="col" { "style" }
                            th scope="col" { "share, base" } th scope="col" { "share, last" }
                            th scope="col" { "accuracy, base" } th scope="col" { "accuracy, last" }
                        }
                    }
                    tbody {
                        @for style in &parts.by_style {
                            tr {
                                th scope="row" { @if style.name.is_empty() { "not classified" } @else { (style.name) } }
                                @for share in style.share { td { (percent(share)) } }
                                td {
                                    (accuracy(style.assumed))
                                    @if style.accuracy[0].is_none() && style.assumed.is_some() { "*" }
                                }
                                td { (accuracy(style.accuracy[1])) }
                            }
                        }
                    }
                }
            }
            p.detail {
                "Accuracy counts unboxed answers."
                @if is_assumed {
                    " * The base model never answers so in this pass; this is its accuracy in the other passes over the same problems."
                }
                @if is_unknown {
                    " A style that the base model never uses (–) enters the split with the base model's accuracy over all styles."
                }
            }
        }
    }
}

fn boxed_figure(run: &RunRecord, facts: &Facts, passes: &[&str]) -> Figure {
    let mut lines: Vec<_> =
        passes.iter().enumerate().map(|(color, pass)| over_evaluations(facts, pass, pass, color, |score| score.boxed)).collect();
    let train = super::training::points_of(run, &["train/boxed_share"]);
    let stride = super::training::csv_stride(train.len());
    let train: Vec<_> = train.into_iter().step_by(stride).collect();
    if !train.is_empty() {
        let line = crate::plot::chart::Line { name: "training".to_owned(), points: train, style: LineStyle::Faint(6) };
        lines.insert(0, line);
    }
    let chart = LineChart {
        title: "Share of responses with a boxed answer by training step".to_owned(),
        description: "Right or wrong answers in a complete box.".to_owned(),
        x: step_axis(),
        y: share_axis("responses with a box"),
        lines,
        marks: saturation_mark(facts),
        size: Size::Small,
        ..LineChart::default()
    };
    Figure {
        id: "boxed-share".to_owned(),
        title: "Boxed answers".to_owned(),
        caption: html! { "Share of responses with a complete " code { "\\boxed{}" } ", right or wrong." },
        svg: chart.svg(),
        csv: chart.csv(),
        ..Figure::default()
    }
}

/// One figure for each pass with styles.
fn style_figures(facts: &Facts, passes: &[&str]) -> Vec<Figure> {
    passes.iter().filter_map(|pass| style_figure(facts, pass)).collect()
}

fn style_figure(facts: &Facts, pass: &str) -> Option<Figure> {
    let scores: Vec<_> = facts.history.evaluations.iter().filter_map(|one| Some((one.step as f64, one.scores.get(pass)?))).collect();
    let mut names: Vec<&String> = scores.iter().flat_map(|(_, score)| score.styles.keys()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return None;
    }
    let share = |name: &String| scores.iter().map(|(_, score)| six_digits(score.styles.get(name).copied().unwrap_or(0.0))).collect();
    let chart = StackedChart {
        title: format!("Answer styles of {pass} by training step"),
        description: "Share of responses in each style.".to_owned(),
        x: step_axis(),
        y: share_axis("responses"),
        layers: names.iter().map(|name| ((*name).clone(), share(name))).collect(),
        xs: scores.iter().map(|(step, _)| *step).collect(),
        size: Size::Small,
    };
    Some(Figure {
        id: element_id("styles", pass),
        title: format!("Answer styles, {pass}"),
        caption: html! { "Share of responses in each style, recognized by their first words." },
        svg: chart.svg(),
        csv: chart.csv(),
        ..Figure::default()
    })
}
