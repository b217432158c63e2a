//! What a call of the engine may hold: the limits that settings and device give, and the bytes that come of them. Only sizes; the engine allocates.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::pages::Pages;
use crate::kernels::Target;
use crate::model::decoder::Cache;
use crate::model::{ModelConfig, block};

/// The engine's limits; 0 lets the device decide.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// Most sequences that run at once, over all lanes: 256 on the CPU, 1024 on a GPU.
    pub max_running: usize,
    /// Most memory for the key/value cache, over all lanes, in MiB: 4096 on the CPU, what is free on a GPU.
    pub kv_cache_mib: usize,
    /// Most prompt tokens computed in one pass: 2048 on the CPU, 16384 on a GPU.
    pub prefill_tokens: usize,
}

/// The limits on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub running: usize,
    pub prefill_tokens: usize,
    /// Rows of logits held at once.
    pub logit_rows: usize,
}

/// The key/value cache on the CPU where nothing else is asked for, MiB.
const DEFAULT_CACHE_MIB: usize = 4096;
/// One part in so many of a device's free memory that the cache leaves alone.
const SPARE_SHARE: usize = 16;

/// The requests of one call as numbers: what its memory depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Lengths of the distinct prompts.
    pub prompts: Vec<usize>,
    /// Requests.
    pub requests: usize,
    /// Most tokens of a response.
    pub max_new: usize,
}

/// What a call of the engine holds at most, in bytes, over all lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineBytes {
    /// The key/value cache; it fills as responses grow.
    pub cache: usize,
    /// One pass over the running sequences, or over prompts.
    pub pass: usize,
    /// Logits.
    pub logits: usize,
}

impl Load {
    /// Blocks that the longest sequence needs.
    pub(super) fn least_blocks(&self) -> usize {
        Pages::blocks_for(self.prompts.iter().max().copied().unwrap_or(0) + self.max_new) + 1
    }
}

impl EngineSettings {
    /// The same with the device's choices filled in; a GPU's cache takes what is free, which is not a number yet.
    pub fn resolved(&self, target: &Target) -> Self {
        let or = |chosen: usize, cpu: usize, gpu: usize| match chosen {
            0 if target.is_gpu => gpu,
            0 => cpu,
            chosen => chosen,
        };
        Self {
            max_running: or(self.max_running, 256, 1024),
            kv_cache_mib: or(self.kv_cache_mib, DEFAULT_CACHE_MIB, 0),
            prefill_tokens: or(self.prefill_tokens, 2048, 16384),
        }
    }

    pub(super) fn limits(&self, target: &Target, lanes: usize) -> Limits {
        let Self { max_running, prefill_tokens, .. } = self.resolved(target);
        let logit_rows = if target.is_gpu { 1024 } else { 256 };
        Limits { running: max_running.div_ceil(lanes).max(1), prefill_tokens, logit_rows }
    }

    /// Blocks of a lane's cache: what its sequences can use at most, within the memory allowed, and at least what the longest one needs.
    pub(super) fn blocks(&self, config: &ModelConfig, target: &Target, lanes: usize, load: &Load) -> Result<usize> {
        let running = self.limits(target, lanes).running.min(load.requests);
        let least = load.least_blocks();
        let wanted = running * least + load.prompts.iter().map(|prompt| Pages::blocks_for(*prompt)).sum::<usize>();
        let block_bytes = Cache::block_bytes(config, target);
        let allowed = match (self.resolved(target).kv_cache_mib, target.free) {
            (0, free) => {
                let (beside, free) = (self.beside_cache(config, target, lanes, load), free.unwrap_or(0) as usize);
                free.saturating_sub(beside.pass + beside.logits + free / SPARE_SHARE) / lanes
            }
            (mib, _) => (mib << 20) / lanes,
        };
        // Where a GPU's memory is to be taken as it is, its own refusal is the clearest.
        let is_set = self.resolved(target).kv_cache_mib > 0;
        ensure!(
            !is_set || least * block_bytes <= allowed,
            "one sequence of {} tokens needs {} MiB of key/value cache, allowed are {} a lane; raise rollout.engine.kv_cache_mib or lower max_new",
            load.prompts.iter().max().copied().unwrap_or(0) + load.max_new,
            (least * block_bytes).div_ceil(1 << 20),
            allowed >> 20
        );
        Ok(wanted.min(allowed / block_bytes).max(least))
    }

    /// What a call holds besides its cache.
    fn beside_cache(&self, config: &ModelConfig, target: &Target, lanes: usize, load: &Load) -> EngineBytes {
        let own = load.requests.div_ceil(lanes);
        let prompts = &load.prompts[..load.prompts.len().min(own)];
        let limits = self.limits(target, lanes);
        let running = limits.running.min(own);
        let (longest, together) = (prompts.iter().max().copied().unwrap_or(0), prompts.iter().sum::<usize>());
        let rows = running.max(together.min(limits.prefill_tokens)).max(longest);
        // Prompts that are admitted together each leave a row, and the first tokens are drawn from a copy.
        let logit_rows = running.min(limits.logit_rows) + prompts.len().min(running);
        EngineBytes {
            cache: 0,
            pass: lanes * rows * block::pass_bytes(config, target),
            logits: lanes * logit_rows * config.vocabulary * size_of::<f32>(),
        }
    }

    /// The memory of a call, from the sizes that it allocates.
    pub fn bytes(&self, config: &ModelConfig, target: &Target, lanes: usize, load: &Load) -> Result<EngineBytes> {
        let own = load.requests.div_ceil(lanes);
        let lane = Load { prompts: load.prompts[..load.prompts.len().min(own)].to_vec(), requests: own, max_new: load.max_new };
        let cache = lanes * self.blocks(config, target, lanes, &lane)? * Cache::block_bytes(config, target);
        Ok(EngineBytes { cache, ..self.beside_cache(config, target, lanes, load) })
    }
}
