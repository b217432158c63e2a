//! The section about the text of held-out responses: self-reflection words, length, and signs of degenerate output.

use maud::html;

use crate::eval::Score;
use crate::plot::chart::{Axis, LineChart, Size, Unit};
use crate::report::page::Section;
use crate::report::page::charts::{element_id, step_axis};
use crate::report::page::figure::{Figure, data_of, grid};
use crate::report::record::run_record::RunRecord;
use crate::report::run::curves::{over_evaluations, saturation_mark};
use crate::report::run::facts::Facts;

/// A number of every pass with a chart.
struct TextStatistic {
    title: &'static str,
    label: &'static str,
    unit: Unit,
    caption: &'static str,
    of: fn(&Score) -> f64,
}

const STATISTICS: [TextStatistic; 5] = [
    TextStatistic {
        title: "Length",
        label: "tokens",
        unit: Unit::Number,
        caption: "Mean length of responses.",
        of: |score| score.mean_tokens,
    },
    TextStatistic {
        title: "Cut off",
        label: "responses",
        unit: Unit::Percent,
        caption: "Share of responses that reached the token limit.",
        of: |score| score.cut_off,
    },
    TextStatistic {
        title: "Repeated tails",
        label: "responses",
        unit: Unit::Percent,
        caption: "Share of responses that end in at least four repetitions of a block.",
        of: |score| score.repeated_tails,
    },
    TextStatistic {
        title: "Foreign letters",
        label: "letters",
        unit: Unit::Percent,
        caption: "Share of all letters that are not ASCII, such as Chinese ones.",
        of: |score| score.foreign_letters,
    },
    TextStatistic {
        title: "Any reflection word",
        label: "responses",
        unit: Unit::Percent,
        caption: "Share of responses with at least one of the words.",
        of: |score| score.reflecting,
    },
];

/// Writes the section; `None` without evaluations.
pub fn section(run: &RunRecord, facts: &Facts) -> Option<Section> {
    let passes = run.passes();
    if passes.is_empty() {
        return None;
    }
    let scores = || facts.history.evaluations.iter().flat_map(|evaluation| evaluation.scores.values());
    let varies = |statistic: &&TextStatistic| scores().any(|score| (statistic.of)(score) != 0.0);
    let (shown, zero): (Vec<_>, Vec<_>) = STATISTICS.iter().partition(varies);
    let mut figures: Vec<Figure> = shown.iter().map(|statistic| statistic.figure(facts, &passes)).collect();
    figures.extend(passes.iter().filter_map(|pass| words_figure(facts, pass)));
    let words = &run.settings.eval.reflection_words;
    let zero: Vec<String> = zero.iter().map(|statistic| statistic.title.to_lowercase()).collect();
    let body = html! {
        p {
            "What held-out responses look like as text."
            @if !words.is_empty() {
                " Reflection words are " em { (words.replace(',', ", ")) } ", regardless of case (" code { "eval.reflection_words" } ")."
            }
        }
        (grid(&figures))
        @if !zero.is_empty() { p.detail { "Zero at every evaluation: " (zero.join(", ")) "." } }
    };
    Some(Section { id: "words".to_owned(), title: "Words and text".to_owned(), body, data: data_of(&figures) })
}

impl TextStatistic {
    fn figure(&self, facts: &Facts, passes: &[&str]) -> Figure {
        let lines = passes.iter().enumerate().map(|(color, pass)| over_evaluations(facts, pass, pass, color, self.of)).collect();
        let chart = LineChart {
            title: format!("{} of held-out responses by training step", self.title),
            description: self.caption.to_owned(),
            x: step_axis(),
            y: Axis::new(self.label, self.unit),
            lines,
            marks: saturation_mark(facts),
            size: Size::Small,
            ..LineChart::default()
        };
        Figure {
            id: element_id("text", self.title),
            title: self.title.to_owned(),
            caption: html! { (self.caption) },
            svg: chart.svg(),
            csv: chart.csv(),
            ..Figure::default()
        }
    }
}

/// A line for each reflection word in a pass; `None` if no response of the pass has one.
fn words_figure(facts: &Facts, pass: &str) -> Option<Figure> {
    let scores = || facts.history.evaluations.iter().filter_map(|evaluation| evaluation.scores.get(pass));
    let mut words: Vec<&String> =
        scores().flat_map(|score| score.reflection.iter()).filter(|(_, share)| **share > 0.0).map(|(word, _)| word).collect();
    words.sort_unstable();
    words.dedup();
    if words.is_empty() {
        return None;
    }
    let line = |(color, word): (usize, &&String)| {
        over_evaluations(facts, pass, word, color, |score| score.reflection.get(*word).copied().unwrap_or(0.0))
    };
    let chart = LineChart {
        title: format!("Reflection words in {pass} by training step"),
        description: "Share of responses that contain each word.".to_owned(),
        x: step_axis(),
        y: Axis::new("responses", Unit::Percent),
        lines: words.iter().enumerate().map(line).collect(),
        marks: saturation_mark(facts),
        size: Size::Small,
        ..LineChart::default()
    };
    Some(Figure {
        id: element_id("words", pass),
        title: format!("Reflection words, {pass}"),
        caption: html! { "Share of responses that contain each word." },
        svg: chart.svg(),
        csv: chart.csv(),
        ..Figure::default()
    })
}
