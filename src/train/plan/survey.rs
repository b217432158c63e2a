//! Plans one run for every known GPU: whether it fits, with which settings that leave the experiment as it is, and the estimated time.

use anyhow::Result;
use serde_json::{Value, json};

use super::cards::{CARDS, Card};
use super::time::{duration, hours};
use super::{AppliedChange, Effect, Plan, Ranks, RunWorkload, Times};
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

/// Formats the plans as a table for people.
pub fn table(plans: &[CardPlan], trains_adapters: bool) -> String {
    let longest = plans.iter().map(|plan| &plan.times).max_by_key(|times| times.len());
    let headings: String = longest.into_iter().flatten().map(|times| format!("{:>9}", format!("at {}", times.mean_tokens))).collect();
    let mut text = format!("{:<15}{:>7}{:>9}{:>10}{headings}\n", "card", "memory", "usable", "needed");
    plans.iter().for_each(|plan| text += &rows(plan));
    let any = |condition: fn(&CardPlan) -> bool| plans.iter().any(condition);
    if !headings.is_empty() {
        text += "\nColumns \"at N\": the whole run, if responses have a mean of N tokens.\n";
        text += CAVEAT;
    }
    if any(|plan| plan.changes.iter().flatten().any(|change| change.effect == Effect::Rounding)) {
        text += "\noptim.states=8bit rounds the optimizer's moments; the other settings change\nnothing but the order of sums.";
    }
    if any(|plan| plan.changes.is_none()) && !trains_adapters {
        text += "\nAdapters (--lora 16) need less memory but change the experiment; add the flag to\nsee their plan.";
    }
    text
}

/// Formats the row of a card, and the settings that it needs below it.
fn rows(plan: &CardPlan) -> String {
    let CardPlan { card, changes, peak, times } = plan;
    let times: String = times.iter().map(|times| format!("{:>9}", hours(times.run))).collect();
    let result = match changes {
        _ if !card.is_supported() => format!("  no: compute capability {}.{}", card.capability.0, card.capability.1),
        None => "  does not fit".to_owned(),
        Some(_) => times,
    };
    let (usable, peak) = (format_bytes(card.usable_bytes()), format_bytes(*peak));
    let row = format!("{:<15}{:>3} GiB{usable:>9}{peak:>10}{result}\n", card.name, card.memory_gib);
    let flags: Vec<String> = changes.iter().flatten().map(|change| format!("      --set {}\n", change.set)).collect();
    if flags.is_empty() { row } else { format!("{row}    with\n{}", flags.concat()) }
}

/// Says where estimated times come from.
pub const CAVEAT: &str = "\
Times are estimates of a model, not measurements: computed from the card's data
sheet for the fused kernels, and not checked on any card. Expect errors of 25% and
more.";

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
        "exchange_s": times.exchange,
        "efficiency": times.efficiency,
        "evaluation_s": times.evaluation,
        "run_s": times.run,
    })
}

/// Formats the lines about times on a card, for a plan's details.
pub(super) fn time_lines(times: &[Times], has_evaluations: bool, ranks: Ranks) -> String {
    let line = |times: &Times| {
        let evaluation = if has_evaluations { format!(", an evaluation {}", duration(times.evaluation)) } else { String::new() };
        let exchange = if ranks.are_several() { format!(", exchange {}", duration(times.exchange)) } else { String::new() };
        let efficiency = times.efficiency.filter(|_| ranks.are_several());
        let efficiency = efficiency.map_or(String::new(), |efficiency| format!(", efficiency {:.0}%", 100.0 * efficiency));
        format!(
            "  at a mean of {} tokens: a step {} (rollouts {}, update {}{exchange}){evaluation}, the run {}{efficiency}\n",
            times.mean_tokens,
            duration(times.step()),
            duration(times.rollouts),
            duration(times.update),
            duration(times.run)
        )
    };
    times.iter().map(line).collect()
}
