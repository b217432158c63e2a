//! Estimates the memory, disk space and time of a run before any weights load. Adds up sizes from functions next to the code that allocates
//! the memory, and compares the sums with what the machine has.

mod activations;
mod disk;
mod display;
pub mod machine;
mod memory;
mod model_states;
mod time;

pub use activations::{ActivationPlan, step_load};
pub use disk::Disk;
pub use display::grouped;
pub use memory::{Memory, PhaseMemory};
pub use time::Rates;

use anyhow::{Context, Result, bail};

use super::settings::RunSettings;
use crate::checkpoint::disk::format_bytes;
use crate::kernels::Target;
use crate::model::ModelConfig;
use crate::optim::MomentDtype;
use crate::rollout::limits::EngineLoad;
use crate::workers::Workers;

/// The sizes of a run's workload.
#[derive(Clone, Debug, Default)]
pub struct RunWorkload {
    /// The length of each example's prompt, in tokens.
    pub prompts: Vec<usize>,
    /// The load of each pass of an evaluation; empty without evaluation.
    pub evaluations: Vec<EngineLoad>,
    /// The size of the tokenizer's vocabulary.
    pub vocabulary: usize,
    /// True if prompt lengths are exact; false if they are estimated from the number of characters.
    pub exact: bool,
    /// The number of completed steps.
    pub done: u64,
}

/// The plan of a run.
pub struct Plan<'a> {
    /// The model's shape.
    pub config: &'a ModelConfig,
    /// The run's settings.
    pub settings: &'a RunSettings,
    /// The run's workload.
    pub work: &'a RunWorkload,
    /// The device of the run.
    pub target: Target,
    /// The number of workers.
    pub workers: usize,
    /// The memory of the run.
    pub memory: Memory,
    /// The disk space of the run.
    pub disk: Disk,
}

/// Returns the number of workers of a run: always 1 on a GPU; on the CPU `train.workers`, or a number that depends on the model's size.
pub fn workers(config: &ModelConfig, settings: &RunSettings, target: &Target) -> usize {
    match settings.train.workers {
        _ if target.is_gpu => 1,
        0 => Workers::default_count(config.parameter_count()),
        workers => workers,
    }
}

impl<'a> Plan<'a> {
    /// Plans a run for a device. `target.free` is the device's free memory in bytes, if known.
    ///
    /// # Errors
    /// If the settings do not suit the model, or one sequence does not fit into the allowed key/value cache.
    pub fn of(config: &'a ModelConfig, settings: &'a RunSettings, work: &'a RunWorkload, target: Target) -> Result<Self> {
        settings.validate_for(config)?;
        let workers = workers(config, settings, &target);
        let (memory, disk) = (Memory::of(config, settings, work, &target)?, Disk::of(config, settings, work, &target));
        Ok(Self { config, settings, work, target, workers, memory, disk })
    }

    /// Checks that the run fits into the given bytes of memory and disk; `None` means unknown, which passes.
    ///
    /// # Errors
    /// If the run does not fit. The message suggests settings that would make it fit.
    pub fn check(&self, free_memory: Option<u64>, free_disk: Option<u64>) -> Result<()> {
        if let Some(free) = free_memory.filter(|free| *free < self.memory.peak()) {
            let (peak, free_text) = (format_bytes(self.memory.peak()), format_bytes(free));
            let phase = self.memory.largest_phase();
            let advice = match self.changes_that_fit(free) {
                Some(changes) => {
                    format!("it would fit with {}", changes.iter().map(|set| format!("--set {set}")).collect::<Vec<_>>().join(" "))
                }
                None => format!(
                    "no setting makes it fit: weights, gradients and 8-bit moments alone are {}; use a smaller model or a larger machine{}",
                    format_bytes(model_states::minimum_bytes(self.config, self.settings, &self.target)),
                    if self.settings.lora.is_on() { "" } else { ", or train adapters (--lora 16)" }
                ),
            };
            bail!("the run needs {peak} of memory ({}), but {free_text} are available: {advice}", phase.name);
        }
        if let Some(free) = free_disk.filter(|free| *free < self.disk.total()) {
            let advice = self.disk.advice(self.settings, free).context("free some space, or choose an --out on another disk");
            bail!(
                "the run writes {} to disk, but {} are free: {}",
                format_bytes(self.disk.total()),
                format_bytes(free),
                advice.unwrap_or_else(|other| other.to_string())
            );
        }
        Ok(())
    }

    /// Returns changes of settings, as `NAME=VALUE`, that lower the peak to at most `free` bytes. Tries the least harmful changes first,
    /// and drops those that turn out to be unnecessary. Returns `None` if all changes together do not suffice.
    fn changes_that_fit(&self, free: u64) -> Option<Vec<String>> {
        let sizes = |settings: &RunSettings| {
            let memory = Memory::of(self.config, settings, self.work, &self.target).ok()?;
            Some((memory.peak(), memory.peak() + memory.phases.iter().map(PhaseMemory::bytes).sum::<u64>()))
        };
        let fits = |settings: &RunSettings| sizes(settings).is_some_and(|(peak, _)| peak <= free);
        let (mut settings, mut changes) = (self.settings.clone(), Vec::<Change>::new());
        settings.rollout.engine = settings.rollout.engine.resolved(&self.target);
        for change in CHANGES {
            // Also apply changes that lower a phase other than the largest, which may become the largest later.
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
                changes.retain(|other| other.name != change.name);
            }
        }
        fits(&settings).then(|| changes.iter().map(|change| format!("{}={}", change.name, (change.value)(&settings))).collect())
    }
}

/// A setting that can lower the peak.
#[derive(Clone, Copy)]
struct Change {
    name: &'static str,
    /// Returns the settings with the next value that needs less memory; `None` if there is none.
    apply: fn(&RunSettings) -> Option<RunSettings>,
    /// Formats the setting's value.
    value: fn(&RunSettings) -> String,
    /// Copies the setting from one set of settings to another.
    copy: fn(&RunSettings, &mut RunSettings),
}

/// A `Change` of the setting at a path, which is halved down to a minimum or set to a value.
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

/// All changes, the least harmful first.
const CHANGES: [Change; 9] = [
    change!(train.activation_checkpointing, crate::model::decoder::ActivationCheckpointing::Full),
    change!(train.stream_reference, true),
    change!(train.micro_batch_tokens, halved down to 1024),
    change!(rollout.engine.kv_cache_mib, halved down to 64),
    change!(rollout.engine.max_running, halved down to 8),
    change!(train.workers, 1),
    change!(optim.states, MomentDtype::Quantized),
    change!(loss.kl, 0.0),
    change!(rollout.max_new_tokens, halved down to 256),
];

#[cfg(test)]
mod tests;
