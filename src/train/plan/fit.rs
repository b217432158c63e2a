//! Compares a plan with the memory and disk space of a machine, and finds settings with which the run would fit. Distinguishes settings
//! that leave the experiment as it is from those that change it.

use anyhow::{Result, bail};

use super::{Memory, PhaseMemory, Plan, disk, model_states};
use crate::checkpoint::disk::format_bytes;
use crate::model::decoder::ActivationCheckpointing;
use crate::optim::MomentDtype;
use crate::train::settings::RunSettings;

/// What a change of a setting does to the experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing, except for the order of sums.
    None,
    /// Stores the optimizer's moments with less precision. The objective stays the same.
    Rounding,
    /// Trains on another objective or on other responses.
    Experiment,
}

/// A changed setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedChange {
    /// The change as `NAME=VALUE`, for `--set`.
    pub set: String,
    /// What it does to the experiment.
    pub effect: Effect,
}

impl Plan<'_> {
    /// Checks that the run fits into the given bytes of memory and disk; `None` means unknown, which passes.
    ///
    /// # Errors
    /// If the run does not fit. The message suggests settings that would make it fit, and says which of them change the experiment.
    pub fn check(&self, free_memory: Option<u64>, free_disk: Option<u64>) -> Result<()> {
        if let Some(free) = free_memory.filter(|free| *free < self.memory.peak()) {
            let (peak, free_text) = (format_bytes(self.memory.peak()), format_bytes(free));
            let phase = self.memory.largest_phase();
            bail!("the run needs {peak} of memory ({}), but {free_text} are available: {}", phase.name, self.memory_advice(free));
        }
        if let Some(free) = free_disk.filter(|free| *free < self.disk.needed()) {
            let change = disk::changes_that_fit(self, free);
            let advice = change.map_or(String::new(), |flags| format!("; it would fit with {flags}, which does not change the training"));
            bail!(
                "the run needs {} of disk space, but {} are free: free some space, or choose an --out on another disk{advice}",
                format_bytes(self.disk.needed()),
                format_bytes(free)
            );
        }
        Ok(())
    }

    fn memory_advice(&self, free: u64) -> String {
        let lora = if self.settings.lora.is_on() { "" } else { ", or train adapters (--lora 16), which changes the experiment" };
        if let Some((_, changes)) = self.changes_that_fit(free, Effect::Experiment) {
            let of = |effect: Effect| changes.iter().filter(|one| one.effect == effect).map(|one| one.set.as_str()).collect::<Vec<_>>();
            let flags = changes.iter().map(|one| format!("--set {}", one.set)).collect::<Vec<_>>().join(" ");
            let (rounding, changing) = (of(Effect::Rounding), of(Effect::Experiment));
            let verb = if changing.len() == 1 { "changes" } else { "change" };
            let rounds = rounding.first().map_or(String::new(), |set| format!("; {set} rounds the optimizer's moments"));
            return match (rounding.first(), changing.is_empty()) {
                (Some(set), true) => format!(
                    "it would fit with {flags}: the objective and the number of responses stay the same, but {set} rounds the optimizer's \
                     moments"
                ),
                (None, true) => format!("it would fit with {flags}, which does not change the experiment"),
                (_, false) => format!("it would fit with {flags}, but {} {verb} the experiment{rounds}", changing.join(" and ")),
            };
        }
        format!(
            "no setting makes it fit: weights, gradients and 8-bit moments alone are {}; use a smaller model or a larger machine{lora}",
            format_bytes(model_states::minimum_bytes(self.config, self.settings, &self.target, self.work.ranks)),
        )
    }

    /// Returns settings with which the peak is at most `free` bytes, and how they differ from the plan's. Uses only changes with at most
    /// the effect `allowed`, tries the least harmful ones first, and drops those that turn out to be unnecessary. Returns `None` if all changes
    /// together do not suffice.
    pub fn changes_that_fit(&self, free: u64, allowed: Effect) -> Option<(RunSettings, Vec<AppliedChange>)> {
        let sizes = |settings: &RunSettings| {
            let memory = Memory::of(self.config, settings, self.work, &self.target).ok()?;
            Some((memory.peak(), memory.phases.iter().map(PhaseMemory::bytes).sum::<u64>()))
        };
        let fits = |settings: &RunSettings| sizes(settings).is_some_and(|(peak, _)| peak <= free);
        let (mut settings, mut changes) = (self.settings.clone(), Vec::<Change>::new());
        settings.rollout.engine = settings.rollout.engine.resolved(&self.target);
        for change in CHANGES.into_iter().filter(|change| change.effect <= allowed) {
            // Also apply changes that lower only a phase other than the largest, which may become the largest later. The sum may rise
            // while the peak falls: a key/value cache uses what other parts leave.
            while !fits(&settings)
                && let Some(next) = (change.apply)(&settings)
                && let (Some(before), Some(after)) = (sizes(&settings), sizes(&next))
                && after < before
            {
                settings = next;
                if changes.last().is_none_or(|last| last.name != change.name) {
                    changes.push(change);
                }
            }
        }
        for change in changes.clone().into_iter().rev() {
            let mut without = settings.clone();
            (change.copy)(self.settings, &mut without);
            if fits(&without) {
                settings = without;
                changes.retain(|other| other.name != change.name);
            }
        }
        let applied =
            |change: &Change| AppliedChange { set: format!("{}={}", change.name, (change.value)(&settings)), effect: change.effect };
        let applied = changes.iter().map(applied).collect();
        fits(&settings).then_some((settings, applied))
    }
}

/// A setting that can lower the peak.
#[derive(Clone, Copy)]
struct Change {
    name: &'static str,
    effect: Effect,
    /// Returns the settings with the next value that needs less memory; `None` if there is none.
    apply: fn(&RunSettings) -> Option<RunSettings>,
    /// Formats the setting's value.
    value: fn(&RunSettings) -> String,
    /// Copies the setting from one set of settings to another.
    copy: fn(&RunSettings, &mut RunSettings),
}

/// A `Change` of the setting at a path, which is halved down to a minimum or set to a value.
macro_rules! change {
    ($effect:ident, $($field:ident).+, halved down to $least:expr) => {
        change!($effect, $($field).+, |s| s.$($field).+ > $least, |s| s.$($field).+ / 2)
    };
    ($effect:ident, $($field:ident).+, $to:expr) => {
        change!($effect, $($field).+, |s| s.$($field).+ != $to, |_| $to)
    };
    ($effect:ident, $($field:ident).+, |$s:ident| $possible:expr, |$old:pat_param| $next:expr) => {
        Change {
            name: stringify!($($field).+),
            effect: Effect::$effect,
            apply: |$s| {
                let mut next = $s.clone();
                next.$($field).+ = { let $old = $s; $next };
                $possible.then_some(next)
            },
            value: |s| toml::Value::try_from(&s.$($field).+).map_or_else(|error| error.to_string(), |value| value.to_string().replace('"', "")),
            copy: |from, to| to.$($field).+ = from.$($field).+.clone(),
        }
    };
}

/// All changes, the least harmful first.
const CHANGES: [Change; 9] = [
    change!(None, train.activation_checkpointing, ActivationCheckpointing::Full),
    change!(None, train.stream_reference, true),
    change!(None, train.micro_batch_tokens, halved down to 1024),
    change!(None, rollout.engine.kv_cache_mib, halved down to 64),
    change!(None, rollout.engine.max_running, halved down to 8),
    change!(None, train.workers, |s| s.train.workers != 1 && s.train.shards == 0, |_| 1),
    change!(Rounding, optim.states, MomentDtype::Quantized),
    change!(Experiment, loss.kl, 0.0),
    change!(Experiment, rollout.max_new_tokens, halved down to 256),
];
