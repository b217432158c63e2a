//! The ranks of a planned run, and what falls to one of them. All ranks hold the weights; the optimizer's states, the requests and the shards
//! are divided, so a plan counts the rank with the most of each.

use anyhow::Result;

use super::workers;
use crate::dist::World;
use crate::kernels::Target;
use crate::model::ModelConfig;
use crate::optim::Owned;
use crate::rollout::limits::EngineLoad;
use crate::train::settings::RunSettings;
use crate::train::shards::{buffers, shards_of_rank, usable_workers};

/// The ranks of a planned run, and the rank to plan for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// The number of ranks.
    pub count: usize,
    /// The number of ranks on each host, which share its processors and its memory.
    pub on_host: usize,
    /// True to plan for the rank with the least to hold.
    is_emptiest: bool,
}

impl Default for Ranks {
    fn default() -> Self {
        Self::ONE
    }
}

impl Ranks {
    /// A run of one process.
    pub const ONE: Self = Self::new(1, 1);

    /// `count` ranks, of which `on_host` share a host. Plans for the rank with the most to hold.
    pub const fn new(count: usize, on_host: usize) -> Self {
        Self { count, on_host, is_emptiest: false }
    }

    /// The ranks of a running program.
    pub fn of(world: &World) -> Self {
        Self::new(world.size(), world.ranks_on_host())
    }

    /// The same ranks, but plans for the rank with the least to hold.
    pub(super) fn emptiest(self) -> Self {
        Self { is_emptiest: true, ..self }
    }

    /// True for several ranks.
    pub fn are_several(self) -> bool {
        self.count > 1
    }

    /// True if the planned rank writes the checkpoints, as rank 0 does.
    pub(super) fn saves(self) -> bool {
        !self.is_emptiest
    }

    /// Returns the requests of the planned rank, which are dealt in turn, with the longest prompts.
    pub(super) fn dealt(self, load: &EngineLoad) -> EngineLoad {
        if !self.are_several() {
            return load.clone();
        }
        let requests = if self.is_emptiest { load.requests / self.count } else { load.requests.div_ceil(self.count) };
        let mut prompts = load.prompts.clone();
        prompts.sort_unstable_by(|a, b| b.cmp(a));
        // Samples of a prompt are neighbors: ranks have a request for every prompt, or at most one for each.
        prompts.truncate(requests);
        EngineLoad { prompts, requests, max_new_tokens: load.max_new_tokens }
    }

    /// Returns what the planned rank owns, given what each rank does: the most of each kind, or the least.
    pub(super) fn owned(self, all: &[Owned]) -> Owned {
        let choose = |count: fn(&Owned) -> u64| {
            let counts = all.iter().map(count);
            if self.is_emptiest { counts.min() } else { counts.max() }.unwrap_or(0)
        };
        Owned { elements: choose(|owned| owned.elements), moment_bytes: choose(|owned| owned.moment_bytes) }
    }
}

/// Returns the number of workers of one rank. With shards, ranks on the same host share its processors, and the workers of a rank its shards.
///
/// # Errors
/// If the ranks cannot share the shards equally.
pub fn workers_of_rank(config: &ModelConfig, settings: &RunSettings, target: &Target, ranks: Ranks) -> Result<usize> {
    let workers = workers(config, settings, target);
    match settings.train.shards {
        0 => Ok(workers),
        shards => Ok(usable_workers(shards_of_rank(shards, ranks.count)?, workers / ranks.on_host)),
    }
}

/// Returns the number of sets of gradients that each of `processes` processes needs, with this number of workers.
pub fn gradient_sets(settings: &RunSettings, workers: usize, processes: usize) -> usize {
    match settings.train.shards {
        0 => workers,
        shards => {
            let workers = workers.min(shards / processes).max(1);
            workers * buffers(shards / processes / workers)
        }
    }
}
