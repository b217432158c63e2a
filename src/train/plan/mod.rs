//! What a run will need, before any weight is read: memory by kind and phase, disk, tokens, and an estimate of the time. Sizes come from the
//! functions beside the code that allocates; here they are only added up and held against what the machine has.

mod activations;
mod disk;
mod held;
pub mod machine;
mod memory;
mod show;
mod time;

pub use activations::{Activations, step_load};
pub use disk::Disk;
pub use memory::{Memory, Phase};
pub use time::Rates;

use anyhow::{Context, Result, bail};

use super::settings::RunSettings;
use crate::checkpoint::disk::gigabytes;
use crate::kernels::Target;
use crate::lanes::Lanes;
use crate::model::ModelConfig;
use crate::optim::States;
use crate::rollout::limits::Load;

/// What a run works on, in numbers.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Tokens of each training prompt.
    pub prompts: Vec<usize>,
    /// Each evaluation's passes.
    pub evaluations: Vec<Load>,
    /// Tokens that the tokenizer knows.
    pub vocabulary: usize,
    /// Whether prompts were counted by the model's tokenizer, or guessed from their characters.
    pub exact: bool,
    /// Steps that are done already.
    pub done: u64,
}

/// A run before it starts.
pub struct Plan<'a> {
    /// The model's shape.
    pub config: &'a ModelConfig,
    /// The run's settings.
    pub settings: &'a RunSettings,
    /// What it works on.
    pub work: &'a Work,
    /// Where it computes.
    pub target: Target,
    /// Workers side by side.
    pub lanes: usize,
    /// Bytes of memory.
    pub memory: Memory,
    /// Bytes on disk.
    pub disk: Disk,
}

/// How many lanes a run has.
pub fn lanes(config: &ModelConfig, settings: &RunSettings, target: &Target) -> usize {
    match settings.train.lanes {
        _ if target.is_gpu => 1,
        0 => Lanes::usual(config.parameters()),
        lanes => lanes,
    }
}

impl<'a> Plan<'a> {
    /// Adds it up for a device; `target.free` is all that the run may take of its own memory.
    ///
    /// # Errors
    /// When one sequence does not fit the key/value cache that is allowed.
    pub fn of(config: &'a ModelConfig, settings: &'a RunSettings, work: &'a Work, target: Target) -> Result<Self> {
        settings.validate_for(config)?;
        let lanes = lanes(config, settings, &target);
        let (memory, disk) = (Memory::of(config, settings, work, &target)?, Disk::of(config, settings, work, &target));
        Ok(Self { config, settings, work, target, lanes, memory, disk })
    }

    /// Refuses what cannot fit, naming the settings that would make it fit. What the machine does not tell is not held against a run.
    pub fn check(&self, free_memory: Option<u64>, free_disk: Option<u64>) -> Result<()> {
        if let Some(free) = free_memory.filter(|free| *free < self.memory.peak()) {
            let (peak, free_text) = (gigabytes(self.memory.peak()), gigabytes(free));
            let phase = self.memory.worst();
            let advice = match self.fitting(free) {
                Some(changes) => {
                    format!("it would fit with {}", changes.iter().map(|set| format!("--set {set}")).collect::<Vec<_>>().join(" "))
                }
                None => format!(
                    "no setting makes it fit: weights, gradients and moments of 8 bits alone are {}; take a smaller model or a larger machine{}",
                    gigabytes(held::least_bytes(self.config, self.settings, &self.target)),
                    if self.settings.lora.is_on() { "" } else { ", or train adapters (--lora 16)" }
                ),
            };
            bail!("the run would need {peak} of memory ({}), {free_text} are available: {advice}", phase.name);
        }
        if let Some(free) = free_disk.filter(|free| *free < self.disk.total()) {
            let advice = self.disk.advice(self.settings, free).context("free some space, or choose an --out on another disk");
            bail!(
                "the run would leave {} on disk, {} are free: {}",
                gigabytes(self.disk.total()),
                gigabytes(free),
                advice.unwrap_or_else(|other| other.to_string())
            );
        }
        Ok(())
    }

    /// Some of the usual changes, the least harmful that do, that bring the peak below `free` bytes.
    fn fitting(&self, free: u64) -> Option<Vec<String>> {
        let sizes = |settings: &RunSettings| {
            let memory = Memory::of(self.config, settings, self.work, &self.target).ok()?;
            Some((memory.peak(), memory.peak() + memory.phases.iter().map(Phase::bytes).sum::<u64>()))
        };
        let fits = |settings: &RunSettings| sizes(settings).is_some_and(|(peak, _)| peak <= free);
        let (mut settings, mut changes) = (self.settings.clone(), Vec::<Change>::new());
        settings.rollout.engine = settings.rollout.engine.resolved(&self.target);
        for change in CHANGES {
            // A change may lower a phase that is not the worst one yet.
            while !fits(&settings)
                && let Some(next) = (change.apply)(&settings)
                && let (Some((_, before)), Some((_, after))) = (sizes(&settings), sizes(&next))
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
                changes.retain(|kept| kept.name != change.name);
            }
        }
        fits(&settings).then(|| changes.iter().map(|change| format!("{}={}", change.name, (change.value)(&settings))).collect())
    }
}

/// One setting that lowers the peak.
#[derive(Clone, Copy)]
struct Change {
    name: &'static str,
    /// The next lower choice, if there is one.
    apply: fn(&RunSettings) -> Option<RunSettings>,
    /// The setting as text.
    value: fn(&RunSettings) -> String,
    /// Takes it from other settings.
    copy: fn(&RunSettings, &mut RunSettings),
}

/// A setting by its place: halved down to a least value, or set to one.
macro_rules! change {
    ($($field:ident).+, halved down to $least:expr) => {
        change!($($field).+, |s| s.$($field).+ > $least, |s| s.$($field).+ / 2)
    };
    ($($field:ident).+, $to:expr) => {
        change!($($field).+, |s| s.$($field).+ != $to, |_| $to)
    };
    ($($field:ident).+, |$s:ident| $possible:expr, |$old:pat_param| $next:expr) => {
        Change {
            name: stringify!($($field).+),
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

/// The least harmful first.
const CHANGES: [Change; 9] = [
    change!(train.recompute, crate::model::decoder::Recompute::All),
    change!(train.stream_reference, true),
    change!(train.micro_batch_tokens, halved down to 1024),
    change!(rollout.engine.kv_cache_mib, halved down to 64),
    change!(rollout.engine.max_running, halved down to 8),
    change!(train.lanes, 1),
    change!(optim.states, States::Coded),
    change!(loss.kl, 0.0),
    change!(rollout.max_new, halved down to 256),
];

#[cfg(test)]
mod tests;
