//! Estimates the memory, disk space and time of a run before any weights load. Adds up sizes from functions next to the code that allocates
//! the memory, and compares the sums with what the machine has.

mod activations;
mod card_time;
pub mod cards;
mod disk;
mod display;
mod exchange;
mod fit;
pub mod json;
pub mod machine;
mod memory;
mod model_states;
mod ranks;
pub mod survey;
mod time;

pub use activations::{ActivationPlan, step_load};
pub use disk::Disk;
pub use display::grouped;
pub use exchange::Links;
pub use fit::{AppliedChange, Effect};
pub use memory::{Memory, PhaseMemory};
pub use ranks::{Ranks, gradient_sets, workers_of_rank};
pub use time::{Rates, Times};

use anyhow::Result;

use super::settings::RunSettings;
use crate::kernels::Target;
use crate::model::ModelConfig;
use crate::rollout::limits::EngineLoad;
use crate::workers::Workers;

/// The sizes of a run's workload, and who shares it.
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
    /// The bytes of the checkpoints that a resumed run already has.
    pub checkpoint_bytes: u64,
    /// The ranks that share the work.
    pub ranks: Ranks,
    /// How fast the ranks exchange data.
    pub links: Links,
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
    /// The number of workers of each rank.
    pub workers: usize,
    /// The memory of the rank that needs the most.
    pub memory: Memory,
    /// The peak memory of the rank that needs the least, in bytes.
    pub least_peak: u64,
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
    /// Plans a run whose ranks each have such a device. `target.free` is the device's free memory in bytes, if known.
    ///
    /// # Errors
    /// If the settings do not suit the model, the ranks cannot share the shards equally, or one sequence does not fit into the allowed
    /// key/value cache.
    pub fn of(config: &'a ModelConfig, settings: &'a RunSettings, work: &'a RunWorkload, target: Target) -> Result<Self> {
        settings.validate_for(config)?;
        let workers = workers_of_rank(config, settings, &target, work.ranks)?;
        let (memory, disk) = (Memory::of(config, settings, work, &target)?, Disk::of(config, settings, work, &target));
        let least_peak = match work.ranks.are_several() {
            true => {
                let emptiest = RunWorkload { ranks: work.ranks.emptiest(), ..work.clone() };
                Memory::of(config, settings, &emptiest, &target)?.peak()
            }
            false => memory.peak(),
        };
        Ok(Self { config, settings, work, target, workers, memory, least_peak, disk })
    }
}

#[cfg(test)]
mod tests;
