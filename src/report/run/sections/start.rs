//! The start of the page: three numbers, one picture, one sentence of what happened, what it does not show, and what is missing.

use maud::{Markup, html};

use super::headline;
use crate::report::page::Section;
use crate::report::page::numbers::{interval, percent};
use crate::report::record::run_record::{RunRecord, RunState};
use crate::report::run::caveats::{Attempts, Caveats};
use crate::report::run::facts::Facts;
use crate::report::run::published_values::PublishedEnds;
use crate::train::history::Evaluation;

/// A number with what it measures.
struct Card {
    label: String,
    value: String,
    detail: Vec<String>,
}

/// Writes the section.
pub fn section(run: &RunRecord, facts: &Facts) -> Section {
    let published = headline::published_ends(run, facts);
    let figure = headline::figure(run, facts, &published);
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
