//! The start of the page: three numbers, one picture, one sentence of what happened, what it does not show, and what is missing.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use crate::eval::statistics::Estimate;
use crate::plot::chart::{Level, Line, LineChart, LineStyle, Sample, Size};
use crate::plot::curve::{self, Curve, Point};
use crate::report::caveats::{Attempts, Caveats};
use crate::report::charts::{TRAIN, sample, saturation_mark, share_axis, step_axis};
use crate::report::facts::{Facts, Measure, describe_decoding};
use crate::report::figure::Figure;
use crate::report::numbers::{interval, percent, points_with_interval, six_digits};
use crate::report::page::Section;
use crate::report::published_values::{PublishedEnds, note};
use crate::report::run_record::{RunRecord, RunState};
use crate::train::history::{Evaluation, set_of};

/// A number with what it measures.
struct Card {
    label: String,
    value: String,
    detail: Vec<String>,
}

/// Writes the section.
pub fn section(run: &RunRecord, facts: &Facts) -> Section {
    let published = published_ends(run, facts);
    let figure = headline(run, facts, &published);
    let missing: Vec<&String> = run.missing.iter().chain(&facts.missing).collect();
    let body = html! {
        p.sentence { (with_asides(&facts.outcome(run).sentence())) }
        @if let Some(progress) = progress(run) { p.note { (progress) } }
        dl.cards { @for card in cards(run, facts, &published) { (card.markup()) } }
        (figure.markup())
        h3 { "What this does not show" }
        ul.caveats { @for sentence in caveats(run, facts).sentences() { li { (sentence) } } }
        @if !missing.is_empty() {
            h3 #missing { "What is missing" }
            ul { @for one in missing { li { (one) } } }
        }
    };
    Section { id: "start".to_owned(), title: "What happened".to_owned(), body, data: vec![figure.data()] }
}

impl Card {
    fn markup(&self) -> Markup {
        html! { div { dt { (self.label) } dd { strong { (self.value) } @for line in &self.detail { span { (line) } } } } }
    }
}

/// Writes a sentence with differences in brackets, such as `(+1.0 points [+0.5, +1.5])`, as asides, which the page shows smaller.
fn with_asides(sentence: &str) -> Markup {
    let mut parts = Vec::new();
    let mut rest = sentence;
    while let Some(end) = rest.find("])").map(|end| end + 2) {
        let start = rest[..end].rfind(" (").map_or(end, |space| space + 1);
        let aside = Some(&rest[start..end]).filter(|aside| aside.contains(" points ["));
        parts.push(if aside.is_some() { (&rest[..start], aside) } else { (&rest[..end], None) });
        rest = &rest[end..];
    }
    html! { @for (text, aside) in parts { (text) @if let Some(aside) = aside { span.aside { (aside) } } } (rest) }
}

/// Returns the paper's accuracies for what the headline shows.
fn published_ends(run: &RunRecord, facts: &Facts) -> PublishedEnds {
    match run.passes().as_slice() {
        passes if facts.measures.first() == Some(&Measure::Mean) => PublishedEnds::of_mean(&run.settings, &sets(passes)),
        passes if sets(passes).len() == 1 => PublishedEnds::of_benchmark(&run.settings, set_of(passes[0])),
        _ => PublishedEnds::default(),
    }
}

/// Says whether the run is in progress or stopped; `None` if it is finished.
fn progress(run: &RunRecord) -> Option<String> {
    let (done, planned) = (run.metrics.last_step().unwrap_or(0), run.settings.train.steps);
    match &run.state {
        RunState::Finished => None,
        RunState::Running { holder } => {
            let by = holder.as_ref().map_or_else(String::new, |holder| format!(" by process {} on {}", holder.pid, holder.host));
            Some(format!(
                "The run is in progress{by}: {done} of {planned} steps are done. This page shows the run as it was when the page was written."
            ))
        }
        RunState::Stopped => Some(format!("The run stopped at step {done} of {planned}; all numbers are up to there.")),
    }
}

/// Returns three numbers: accuracy at the milestones, with the paper's below, and train accuracy and steps where milestones are missing.
fn cards(run: &RunRecord, facts: &Facts, published: &PublishedEnds) -> Vec<Card> {
    let milestones = [
        facts.base().map(|base| ("Base model".to_owned(), base, published.base)),
        facts.saturated().filter(|one| facts.last().is_some_and(|last| last.step > one.step)).map(|saturated| {
            let step = facts.saturation.unwrap_or(saturated.step);
            let at = if step == saturated.step {
                format!("At saturation, step {step}")
            } else {
                format!("After saturation, step {}", saturated.step)
            };
            (at, saturated, None)
        }),
        facts.last().map(|last| (format!("Last, step {}", last.step), last, published.trained)),
    ];
    let card = |(label, one, paper)| accuracy_card(facts, label, one, paper);
    let mut cards: Vec<Card> = milestones.into_iter().flatten().filter_map(card).collect();
    let train = facts.history.recent_train_accuracy().map(|accuracy| Card {
        label: "Train accuracy".to_owned(),
        value: percent(accuracy),
        detail: vec![format!("mean of the last {} steps", facts.history.saturation_window.min(run.metrics.steps.len()))],
    });
    let steps = Card {
        label: "Training steps".to_owned(),
        value: run.metrics.last_step().unwrap_or(0).to_string(),
        detail: vec![format!("of {} planned", run.settings.train.steps)],
    };
    let room = 3usize.saturating_sub(cards.len());
    cards.extend(train.into_iter().chain([steps]).take(room));
    cards
}

fn accuracy_card(facts: &Facts, label: String, evaluation: &Evaluation, paper: Option<f64>) -> Option<Card> {
    let mut estimates = facts.measures.iter().filter_map(|measure| Some((*measure, measure.estimate(evaluation)?)));
    let (measure, first) = estimates.next()?;
    let mut detail = vec![format!("{} {}", interval(&first), measure.name(evaluation))];
    detail.extend(estimates.map(|(measure, one)| format!("{} {} {}", percent(one.mean), interval(&one), measure.name(evaluation))));
    detail.extend(paper.map(|paper| format!("paper: {}", percent(paper))));
    Some(Card { label, value: percent(first.mean), detail })
}

/// The headline picture: train accuracy and held-out accuracy over the steps.
fn headline(run: &RunRecord, facts: &Facts, published: &PublishedEnds) -> Figure {
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
    let lines = vec![
        Line { name: "training example, each step".to_owned(), points: train, style: LineStyle::Faint(TRAIN) },
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
    ];
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

fn rounded(estimate: Estimate) -> Estimate {
    Estimate { mean: six_digits(estimate.mean), low: six_digits(estimate.low), high: six_digits(estimate.high) }
}

fn caveats(run: &RunRecord, facts: &Facts) -> Caveats {
    let last = facts.last();
    let headline = facts.measures.first().zip(last);
    let format = headline.and_then(|(measure, last)| {
        let parts = match measure.passes(last).as_slice() {
            [pass] => facts.gain_parts.get(*pass).cloned(),
            _ => facts.mean_gain_parts(),
        }?;
        Some((measure.name(last), parts.gain, parts.format))
    });
    let attempts = facts.base().and_then(|base| {
        let (pass, score) = base.scores.iter().filter(|(_, score)| score.samples > 1).max_by_key(|(_, score)| score.problems)?;
        let any = score.pass_at.last()?.mean;
        let last = last.and_then(|last| last.scores.get(pass)).and_then(|score| score.accuracy).map(|accuracy| accuracy.mean);
        let majority = score.majority.map(|majority| majority.mean);
        Some(Attempts { pass: pass.clone(), samples: score.samples, any, majority, last })
    });
    Caveats {
        seed: run.settings.seed,
        format,
        best: facts.best().zip(last).map(|(best, last)| (best.step, last.step)).filter(|(best, last)| best != last),
        attempts,
        has_evaluations: !facts.history.evaluations.is_empty(),
        limit: run.settings.eval.limit,
        is_embedded: run.settings.model == "tiny",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_asides_separates_differences_in_brackets() {
        let check = |sentence: &str, expected: &str| assert_eq!(with_asides(sentence).into_string(), expected);
        check("Up x (+1) (+1.0 points [+0.5, +1.5]).", "Up x (+1) <span class=\"aside\">(+1.0 points [+0.5, +1.5])</span>.");
        check(
            "a (−1.0 points [−2.0, −0.1]); b (+0.0 points [−1.0, +1.0])",
            "a <span class=\"aside\">(−1.0 points [−2.0, −0.1])</span>; b <span class=\"aside\">(+0.0 points [−1.0, +1.0])</span>",
        );
        for unchanged in ["", "x (+1) of y", "f (+1.0 points [", "a (b])", "a]) points [b])"] {
            check(unchanged, unchanged);
        }
    }
}
