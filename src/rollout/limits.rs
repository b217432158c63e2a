//! The limits of a call of the engine, from settings and device, and the memory that they imply. Only computes sizes; the engine allocates.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::block_pool::BlockPool;
use crate::kernels::Target;
use crate::model::decoder::Cache;
use crate::model::{ModelConfig, block};

/// The limits of the engine. 0 means the device's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// Maximum number of sequences that run at once, over all workers. Default: 256 on the CPU, 1024 on a GPU.
    pub max_running: usize,
    /// Maximum size of the key/value cache, over all workers, in MiB. Default: 4096 on the CPU, the free memory on a GPU.
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
    /// Maximum number of rows of logits at once.
    pub logit_rows: usize,
}

/// Default size of the key/value cache on the CPU, in MiB.
const DEFAULT_CACHE_MIB: usize = 4096;
/// The cache leaves this fraction of a GPU's free memory unused: 1 / 16.
const SPARE_SHARE: usize = 16;

/// The sizes of the requests in a call, which determine its memory.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineLoad {
    /// Lengths of the distinct prompts, in tokens.
    pub prompts: Vec<usize>,
    /// The number of requests.
    pub requests: usize,
    /// Maximum number of tokens in a response.
    pub max_new_tokens: usize,
}

/// Peak memory of a call, in bytes, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineBytes {
    /// The key/value cache. It fills up as responses grow.
    pub cache: usize,
    /// One forward pass over the running sequences, or over prompts.
    pub pass: usize,
    /// Logits.
    pub logits: usize,
}

impl EngineLoad {
    /// The number of cache blocks that the longest sequence needs.
    pub(super) fn least_blocks(&self) -> usize {
        BlockPool::blocks_for(self.prompts.iter().max().copied().unwrap_or(0) + self.max_new_tokens) + 1
    }
}

impl EngineSettings {
    /// Resolves the defaults for a device. On a GPU the default cache size stays 0, because it is the memory that is free later.
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

    pub(super) fn limits(&self, target: &Target, workers: usize) -> Limits {
        let Self { max_running, prefill_tokens, .. } = self.resolved(target);
        let logit_rows = if target.is_gpu { 1024 } else { 256 };
        Limits { running: max_running.div_ceil(workers).max(1), prefill_tokens, logit_rows }
    }

    /// The number of cache blocks for one worker: as many as its sequences can use and the memory limit allows, but enough for the longest
    /// sequence.
    pub(super) fn blocks(&self, config: &ModelConfig, target: &Target, workers: usize, load: &EngineLoad) -> Result<usize> {
        let running = self.limits(target, workers).running.min(load.requests);
        let least = load.least_blocks();
        let wanted = running * least + load.prompts.iter().map(|prompt| BlockPool::blocks_for(*prompt)).sum::<usize>();
        let block_bytes = Cache::block_bytes(config, target);
        let allowed = match (self.resolved(target).kv_cache_mib, target.free) {
            (0, free) => {
                let (other, free) = (self.other_bytes(config, target, workers, load), free.unwrap_or(0) as usize);
                free.saturating_sub(other.pass + other.logits + free / SPARE_SHARE) / workers
            }
            (mib, _) => (mib << 20) / workers,
        };
        // With the default size on a GPU, the failed allocation is the clearest error.
        let is_set = self.resolved(target).kv_cache_mib > 0;
        ensure!(
            !is_set || least * block_bytes <= allowed,
            "a sequence of {} tokens needs {} MiB of key/value cache, but each worker may use {} MiB; raise rollout.engine.kv_cache_mib or lower max_new_tokens",
            load.prompts.iter().max().copied().unwrap_or(0) + load.max_new_tokens,
            (least * block_bytes).div_ceil(1 << 20),
            allowed >> 20
        );
        Ok(wanted.min(allowed / block_bytes).max(least))
    }

    /// The memory of a call, except for the cache.
    fn other_bytes(&self, config: &ModelConfig, target: &Target, workers: usize, load: &EngineLoad) -> EngineBytes {
        let per_worker = load.requests.div_ceil(workers);
        let prompts = &load.prompts[..load.prompts.len().min(per_worker)];
        let limits = self.limits(target, workers);
        let running = limits.running.min(per_worker);
        let (longest, together) = (prompts.iter().max().copied().unwrap_or(0), prompts.iter().sum::<usize>());
        let rows = running.max(together.min(limits.prefill_tokens)).max(longest);
        // Each newly admitted prompt keeps a row of logits, and the first tokens are sampled from a copy.
        let logit_rows = running.min(limits.logit_rows) + prompts.len().min(running);
        EngineBytes {
            cache: 0,
            pass: workers * rows * block::forward_bytes(config, target),
            logits: workers * logit_rows * config.vocabulary * size_of::<f32>(),
        }
    }

    /// The peak memory of a call, from the sizes that it allocates.
    ///
    /// # Errors
    /// If the configured cache is too small for the longest sequence.
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
