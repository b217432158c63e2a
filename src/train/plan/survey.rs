//! Plans one run for every known GPU: whether it fits, with which settings that leave the experiment as it is, and the estimated time.

use anyhow::Result;
use serde_json::{Value, json};

use super::cards::{CARDS, Card};
use super::display::{duration, hours};
use super::{AppliedChange, Effect, Plan, RunWorkload, Times};
use crate::checkpoint::disk::format_bytes;
use crate::kernels::Target;
use crate::model::ModelConfig;
use crate::train::settings::RunSettings;

/// The plan of a run for one card.
#[derive(Clone, Debug)]
pub struct CardPlan {
    /// The card.
    pub card: &'static Card,
    /// Settings with which the run fits; empty if it fits as it is, `None` if it does not fit.
    pub changes: Option<Vec<AppliedChange>>,
    /// The peak memory with these settings, in bytes; without them if it does not fit.
    pub peak: u64,
    /// Estimated times with these settings, one per mean length; empty if the run does not fit or the model does not describe it.
    pub times: Vec<Times>,
}

/// Plans a run for every known card. `target` returns the target for a card.
///
/// # Errors
/// If the settings do not suit the model.
pub fn survey(config: &ModelConfig, settings: &RunSettings, work: &RunWorkload, target: impl Fn(&Card) -> Target) -> Result<Vec<CardPlan>> {
    CARDS.iter().map(|card| plan_for(card, config, settings, work, target(card))).collect()
}

fn plan_for(card: &'static Card, config: &ModelConfig, settings: &RunSettings, work: &RunWorkload, target: Target) -> Result<CardPlan> {
    let plan = Plan::of(config, settings, work, target)?;
    let usable = card.usable_bytes();
    let found =
        if plan.memory.peak() <= usable { Some((settings.clone(), Vec::new())) } else { plan.changes_that_fit(usable, Effect::Rounding) };
    let Some((settings, changes)) = found.filter(|_| card.is_supported()) else {
        return Ok(CardPlan { card, changes: None, peak: plan.memory.peak(), times: Vec::new() });
    };
    let changed = Plan::of(config, &settings, work, target)?;
    let times = changed.means().into_iter().filter_map(|mean| changed.times_on(card, mean)).collect();
    Ok(CardPlan { card, changes: Some(changes), peak: changed.memory.peak(), times })
}

/// Formats the plans as a table for people, at most 80 columns wide unless a card needs long settings.
pub fn table(plans: &[CardPlan]) -> String {
    let means: Vec<usize> =
        plans.iter().map(|plan| &plan.times).max_by_key(|times| times.len()).into_iter().flatten().map(|t| t.mean_tokens).collect();
    let headings: String = means.iter().map(|mean| format!(" {:>9}", format!("at {mean}"))).collect();
    let mut text = format!("{:<15} {:>6}  {:>9}  {headings}\n", "card", "memory", "needs");
    for CardPlan { card, changes, peak, times } in plans {
        let times: String = times.iter().map(|times| format!(" {:>9}", hours(times.run))).collect();
        let (fits, notes) = match changes {
            _ if !card.is_supported() => {
                (format!(" not supported: compute capability {}.{}", card.capability.0, card.capability.1), Vec::new())
            }
            None => (" does not fit without changing the experiment".to_owned(), Vec::new()),
            Some(changes) => (times, changes.iter().map(|change| format!("--set {}", change.set)).collect()),
        };
        text += &format!("{:<15} {:>3} GB  {:>9}  {fits}\n", card.name, card.memory_gib, format_bytes(*peak));
        if !notes.is_empty() {
            text += &format!("    with {}\n", notes.join(" "));
        }
    }
    text += "\nThe columns `at N` are the time of the whole run in hours if responses have a mean of N\ntokens.";
    if plans.iter().any(|plan| plan.changes.iter().flatten().any(|change| change.effect == Effect::Rounding)) {
        text += " optim.states=8bit rounds the optimizer's moments; the other settings change nothing\nbut the order of sums.";
    }
    text + "\n" + CAVEAT
}

/// Says where estimated times come from.
pub const CAVEAT: &str = "Times are estimates of a model, not measurements: it computes them from the card's data sheet, for\nthe fused kernels, and has not \
been checked on any card. Expect errors of 25% and more.";

/// Formats the plans as JSON.
pub fn json(plans: &[CardPlan]) -> Value {
    plans.iter().map(card_json).collect()
}

fn card_json(plan: &CardPlan) -> Value {
    let CardPlan { card, changes, peak, times } = plan;
    json!({
        "name": card.name,
        "title": card.title,
        "memory_gib": card.memory_gib,
        "usable_bytes": card.usable_bytes(),
        "bandwidth_gb_per_s": card.bandwidth,
        "bf16_tflops": card.tflops,
        "source": card.source,
        "fits": changes.is_some(),
        "fault": card.fault(),
        "changes": changes.as_ref().map(|changes| changes.iter().map(change_json).collect::<Vec<_>>()),
        "peak_bytes": peak,
        "times": times.iter().map(times_json).collect::<Vec<_>>(),
    })
}

/// Returns a changed setting as JSON.
pub(super) fn change_json(change: &AppliedChange) -> Value {
    let effect = match change.effect {
        Effect::None => "none",
        Effect::Rounding => "rounds the optimizer's moments",
        Effect::Experiment => "changes the experiment",
    };
    json!({"set": change.set, "effect": effect})
}

/// Returns estimated times as JSON.
pub(super) fn times_json(times: &Times) -> Value {
    json!({
        "mean_tokens": times.mean_tokens,
        "rollouts_s": times.rollouts,
        "update_s": times.update,
        "evaluation_s": times.evaluation,
        "run_s": times.run,
    })
}

/// Formats the lines about times on a card, for a plan's details.
pub(super) fn time_lines(times: &[Times], has_evaluations: bool) -> String {
    let line = |times: &Times| {
        let evaluation = if has_evaluations { format!(", an evaluation {}", duration(times.evaluation)) } else { String::new() };
        format!(
            "  at a mean of {} tokens: a step {} (rollouts {}, update {}){evaluation}, the run {}\n",
            times.mean_tokens,
            duration(times.rollouts + times.update),
            duration(times.rollouts),
            duration(times.update),
            duration(times.run)
        )
    };
    times.iter().map(line).collect()
}
