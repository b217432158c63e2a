//! The model states of a run, which stay in memory from the first update to the end: weights, reference, moments, gradients and critic.
//! Also counts the memory of the program and its libraries.

use super::{Ranks, gradient_sets};
use crate::kernels::Target;
use crate::model::parameters::{Role, elements};
use crate::model::rotary::Rotary;
use crate::model::{ModelConfig, Weights, lora, value};
use crate::optim::{MomentDtype, OptimSettings, Owned};
use crate::train::settings::RunSettings;

/// The approximate GPU memory of CUDA, its libraries and the kernels.
const CUDA_BYTES: u64 = 1_000_000_000;
/// The memory of the program itself (libraries, threads, heap overhead), measured as the memory of a run of the embedded model without its
/// tensors.
const PROGRAM_BYTES: u64 = 80_000_000;
/// The memory per vocabulary token while a tokenizer is read: measured as 100 MB for Qwen's 151,665 tokens.
const VOCABULARY_BYTES: usize = 660;

/// Returns the names and sizes in bytes of all model states of a rank with this number of workers, and of the program. `vocabulary` is the
/// size of the tokenizer's vocabulary.
pub fn model_states(
    config: &ModelConfig,
    settings: &RunSettings,
    vocabulary: usize,
    target: &Target,
    ranks: Ranks,
    workers: usize,
) -> Vec<(String, u64)> {
    let (sets, rank) = (gradient_sets(settings, workers, ranks.count), settings.lora.rank);
    let owned = ranks.owned(&settings.optim.owned(&settings.lora.trained(config), ranks.count));
    let mut states = policy_weights(config, settings, target, ranks, owned);
    // The base without adapters is the initial policy, so it serves as the reference.
    let is_base = settings.lora.is_on() && settings.reference.is_empty() && !settings.reference_moves();
    if settings.has_reference() && !is_base {
        // A streamed reference keeps only its embedding and its head on the device.
        let streamed = target.is_gpu && settings.train.stream_reference;
        let ends = elements(config, |role| matches!(role, Role::Embedding | Role::Head));
        let bytes = if streamed { ends } else { config.parameter_count() } * target.element_bytes;
        let (term, kl) = if settings.loss.kl != 0.0 { ("loss", settings.loss.kl) } else { ("reward", settings.reward.kl) };
        states.push((format!("reference ({term}.kl is {kl}{})", if streamed { ", streamed" } else { "" }), bytes as u64));
        if settings.train.reference_decay > 0.0 && !streamed && target.element_bytes != size_of::<f32>() {
            states.push(("reference: its moving average, in f32".to_owned(), Weights::bytes(config)));
        }
    }
    let kind = if settings.optim.states == MomentDtype::Quantized { ", 8-bit" } else { "" };
    states.push((format!("optimizer: two moments{kind}{}", part(ranks)), owned.moment_bytes));
    let gradients = if settings.lora.is_on() { lora::gradient_bytes(config, rank) } else { Weights::bytes(config) };
    states.push((
        match (sets, settings.train.shards) {
            (1, _) => "gradients".to_owned(),
            (_, 0) => format!("gradients: one set for each of {sets} workers"),
            (_, shards) => format!("gradients: {sets} sets that add up {shards} shards"),
        },
        sets as u64 * gradients,
    ));
    states.extend(critic_states(config, settings, &settings.optim, target, ranks, sets));
    states.push(if target.is_gpu {
        ("CUDA, its libraries and the kernels".to_owned(), CUDA_BYTES)
    } else {
        ("program and tokenizer".to_owned(), PROGRAM_BYTES + (vocabulary * VOCABULARY_BYTES) as u64)
    });
    states
}

/// Says that a state is divided among several ranks.
fn part(ranks: Ranks) -> String {
    if ranks.are_several() { format!(", one of {} parts", ranks.count) } else { String::new() }
}

/// Returns the bytes of a rank that no setting can save: weights, one set of gradients and 8-bit moments, of the policy and of the critic if there is
/// one.
pub fn minimum_bytes(config: &ModelConfig, settings: &RunSettings, target: &Target, ranks: Ranks) -> u64 {
    let optim = OptimSettings { states: MomentDtype::Quantized, ..settings.optim.clone() };
    let owned = ranks.owned(&optim.owned(&settings.lora.trained(config), ranks.count));
    let weights: u64 = policy_weights(config, settings, target, ranks, owned).iter().map(|(_, bytes)| bytes).sum();
    let gradients = if settings.lora.is_on() { lora::gradient_bytes(config, settings.lora.rank) } else { Weights::bytes(config) };
    let critic: u64 = critic_states(config, settings, &optim, target, ranks, 1).iter().map(|(_, bytes)| bytes).sum();
    weights + gradients + owned.moment_bytes + critic
}

/// Returns the names and sizes of the policy's weights: computed weights, and masters of the tensors that the rank owns or adapters.
fn policy_weights(config: &ModelConfig, settings: &RunSettings, target: &Target, ranks: Ranks, owned: Owned) -> Vec<(String, u64)> {
    let (computed, rank) = ((config.parameter_count() * target.element_bytes) as u64 + Rotary::bytes(config), settings.lora.rank);
    let is_wide = target.element_bytes == size_of::<f32>();
    let dtype = if is_wide { "f32" } else { "bf16" };
    match (settings.lora.is_on(), is_wide) {
        (true, _) => vec![
            (format!("weights with adapters, in {dtype}"), computed),
            ("projections without adapters".to_owned(), lora::base_bytes(config, target)),
            (format!("adapters of rank {rank}"), lora::bytes(config, rank)),
        ],
        (false, true) => vec![("weights, in f32: they are the optimizer's masters".to_owned(), computed)],
        (false, false) => {
            let masters = owned.elements * size_of::<f32>() as u64;
            vec![("weights, in bf16".to_owned(), computed), (format!("masters, in f32{}", part(ranks)), masters)]
        }
    }
}

/// Returns the names and sizes of the critic's states; empty without a critic. All its weights are trained, even if the policy has frozen
/// weights or adapters.
fn critic_states(
    config: &ModelConfig,
    settings: &RunSettings,
    optim: &OptimSettings,
    target: &Target,
    ranks: Ranks,
    sets: usize,
) -> Vec<(String, u64)> {
    if !settings.has_critic() {
        return Vec::new();
    }
    let parameters = value::parameter_count(config) as u64;
    let (computed, wide) = (parameters * target.element_bytes as u64, parameters * size_of::<f32>() as u64);
    let owned = ranks.owned(&OptimSettings { freeze: Vec::new(), ..optim.clone() }.owned(&value::shapes(config), ranks.count));
    let weights = if computed == wide {
        vec![("critic: weights, in f32".to_owned(), computed)]
    } else {
        vec![("critic: weights, in bf16".to_owned(), computed), (format!("critic: masters, in f32{}", part(ranks)), owned.elements * 4)]
    };
    let rest = [(format!("critic: two moments{}", part(ranks)), owned.moment_bytes), ("critic: gradients".to_owned(), sets as u64 * wide)];
    weights.into_iter().chain(rest).collect()
}
