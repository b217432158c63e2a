//! Chooses the micro-batch size and the activation checkpointing of an update. The choice depends on settings, shapes and the device's
//! total memory, never on its free memory, so that a resumed run has the same micro-batches and adds in the same order.

use super::model_states::model_states;
use super::{Ranks, workers};
use crate::kernels::Target;
use crate::model::decoder::{ActivationCheckpointing, activation_bytes};
use crate::model::{ModelConfig, block, head};
use crate::rollout::limits::EngineLoad;
use crate::train::settings::RunSettings;
use crate::train::update::micro_batch_count;

/// Micro-batches on a GPU are not shrunk below this many tokens to save activations. At this size, the narrowest product of a small model
/// (1,536 columns in tiles of 128 by 128) still has 768 tiles, several per multiprocessor, and launches take a small part of a step's time.
const FULL_RATE_TOKENS: usize = 8192;
/// The maximum memory for saved activations with `train.activation_checkpointing = "auto"` on the CPU, or on a GPU that does not report its
/// memory: 4 GiB, which a laptop can spare.
const MAX_SAVED_BYTES: u64 = 4 << 30;
/// This fraction of a GPU's memory (1 / `SPARE_SHARE`) is left to the driver and to other programs.
const SPARE_SHARE: u64 = 32;
/// The allocator retains memory from other phases: about this fraction of the largest phase (1 / `RETAINED_SHARE`, measured at 25 and 100
/// million parameters).
const RETAINED_SHARE: u64 = 16;

/// Micro-batch size and activation checkpointing of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivationPlan {
    /// The maximum number of tokens in a micro-batch: `train.micro_batch_tokens`, or fewer if activations can then be saved.
    pub micro_batch_tokens: usize,
    /// The activation checkpointing; never `Auto`.
    pub checkpointing: ActivationCheckpointing,
}

/// The memory of an update in bytes, without model states.
pub struct UpdateBytes {
    /// The number of rows (tokens) in the largest micro-batch.
    pub rows: usize,
    /// Saved activations, and the residual stream with its gradient.
    pub saved: u64,
    /// A block's backward pass or the head's chunk, whichever is larger.
    pub scratch: u64,
}

/// Returns the load of a step, given the lengths of all prompts in tokens. Assumes that the step has the longest prompts.
pub fn step_load(settings: &RunSettings, mut prompts: Vec<usize>, max_new_tokens: usize) -> EngineLoad {
    prompts.sort_unstable_by(|a, b| b.cmp(a));
    prompts.truncate(settings.rollout.groups);
    EngineLoad { prompts, requests: settings.rollout.groups * settings.rollout.group_size, max_new_tokens }
}

/// Returns the bytes that the allocator retains from other phases and that the largest phase, which uses `bytes`, cannot use.
pub fn allocator_overhead(bytes: u64) -> u64 {
    bytes / RETAINED_SHARE
}

impl ActivationPlan {
    /// Chooses the plan for the load of a step. If `train.activation_checkpointing` is `auto`, a GPU saves all activations but those of
    /// norms and SwiGLU, which are cheap to recompute. Micro-batches shrink if these activations do not fit otherwise; a GPU recomputes
    /// whole blocks only if micro-batches would become too small. The CPU saves all activations if they fit into 4 GiB, or else recomputes
    /// whole blocks.
    pub fn of(config: &ModelConfig, settings: &RunSettings, load: &EngineLoad, target: &Target) -> Self {
        let most = settings.train.micro_batch_tokens;
        let with = |micro_batch_tokens, checkpointing| Self { micro_batch_tokens, checkpointing };
        match settings.train.activation_checkpointing {
            ActivationCheckpointing::Auto if target.is_gpu => {
                let room = room(config, settings, target);
                let workers = workers(config, settings, target);
                let fits = |chosen: &Self| {
                    let bytes = chosen.bytes(config, settings, load, target, Ranks::ONE, workers);
                    bytes.saved + bytes.scratch + allocator_overhead(bytes.saved + bytes.scratch) <= room
                };
                let smaller = std::iter::successors(Some(most), |tokens| (tokens / 2 >= FULL_RATE_TOKENS).then_some(tokens / 2));
                smaller
                    .map(|tokens| with(tokens, ActivationCheckpointing::Selective))
                    .find(fits)
                    .unwrap_or(with(most, ActivationCheckpointing::Full))
            }
            ActivationCheckpointing::Auto => {
                let saved = activation_bytes(config, target, ActivationCheckpointing::None) * most * workers(config, settings, target);
                with(most, if saved as u64 > MAX_SAVED_BYTES { ActivationCheckpointing::Full } else { ActivationCheckpointing::None })
            }
            chosen => with(most, chosen),
        }
    }

    /// Returns the memory of an update of a rank with this number of workers, if every response has the maximum length. `load` is that of
    /// all ranks.
    pub fn bytes(
        &self,
        config: &ModelConfig,
        settings: &RunSettings,
        load: &EngineLoad,
        target: &Target,
        ranks: Ranks,
        workers: usize,
    ) -> UpdateBytes {
        let responses = load.requests / settings.train.updates_per_rollout;
        // Passes without a gradient deal the responses in turn; with shards, a gradient's micro-batches are cut within a shard.
        let (scored, rows_scored) = self.micro_batches(load, responses.div_ceil(ranks.count), workers);
        let (count, rows) = match settings.train.shards {
            0 => (scored, rows_scored),
            shards => {
                let (in_shard, rows) = self.micro_batches(load, responses.div_ceil(shards), 1);
                (in_shard * shards / ranks.count, rows)
            }
        };
        let stream = 2 * config.hidden * target.element_bytes;
        let scratch = (rows * block::backward_bytes(config, target)).max(head::head_bytes(config, target));
        let all = |bytes: usize| (workers.min(count) * bytes) as u64;
        let all_scored = |bytes: usize| (workers.min(scored) * bytes) as u64;
        let saved = all(rows * (activation_bytes(config, target, self.checkpointing) + stream));
        // The earlier passes for the reference and for old log-probabilities save no activations.
        let before = all_scored(rows_scored * block::forward_bytes(config, target) + head::head_bytes(config, target));
        UpdateBytes { rows, saved, scratch: all(scratch).max(before.saturating_sub(saved)) }
    }

    /// Returns the number of micro-batches of `responses` responses for this number of workers, and the rows (tokens) of the largest.
    fn micro_batches(&self, load: &EngineLoad, responses: usize, workers: usize) -> (usize, usize) {
        let count = micro_batch_count(self.micro_batch_tokens, workers, responses, responses * load.max_new_tokens);
        // Responses to a single prompt are distributed round-robin, with the prompt once per micro-batch. Responses to several prompts are
        // split within the token budget, which only a response in its own micro-batch may exceed.
        let longest = load.prompts.iter().max().copied().unwrap_or(0);
        let round_robin = responses.div_ceil(count) * load.max_new_tokens.saturating_sub(1) + longest;
        let alone = longest + load.max_new_tokens.saturating_sub(1);
        (count, if load.prompts.len() > 1 { self.micro_batch_tokens.max(alone) } else { round_robin })
    }
}

/// Returns the GPU memory in bytes that an update may use in addition to the model states.
fn room(config: &ModelConfig, settings: &RunSettings, target: &Target) -> u64 {
    let Some(total) = target.total else { return MAX_SAVED_BYTES };
    // The vocabulary is 0 because the tokenizer is in host memory.
    let states: u64 =
        model_states(config, settings, 0, target, Ranks::ONE, workers(config, settings, target)).iter().map(|(_, bytes)| bytes).sum();
    let room = (total - total / SPARE_SHARE).saturating_sub(states);
    // Stock operations need more temporary memory than is counted here.
    if target.is_stock { room / 2 } else { room }
}
