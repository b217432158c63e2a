//! Computes the limits of an engine call from settings and device, and its peak memory. Only computes sizes; the engine allocates.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::block_pool::BlockPool;
use crate::kernels::Target;
use crate::model::decoder::Cache;
use crate::model::{ModelConfig, block};

/// The settings `rollout.engine`. 0 means the device's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// Maximum number of sequences that run at once, across all workers. Default: 256 on the CPU, 1024 on a GPU.
    pub max_running: usize,
    /// Maximum size of the key/value cache, across all workers, in MiB. Default: 4096 on the CPU, most of the free memory on a GPU.
    pub kv_cache_mib: usize,
    /// Maximum number of prompt tokens computed in one pass. Default: 2048 on the CPU, 16384 on a GPU.
    pub prefill_tokens: usize,
}

/// The limits of one worker, with defaults resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Maximum number of sequences that run at once.
    pub running: usize,
    /// Maximum number of prompt tokens in one pass.
    pub prefill_tokens: usize,
    /// Maximum number of rows of logits computed at once.
    pub logit_rows: usize,
}

/// Default size of the key/value cache on the CPU, in MiB.
const DEFAULT_CACHE_MIB: usize = 4096;
/// On a GPU, this fraction of the free memory (1 / `RESERVED_PART`) stays unused.
const RESERVED_PART: usize = 16;

/// The sizes of the requests in one engine call, which determine its memory.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineLoad {
    /// Lengths of the distinct prompts, in tokens.
    pub prompts: Vec<usize>,
    /// Number of requests.
    pub requests: usize,
    /// The largest `max_new_tokens` of the requests.
    pub max_new_tokens: usize,
}

/// Peak memory of one engine call, in bytes, across all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineBytes {
    /// The key/value cache. It fills up as responses grow.
    pub cache: usize,
    /// The largest forward pass, over running sequences or over prompts.
    pub pass: usize,
    /// The logits: of the rows that are sampled at once, and of each resident prompt.
    pub logits: usize,
}

impl EngineLoad {
    /// Returns the number of cache blocks that the longest sequence needs.
    pub(super) fn min_blocks(&self) -> usize {
        BlockPool::blocks_for(self.prompts.iter().max().copied().unwrap_or(0) + self.max_new_tokens) + 1
    }
}

impl EngineSettings {
    /// Replaces zeros with the device's defaults. On a GPU, a cache size of 0 remains: it means the memory that is free when the engine
    /// starts.
    pub fn resolved(&self, target: &Target) -> Self {
        let or_default = |set: usize, cpu: usize, gpu: usize| match set {
            0 if target.is_gpu => gpu,
            0 => cpu,
            set => set,
        };
        Self {
            max_running: or_default(self.max_running, 256, 1024),
            kv_cache_mib: or_default(self.kv_cache_mib, DEFAULT_CACHE_MIB, 0),
            prefill_tokens: or_default(self.prefill_tokens, 2048, 16384),
        }
    }

    /// Returns the limits of one of `workers` workers.
    pub(super) fn limits(&self, target: &Target, workers: usize) -> Limits {
        let Self { max_running, prefill_tokens, .. } = self.resolved(target);
        let logit_rows = if target.is_gpu { 1024 } else { 256 };
        Limits { running: max_running.div_ceil(workers).max(1), prefill_tokens, logit_rows }
    }

    /// Returns the number of cache blocks for one worker with the requests in `load`: the most that they can use, within the memory limit,
    /// but never fewer than the longest sequence needs.
    ///
    /// # Errors
    /// If `kv_cache_mib` is set and too small for the longest sequence.
    pub(super) fn blocks(&self, config: &ModelConfig, target: &Target, workers: usize, load: &EngineLoad) -> Result<usize> {
        let running = self.limits(target, workers).running.min(load.requests);
        let min = load.min_blocks();
        let usable = running * min + load.prompts.iter().map(|prompt| BlockPool::blocks_for(*prompt)).sum::<usize>();
        let block_bytes = Cache::block_bytes(config, target);
        let allowed = match (self.resolved(target).kv_cache_mib, target.free) {
            (0, free) => {
                let (other, free) = (self.other_bytes(config, target, workers, load), free.unwrap_or(0) as usize);
                free.saturating_sub(other.pass + other.logits + free / RESERVED_PART) / workers
            }
            (mib, _) => (mib << 20) / workers,
        };
        // With the default size on a GPU, the failing allocation reports the error more clearly.
        let is_set = self.resolved(target).kv_cache_mib > 0;
        ensure!(
            !is_set || min * block_bytes <= allowed,
            "a sequence of {} tokens needs {} MiB of key/value cache, but each worker may use {} MiB: raise rollout.engine.kv_cache_mib or lower max_new_tokens",
            load.prompts.iter().max().copied().unwrap_or(0) + load.max_new_tokens,
            (min * block_bytes).div_ceil(1 << 20),
            allowed >> 20
        );
        Ok(usable.min(allowed / block_bytes).max(min))
    }

    /// Returns the peak memory of a call without the cache.
    fn other_bytes(&self, config: &ModelConfig, target: &Target, workers: usize, load: &EngineLoad) -> EngineBytes {
        let per_worker = load.requests.div_ceil(workers);
        let prompts = &load.prompts[..load.prompts.len().min(per_worker)];
        let limits = self.limits(target, workers);
        let running = limits.running.min(per_worker);
        let (longest, total) = (prompts.iter().max().copied().unwrap_or(0), prompts.iter().sum::<usize>());
        let rows = running.max(total.min(limits.prefill_tokens)).max(longest);
        // Each resident prompt has a row of logits, and first tokens are sampled from a copy of it.
        let logit_rows = running.min(limits.logit_rows) + prompts.len().min(running);
        EngineBytes {
            cache: 0,
            pass: workers * rows * block::forward_bytes(config, target),
            logits: workers * logit_rows * config.vocabulary * size_of::<f32>(),
        }
    }

    /// Returns the peak memory of a call, from the sizes that the engine allocates.
    ///
    /// # Errors
    /// If `kv_cache_mib` is set and too small for the longest sequence.
    pub fn bytes(&self, config: &ModelConfig, target: &Target, workers: usize, load: &EngineLoad) -> Result<EngineBytes> {
        let per_worker = load.requests.div_ceil(workers);
        let worker = EngineLoad {
            prompts: load.prompts[..load.prompts.len().min(per_worker)].to_vec(),
            requests: per_worker,
            max_new_tokens: load.max_new_tokens,
        };
        let cache = workers * self.blocks(config, target, workers, &worker)? * Cache::block_bytes(config, target);
        Ok(EngineBytes { cache, ..self.other_bytes(config, target, workers, load) })
    }
}
