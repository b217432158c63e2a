//! How an update passes over its responses: the tokens of a micro-batch, and which activations are kept for the backward pass. Settings, shapes
//! and the device's whole memory decide, never what happens to be free, so that a run that goes on takes the same micro-batches and sums in the
//! same order.

use super::held::held;
use super::lanes;
use crate::kernels::Target;
use crate::model::decoder::{Recompute, kept_bytes};
use crate::model::{ModelConfig, block, head};
use crate::rollout::limits::Load;
use crate::train::settings::RunSettings;
use crate::train::update::micro_batch_count;

/// Fewest tokens that a GPU's micro-batches are shrunk to so that activations can be kept: the narrowest product of a small model (1,536 columns in
/// tiles of 128 by 128) still has 768 tiles, several for each multiprocessor, and a step's launches take a small part of the time.
const FULL_RATE_TOKENS: usize = 8192;
/// Most memory for kept activations on the CPU before `recompute = "auto"` gives up keeping them, and on a GPU that does not tell its memory:
/// 4 GiB, a share that a laptop has.
const KEPT_BYTES: u64 = 4 << 30;
/// One part in so many of a GPU's memory is left to the driver and to other programs.
const SPARE_SHARE: u64 = 32;
/// What the allocator keeps of the phases besides the largest, as a share of that one (measured at 25 and 100 million parameters).
const KEPT_BY_ALLOCATOR: u64 = 16;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activations {
    /// Most tokens of a micro-batch: `train.micro_batch_tokens`, or less so that activations can be kept.
    pub micro_batch_tokens: usize,
    /// Which activations are computed again; never `Auto`.
    pub recompute: Recompute,
}

/// What an update holds besides weights, moments and gradients.
pub struct UpdateBytes {
    /// Rows of the largest micro-batch.
    pub rows: usize,
    /// Activations that wait for the backward pass, and the residual stream with its gradient.
    pub kept: u64,
    /// A block's backward pass, or the head's chunk.
    pub scratch: u64,
}

/// A step's requests, where prompts have these lengths.
pub fn step_load(settings: &RunSettings, mut prompts: Vec<usize>, max_new: usize) -> Load {
    prompts.sort_unstable_by(|a, b| b.cmp(a));
    prompts.truncate(settings.rollout.groups);
    Load { prompts, requests: settings.rollout.groups * settings.rollout.group_size, max_new }
}

/// Memory that was freed in other phases than one of so many bytes, and that it could not use.
pub fn kept_by_allocator(bytes: u64) -> u64 {
    bytes / KEPT_BY_ALLOCATOR
}

impl Activations {
    /// Decides for the responses of a step. Where `train.recompute` is `auto`, a GPU keeps activations (all but norms and SwiGLU, which are cheap to
    /// compute again), if need be with smaller micro-batches, before it computes whole blocks again.
    pub fn of(config: &ModelConfig, settings: &RunSettings, load: &Load, target: &Target) -> Self {
        let most = settings.train.micro_batch_tokens;
        let with = |micro_batch_tokens, recompute| Self { micro_batch_tokens, recompute };
        match settings.train.recompute {
            Recompute::Auto if target.is_gpu => {
                let room = room(config, settings, target);
                let fits = |chosen: &Self| {
                    let bytes = chosen.bytes(config, settings, load, target);
                    bytes.kept + bytes.scratch + kept_by_allocator(bytes.kept + bytes.scratch) <= room
                };
                let smaller = std::iter::successors(Some(most), |tokens| (tokens / 2 >= FULL_RATE_TOKENS).then_some(tokens / 2));
                smaller.map(|tokens| with(tokens, Recompute::Selective)).find(fits).unwrap_or(with(most, Recompute::All))
            }
            Recompute::Auto => {
                let kept = kept_bytes(config, target, Recompute::None) * most * lanes(config, settings, target);
                with(most, if kept as u64 > KEPT_BYTES { Recompute::All } else { Recompute::None })
            }
            chosen => with(most, chosen),
        }
    }

    /// What the update holds then, where every response is as long as it may be.
    pub fn bytes(&self, config: &ModelConfig, settings: &RunSettings, load: &Load, target: &Target) -> UpdateBytes {
        let lanes = lanes(config, settings, target);
        let responses = load.requests / settings.train.updates_per_rollout;
        let count = micro_batch_count(self.micro_batch_tokens, lanes, responses, responses * load.max_new);
        let in_one = responses.div_ceil(count);
        // Responses to one prompt are dealt in turn, the prompt once in each micro-batch; those to several are cut within the budget, but for a
        // response that exceeds it by itself.
        let longest = load.prompts.iter().max().copied().unwrap_or(0);
        let dealt = in_one * load.max_new.saturating_sub(1) + longest;
        let alone = longest + load.max_new.saturating_sub(1);
        let rows = if load.prompts.len() > 1 { self.micro_batch_tokens.max(alone) } else { dealt };
        let stream = 2 * config.hidden * target.element_bytes;
        let scratch = (rows * block::backward_bytes(config, target)).max(head::sweep_bytes(config, target));
        let all = |bytes: usize| (lanes.min(count) * bytes) as u64;
        let kept = all(rows * (kept_bytes(config, target, self.recompute) + stream));
        // The reference's pass, and the one for old log-probabilities, keep nothing and come before.
        let before = all(rows * block::pass_bytes(config, target) + head::sweep_bytes(config, target));
        UpdateBytes { rows, kept, scratch: all(scratch).max(before.saturating_sub(kept)) }
    }
}

/// What an update may take of a GPU's memory besides what is held throughout.
fn room(config: &ModelConfig, settings: &RunSettings, target: &Target) -> u64 {
    let Some(total) = target.total else { return KEPT_BYTES };
    // The vocabulary of the tokenizer lies in the host's memory.
    let held: u64 = held(config, settings, 0, target).iter().map(|(_, bytes)| bytes).sum();
    let room = (total - total / SPARE_SHARE).saturating_sub(held);
    // Stock operations hold more at once than is counted.
    if target.is_stock { room / 2 } else { room }
}
