//! What a comparison says about each run: its state, numbers and gaps, and the settings that all runs share.

use anyhow::Result;
use maud::{Markup, html};

use super::group::Groups;
use super::table::{Cells, table};
use crate::metrics::percent;
use crate::report::{RunRecord, RunState};
use crate::train::history::Evaluation;

/// Returns a closed section for each run.
pub fn runs(groups: &Groups) -> Markup {
    html! {
        @for group in &groups.groups {
            @for run in &group.runs { (details(&group.short, run)) }
        }
    }
}

/// Describes how far a run got: "finished after 300 steps".
pub fn state(run: &RunRecord) -> String {
    let (done, planned) = (run.metrics.last_step().unwrap_or(0), run.settings.train.steps);
    match run.state {
        RunState::Finished => format!("finished after {done} steps"),
        RunState::Running { .. } => format!("in progress, at step {done} of {planned}"),
        RunState::Stopped => format!("stopped at step {done} of {planned}"),
    }
}

fn details(group: &str, run: &RunRecord) -> Markup {
    let computed_on = run.invocation.as_ref().map(|invocation| invocation.computed_on.as_str()).filter(|text| !text.is_empty());
    html! {
        details {
            summary { (run.name) ", seed " (run.settings.seed) " (" (group) "): " (state(run)) }
            dl {
                dt { "Folder" } dd { code { (run.folder.root().display()) } }
                @if let Some(machine) = computed_on { dt { "Computed on" } dd { (machine) } }
                dt { "Saturation" }
                dd { @match run.saturation_step() { Some(step) => { "step " (step) }, None => "not reached" } }
                dt { "All about this run" } dd { code { "rlvr report " (run.folder.root().display()) } }
            }
            (evaluations(run))
            @if !run.missing.is_empty() {
                p { "Missing:" }
                ul { @for what in &run.missing { li { (what) } } }
            }
        }
    }
}

/// Returns the accuracy at the base model, at saturation and at the end, by pass.
fn evaluations(run: &RunRecord) -> Markup {
    let milestones = run.milestones();
    if milestones.is_empty() {
        return html! {};
    }
    let name = |step: u64| if step == 0 { "base model".to_owned() } else { format!("step {step}") };
    let columns: Vec<String> = milestones.iter().map(|one| name(one.step)).collect();
    let best = run.history().best().map(|best: &Evaluation| best.step);
    let header: Vec<&str> = std::iter::once("accuracy [95% over problems]").chain(columns.iter().map(String::as_str)).collect();
    let cell = |scores: &crate::report::EvaluationScores, pass: &str| {
        let accuracy = scores.scores.get(pass).and_then(|score| score.accuracy);
        accuracy.map_or_else(|| "–".to_owned(), |one| format!("{} [{:.1}, {:.1}]", percent(one.mean), one.low * 100.0, one.high * 100.0))
    };
    let row = |pass: &&str| Cells { name: (*pass).to_owned(), cells: milestones.iter().map(|one| cell(one, pass)).collect() };
    let rows: Vec<Cells> = run.passes().iter().map(row).collect();
    html! {
        (table(&format!("Evaluations of {}", run.name), &header, &rows))
        @if let Some(step) = best { p.detail { "Best evaluation: " (name(step)) "." } }
    }
}

/// Returns the settings that all runs share, in a closed section.
///
/// # Errors
/// If settings cannot be converted to a table.
pub fn shared_settings(groups: &Groups) -> Result<Markup> {
    let cells = |(name, value): (String, String)| Cells { name, cells: vec![if value.is_empty() { "empty".to_owned() } else { value }] };
    let rows: Vec<Cells> = groups.shared_settings()?.into_iter().map(cells).collect();
    Ok(html! {
        @if !rows.is_empty() {
            details {
                summary { (rows.len()) " settings that all runs share" }
                (table("Shared settings", &["setting", "value"], &rows))
            }
        }
    })
}
