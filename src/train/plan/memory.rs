//! Memory: what a run holds from its first update to its end, and what each phase takes on top.

use anyhow::{Context, Result};

use super::{Work, lanes};
use crate::kernels::Target;
use crate::model::decoder::{Recompute, kept_bytes};
use crate::model::parameters::{Role, elements};
use crate::model::rotary::Rotary;
use crate::model::{ModelConfig, Weights, block, export, head, lora, value};
use crate::optim::{OptimSettings, States};
use crate::rollout::limits::{EngineSettings, Load};
use crate::train::settings::RunSettings;
use crate::train::update::{micro_batch_count, recompute};

/// What CUDA, its libraries and the kernels take of a GPU's memory, about.
const CUDA_BYTES: u64 = 1_000_000_000;
/// The program itself, its libraries, threads and what their heaps keep: what a run of the embedded model takes besides its tensors (measured).
const PROGRAM_BYTES: u64 = 80_000_000;
/// A token of a tokenizer while it is read: 100 MB for the 151,665 of Qwen's (measured).
const VOCABULARY_BYTES: usize = 660;
/// What the allocator keeps of the phases besides the largest, as a share of that one (measured at 25 and 100 million parameters).
const KEPT_BY_ALLOCATOR: u64 = 16;
/// A recorded response token: its id, its log-probability, its text and their copies on the way to the record.
const RESPONSE_TOKEN_BYTES: usize = 24;

/// Bytes by kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// What is there throughout, named.
    pub held: Vec<(String, u64)>,
    /// What each phase takes on top; they follow one another.
    pub phases: Vec<Phase>,
    /// Which activations are computed again.
    pub recompute: Recompute,
    /// Rows of the largest micro-batch.
    pub micro_batch_rows: usize,
}

/// One phase.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// Its name.
    pub name: &'static str,
    /// What it is made of.
    pub parts: Vec<(&'static str, u64)>,
}

impl Phase {
    /// All its parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// What no other setting lowers: weights, one set of gradients, and moments of 8 bits.
pub fn least_bytes(config: &ModelConfig, settings: &RunSettings, target: &Target) -> u64 {
    let weights: u64 = held_weights(config, settings, target).iter().map(|(_, bytes)| bytes).sum();
    let optim = OptimSettings { states: States::Coded, ..settings.optim.clone() };
    let gradients = if settings.lora.is_on() { lora::gradient_bytes(config, settings.lora.rank) } else { Weights::bytes(config) };
    let critic: u64 = held_critic(config, settings, &optim, target, 1).iter().map(|(_, bytes)| bytes).sum();
    weights + gradients + optim.moment_bytes(&settings.lora.trained(config)) + critic
}

/// What the critic holds, if there is one: all its weights are trained, whether or not the policy's are.
fn held_critic(config: &ModelConfig, settings: &RunSettings, optim: &OptimSettings, target: &Target, lanes: usize) -> Vec<(String, u64)> {
    if !settings.has_critic() {
        return Vec::new();
    }
    let parameters = value::parameters(config) as u64;
    let (computed, wide) = (parameters * target.element_bytes as u64, parameters * size_of::<f32>() as u64);
    let moments = OptimSettings { freeze: Vec::new(), ..optim.clone() }.moment_bytes(&value::shapes(config));
    let weights = if computed == wide {
        vec![("critic: weights, in f32".to_owned(), computed)]
    } else {
        vec![("critic: weights, in bf16".to_owned(), computed), ("critic: masters, in f32".to_owned(), wide)]
    };
    let rest = [("critic: two moments".to_owned(), moments), ("critic: gradients".to_owned(), lanes as u64 * wide)];
    weights.into_iter().chain(rest).collect()
}

/// The policy's weights, in each form that they are held in.
fn held_weights(config: &ModelConfig, settings: &RunSettings, target: &Target) -> Vec<(String, u64)> {
    let (computed, rank) = ((config.parameters() * target.element_bytes) as u64 + Rotary::bytes(config), settings.lora.rank);
    let is_wide = target.element_bytes == size_of::<f32>();
    let dtype = if is_wide { "f32" } else { "bf16" };
    match (settings.lora.is_on(), is_wide) {
        (true, _) => vec![
            (format!("weights with adapters, in {dtype}"), computed),
            ("projections without adapters".to_owned(), lora::base_bytes(config, target)),
            (format!("adapters of rank {rank}"), lora::bytes(config, rank)),
        ],
        (false, true) => vec![("weights, in f32: they are the optimizer's masters".to_owned(), computed)],
        (false, false) => vec![("weights, in bf16".to_owned(), computed), ("masters, in f32".to_owned(), Weights::bytes(config))],
    }
}

impl Memory {
    /// Adds it up.
    pub fn of(config: &ModelConfig, settings: &RunSettings, work: &Work, target: &Target) -> Result<Self> {
        let (lanes, rank) = (lanes(config, settings, target), settings.lora.rank);
        let mut held = held_weights(config, settings, target);
        // The model without adapters is the policy as it starts.
        let is_base = settings.lora.is_on() && settings.reference.is_empty() && !settings.reference_moves();
        if settings.has_reference() && !is_base {
            // A streamed one leaves its ends on the device.
            let streamed = target.is_gpu && settings.train.stream_reference;
            let ends = elements(config, |role| matches!(role, Role::Embedding | Role::Head));
            let bytes = if streamed { ends } else { config.parameters() } * target.element_bytes;
            let (place, kl) = if settings.loss.kl != 0.0 { ("loss", settings.loss.kl) } else { ("reward", settings.reward.kl) };
            held.push((format!("reference ({place}.kl is {kl}{})", if streamed { ", streamed" } else { "" }), bytes as u64));
            if settings.train.reference_decay > 0.0 && !streamed && target.element_bytes != size_of::<f32>() {
                held.push(("reference: its moving average, in f32".to_owned(), Weights::bytes(config)));
            }
        }
        let kind = if settings.optim.states == States::Coded { " of 8 bits" } else { "" };
        held.push((format!("optimizer: two moments{kind}"), settings.optim.moment_bytes(&settings.lora.trained(config))));
        let gradients = if settings.lora.is_on() { lora::gradient_bytes(config, rank) } else { Weights::bytes(config) };
        held.push((
            if lanes == 1 { "gradients".to_owned() } else { format!("gradients: a set for each of {lanes} lanes") },
            lanes as u64 * gradients,
        ));
        held.extend(held_critic(config, settings, &settings.optim, target, lanes));
        held.push(if target.is_gpu {
            ("CUDA, its libraries and the kernels".to_owned(), CUDA_BYTES)
        } else {
            ("program and tokenizer".to_owned(), PROGRAM_BYTES + (work.vocabulary * VOCABULARY_BYTES) as u64)
        });
        // A GPU's phases take what is left of it.
        let left = |free: u64| free.saturating_sub(held.iter().map(|(_, bytes)| bytes).sum());
        let target = &Target { free: target.free.map(left), ..*target };

        let responses = settings.rollout.groups * settings.rollout.group_size;
        let recorded = if target.is_gpu { 0 } else { responses * settings.rollout.max_new * RESPONSE_TOKEN_BYTES };
        let samples = Phase { name: "", parts: vec![("responses", recorded as u64)] };
        let mut phases = Vec::new();
        if settings.rollout.replay.is_empty() {
            let rollout = engine("rollouts", config, target, &settings.rollout.engine, lanes, &rollout_load(settings, work));
            phases.push(rollout.context("rollouts do not fit")?.with(&samples));
        }
        let (update, micro_batch_rows, recompute) = update(config, target, settings, work, lanes);
        phases.push(update.with(&samples));
        let passes = work.evaluations.iter().map(|load| engine("evaluation", config, target, &settings.rollout.engine, lanes, load));
        let passes = passes.collect::<Result<Vec<_>>>().context("the evaluation does not fit")?;
        phases.extend(passes.into_iter().max_by_key(Phase::bytes));
        if !target.is_gpu {
            let mut parts = vec![("pieces of tensors", export::buffer_bytes(settings.checkpoint.format(target).dtype))];
            parts.extend(settings.lora.is_on().then(|| ("adapters, transposed and as a file", 2 * lora::bytes(config, rank))));
            phases.push(Phase { name: "checkpoint", parts });
        }
        Ok(Self { held, phases, recompute, micro_batch_rows })
    }

    /// The phase that needs most.
    pub fn worst(&self) -> &Phase {
        let worst = self.phases.iter().max_by_key(|phase| phase.bytes());
        worst.unwrap_or(&self.phases[0])
    }

    /// What is held, with the worst phase and what the allocator keeps.
    pub fn peak(&self) -> u64 {
        self.held.iter().map(|(_, bytes)| bytes).sum::<u64>() + self.worst().bytes() + self.kept_by_allocator()
    }

    /// Memory that was freed in one phase and could not be used in another.
    pub fn kept_by_allocator(&self) -> u64 {
        self.worst().bytes() / KEPT_BY_ALLOCATOR
    }
}

impl Phase {
    fn with(mut self, other: &Phase) -> Self {
        self.parts.extend_from_slice(&other.parts);
        self
    }
}

/// A step's requests.
pub fn rollout_load(settings: &RunSettings, work: &Work) -> Load {
    let mut prompts = work.prompts.clone();
    prompts.sort_unstable_by(|a, b| b.cmp(a));
    prompts.truncate(settings.rollout.groups);
    Load { prompts, requests: settings.rollout.groups * settings.rollout.group_size, max_new: settings.rollout.max_new }
}

fn engine(
    name: &'static str,
    config: &ModelConfig,
    target: &Target,
    settings: &EngineSettings,
    lanes: usize,
    load: &Load,
) -> Result<Phase> {
    let bytes = settings.bytes(config, target, lanes, load)?;
    let parts = [("key/value cache", bytes.cache), ("a pass", bytes.pass), ("logits", bytes.logits)];
    Ok(Phase { name, parts: parts.map(|(name, bytes)| (name, bytes as u64)).into() })
}

/// The update, with the rows of its largest micro-batch.
fn update(config: &ModelConfig, target: &Target, settings: &RunSettings, work: &Work, lanes: usize) -> (Phase, usize, Recompute) {
    let responses = settings.rollout.groups * settings.rollout.group_size / settings.train.updates_per_rollout;
    let count = micro_batch_count(settings.train.micro_batch_tokens, lanes, responses, responses * settings.rollout.max_new);
    let in_one = responses.div_ceil(count);
    // Responses to one prompt are dealt in turn, the prompt once in each micro-batch; those to several are cut within the budget, but for a
    // response that exceeds it by itself.
    let longest = work.prompts.iter().max().copied().unwrap_or(0);
    let dealt = in_one * settings.rollout.max_new.saturating_sub(1) + longest;
    let alone = longest + settings.rollout.max_new.saturating_sub(1);
    let rows = if work.prompts.len() > 1 { settings.train.micro_batch_tokens.max(alone) } else { dealt };
    let recompute = recompute(settings.train.recompute, config, target, settings.train.micro_batch_tokens, lanes);
    let stream = 2 * config.hidden * target.element_bytes;
    let scratch = (rows * block::backward_bytes(config, target)).max(head::sweep_bytes(config, target));
    let all = |bytes: usize| (lanes.min(count) * bytes) as u64;
    let kept = all(rows * (kept_bytes(config, target, recompute) + stream));
    // The reference's pass, and the one for old log-probabilities, keep nothing and come before.
    let before = all(rows * block::pass_bytes(config, target) + head::sweep_bytes(config, target));
    let scratch = all(scratch).max(before.saturating_sub(kept));
    (
        Phase { name: "update", parts: vec![("kept activations", kept), ("a block's backward pass, or the head's chunk", scratch)] },
        rows,
        recompute,
    )
}
