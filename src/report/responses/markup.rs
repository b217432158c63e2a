//! The elements of the section. Without script, those of a file show a few responses and say that the others need it. The page's scripts
//! fill the elements with `data-browser`.

use maud::{Markup, html};

use super::held_out::{Entry, Outcome, Packed, Reader, Recorded, ShownResponse};
use super::rollouts::PackedRollouts;
use super::shown_text::safe;
use super::{milestone_names, milestone_steps};
use crate::report::RunRecord;
use crate::report::page::numbers::count;

/// The number of problems that are readable without script.
const PLAIN: usize = 5;
/// The number of characters of a response that are readable without script.
const PLAIN_CHARS: usize = 1_500;

/// Returns the content of the section.
pub fn body(run: &RunRecord, recorded: &Recorded, reader: &Reader, packed: &Packed, rollouts: &PackedRollouts) -> Markup {
    html! {
        (held_out(run, recorded, reader, packed))
        (training(rollouts))
        @let missing: Vec<&String> = recorded.missing.iter().chain(&rollouts.missing).collect();
        @if !missing.is_empty() {
            p { "Not all responses can be shown:" }
            ul { @for sentence in missing { li { (safe(sentence)) } } }
        }
    }
}

/// Returns the content of the section of a served page.
pub fn served_body(run: &RunRecord) -> Markup {
    let steps = milestone_steps(run);
    html! {
        div.response-browser id="held-out" {
            h3 { "Held-out problems" }
            @if run.passes().is_empty() {
                p { "The run has no graded responses to held-out problems." }
            } @else {
                (each_problem(&steps, &milestone_names(run, &steps), "The server has the responses at all evaluations."))
                noscript { p { "The responses of a served report need script." } }
                div data-browser="" hidden {}
            }
        }
        div.response-browser id="rollouts" {
            h3 { "The training example, step by step" }
            @if run.rollout_steps().is_empty() {
                p { "The run has no recorded rollouts." }
            } @else {
                p {
                    "These are the responses from which the policy learned, at every recorded step. Identical ones are shown once. " (UNREADABLE)
                }
                noscript { p { "The responses of a served report need script." } }
                div data-browser="" hidden {}
            }
        }
    }
}

/// Returns the sentence that names the columns of an opened problem, followed by where its responses come from.
fn each_problem(steps: &[u64], names: &[&str], origin: &str) -> Markup {
    html! { p { "Each problem is shown with the responses of the " (columns(steps, names)) ". " (origin) } }
}

fn held_out(run: &RunRecord, recorded: &Recorded, reader: &Reader, packed: &Packed) -> Markup {
    let names = milestone_names(run, &recorded.steps);
    html! {
        div.response-browser id="held-out" {
            h3 { "Held-out problems" }
            @if recorded.entries.is_empty() {
                p { "The run has no graded responses to held-out problems." }
            } @else {
                (each_problem(&recorded.steps, &names, &inclusion(run, recorded, packed)))
                noscript { p { "The list of responses needs script. The first problems are below." } }
                div data-browser="" hidden {}
                div data-plain="" {
                    @for index in packed.included.iter().take(PLAIN) { (plain(&recorded.entries[*index], recorded, reader, &names)) }
                }
            }
        }
    }
}

/// Returns the milestones in words, such as `base model (step 0) and the last evaluation (step 300)`.
fn columns(steps: &[u64], names: &[&str]) -> String {
    let one = |(step, name): (&u64, &&str)| match *name {
        "base" => format!("base model (step {step})"),
        "saturation" => format!("first evaluation at or after saturation (step {step})"),
        "latest" => format!("latest evaluation (step {step})"),
        _ => format!("last evaluation (step {step})"),
    };
    let all: Vec<String> = steps.iter().zip(names).map(one).collect();
    match all.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and the {last}", others.join(", the ")),
        None => String::new(),
    }
}

/// Says how many responses the page includes, and by which rule they are chosen.
fn inclusion(run: &RunRecord, recorded: &Recorded, packed: &Packed) -> String {
    let responses = |entry: &Entry| entry.at.iter().flatten().count();
    let all: usize = recorded.entries.iter().map(responses).sum();
    let included: usize = packed.included.iter().map(|index| responses(&recorded.entries[*index])).sum();
    if included == all {
        return format!("All {} responses are included.", count(all));
    }
    format!(
        "{} of {} responses are included, in {} of {} entries (an entry is one problem in one pass, with one sample): first the entries \
         whose verdict changed between the first and the last of these evaluations, then the others; in both, the subjects take turns, in \
         an order drawn with the run's seed ({}).",
        count(included),
        count(all),
        count(packed.included.len()),
        count(recorded.entries.len()),
        run.settings.seed
    )
}

/// Returns a problem as it can be read without script.
fn plain(entry: &Entry, recorded: &Recorded, reader: &Reader, names: &[&str]) -> Markup {
    let opened = reader.open(entry);
    html! {
        details.response-plain {
            summary { bdi { (safe(&entry.id)) } " (" (recorded.passes[entry.pass]) ")" }
            @match &opened.problem.question {
                Some(question) => p.response-text dir="auto" { (question) },
                None => p { "The question is not on this machine." },
            }
            p { "Gold answer: " bdi { (opened.problem.gold) } }
            @for ((response, step), name) in opened.responses.iter().zip(&recorded.steps).zip(names) {
                h4 { (name) " (step " (step) ")" }
                @match response {
                    Some(response) => (plain_response(response)),
                    None => p { "No response is recorded." },
                }
            }
        }
    }
}

fn plain_response(response: &ShownResponse) -> Markup {
    html! {
        p { b { (outcome_words(response.outcome)) } ". " bdi { (response.reason) } "." }
        pre.response-text dir="auto" { (start_of(&response.text)) }
    }
}

/// Cuts off the rest of a long text.
fn start_of(text: &str) -> String {
    let start: String = text.chars().take(PLAIN_CHARS).collect();
    if start.len() == text.len() { start } else { format!("{start}\n[... the rest needs script ...]") }
}

/// Returns a verdict in words.
fn outcome_words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Correct => "Correct",
        Outcome::Unboxed => "Right but not boxed, counts as wrong",
        Outcome::Wrong => "Wrong",
        Outcome::NoAnswer => "No boxed answer",
        Outcome::TooLong => "Prompt too long",
    }
}

fn training(rollouts: &PackedRollouts) -> Markup {
    html! {
        div.response-browser id="rollouts" {
            h3 { "The training example, step by step" }
            @if rollouts.steps.is_empty() {
                p { "The run has no recorded rollouts." }
            } @else {
                p {
                    "These are responses from which the policy learned, at " (rollouts.steps.len()) " of " (count(rollouts.recorded)) " recorded steps: the "
                    "first and the last ones, those around saturation, and others between. Up to " (rollouts.per_step)
                    " responses are shown per step, half of them right and half wrong where there are enough of both; identical ones are shown once. "
                    (gibberish(rollouts))
                }
                noscript { p { "The responses need script." } }
                div data-browser="" hidden {}
            }
        }
    }
}

/// What the page means by unreadable.
const UNREADABLE: &str = "A response counts as unreadable if it has broken or control characters, ends in repetitions, or has more than 20% \
                          letters outside ASCII although the first responses have fewer than 5%.";

/// Says from which step on most responses are unreadable, and what that means.
fn gibberish(rollouts: &PackedRollouts) -> String {
    let most = rollouts.steps.iter().all(|step| step.unreadable_share() >= 0.5);
    let found = match rollouts.gibberish {
        Some(step) => format!("From step {step} on, most responses are unreadable, so the list ends soon after it."),
        None if most => "Most responses are unreadable at all of these steps.".to_owned(),
        None => "There is no step from which most responses are unreadable.".to_owned(),
    };
    format!("{found} {UNREADABLE}")
}
