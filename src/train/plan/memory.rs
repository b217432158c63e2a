//! The memory of a run: its model states, and what each phase needs in addition.

use anyhow::{Context, Result};

use super::activations::{ActivationPlan, allocator_overhead, step_load};
use super::model_states::model_states;
use super::{Ranks, RunWorkload, workers_of_rank};
use crate::kernels::Target;
use crate::model::{ModelConfig, export, lora, value};
use crate::optim::exchange_bytes;
use crate::rollout::limits::{EngineLoad, EngineSettings};
use crate::train::settings::RunSettings;

/// Bytes per response token on the host: id, log-probability and text, with the copies made while they are recorded.
const RESPONSE_TOKEN_BYTES: usize = 24;

/// The memory of a run, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// The names and sizes of everything that stays in memory from the first update to the end.
    pub model_states: Vec<(String, u64)>,
    /// What each phase needs in addition. Phases follow one another, so only the largest counts.
    pub phases: Vec<PhaseMemory>,
    /// Micro-batch size and activation checkpointing of the update.
    pub activations: ActivationPlan,
    /// The number of rows (tokens) in the largest micro-batch.
    pub micro_batch_rows: usize,
}

/// The memory of one phase of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseMemory {
    /// The phase's name.
    pub name: &'static str,
    /// The names and sizes of the phase's parts.
    pub parts: Vec<(&'static str, u64)>,
}

impl PhaseMemory {
    /// Returns the sum of the parts, in bytes.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl Memory {
    /// Adds up the memory of a rank of a run.
    ///
    /// # Errors
    /// If the ranks cannot share the shards equally, or one sequence of a rollout or an evaluation does not fit into the allowed key/value cache.
    pub fn of(config: &ModelConfig, settings: &RunSettings, work: &RunWorkload, target: &Target) -> Result<Self> {
        let (workers, ranks) = (workers_of_rank(config, settings, target, work.ranks)?, work.ranks);
        let model_states = model_states(config, settings, work.vocabulary, target, ranks, workers);
        let load = rollout_load(settings, work);
        // The same for any number of ranks, because micro-batches determine the order of sums.
        let activations = ActivationPlan::of(config, settings, &load, target);
        // On a GPU, phases can use only the memory that the model states leave.
        let left = |free: u64| free.saturating_sub(model_states.iter().map(|(_, bytes)| bytes).sum());
        let target = &Target { free: target.free.map(left), ..*target };

        let responses = settings.rollout.groups * settings.rollout.group_size;
        let recorded = if target.is_gpu { 0 } else { responses * settings.rollout.max_new_tokens * RESPONSE_TOKEN_BYTES };
        let samples = PhaseMemory { name: "", parts: vec![("responses", recorded as u64)] };
        let mut phases = Vec::new();
        if settings.rollout.replay.is_empty() {
            let rollout = engine("rollouts", config, target, &settings.rollout.engine, workers, &ranks.dealt(&load));
            phases.push(rollout.context("rollouts do not fit")?.with(&samples));
        }
        let update = activations.bytes(config, settings, &load, target, ranks, workers);
        let parts = vec![("saved activations", update.saved), ("a block's backward pass, or the head's chunk", update.scratch)];
        phases.push(PhaseMemory { name: "update", parts }.with(&samples));
        let evaluation = |load: &EngineLoad| engine("evaluation", config, target, &settings.rollout.engine, workers, &ranks.dealt(load));
        let passes = work.evaluations.iter().map(evaluation);
        let passes = passes.collect::<Result<Vec<_>>>().context("the evaluation does not fit")?;
        phases.extend(passes.into_iter().max_by_key(PhaseMemory::bytes));
        if !target.is_gpu && ranks.are_several() {
            let parts = vec![("messages of gradients", exchange_bytes(&trained_tensors(config, settings)))];
            phases.push(PhaseMemory { name: "exchange", parts }.with(&samples));
        }
        if !target.is_gpu && ranks.saves() {
            phases.push(checkpoint(config, settings, target, ranks));
        }
        Ok(Self { model_states, phases, activations, micro_batch_rows: update.rows })
    }

    /// Returns the phase that needs the most memory.
    pub fn largest_phase(&self) -> &PhaseMemory {
        let largest = self.phases.iter().max_by_key(|phase| phase.bytes());
        largest.unwrap_or(&self.phases[0])
    }

    /// Returns the peak in bytes: the sum of the model states, the largest phase, and what the allocator retains.
    pub fn peak(&self) -> u64 {
        self.model_states.iter().map(|(_, bytes)| bytes).sum::<u64>() + self.largest_phase().bytes() + self.allocator_overhead()
    }

    /// Returns the bytes that the allocator retains from other phases and that the largest phase cannot use.
    pub fn allocator_overhead(&self) -> u64 {
        allocator_overhead(self.largest_phase().bytes())
    }
}

impl PhaseMemory {
    /// Adds the parts of another phase.
    fn with(mut self, other: &PhaseMemory) -> Self {
        self.parts.extend_from_slice(&other.parts);
        self
    }
}

/// Returns the memory of writing a checkpoint. The states of other ranks' tensors arrive one tensor at a time.
fn checkpoint(config: &ModelConfig, settings: &RunSettings, target: &Target, ranks: Ranks) -> PhaseMemory {
    let mut parts = vec![("pieces of tensors", export::buffer_bytes(settings.checkpoint.format(target).dtype))];
    let lora = &settings.lora;
    parts.extend(lora.is_on().then(|| ("adapters, transposed and as a file", 2 * lora::bytes(config, lora.rank))));
    let largest = || trained_tensors(config, settings).into_iter().max().unwrap_or(0);
    parts.extend(ranks.are_several().then(|| ("a tensor of another process", (largest() * size_of::<f32>()) as u64)));
    PhaseMemory { name: "checkpoint", parts }
}

/// Returns the numbers of elements of all trained tensors, of the policy and of the critic.
fn trained_tensors(config: &ModelConfig, settings: &RunSettings) -> Vec<usize> {
    let critic = if settings.has_critic() { value::shapes(config) } else { Vec::new() };
    let trained = settings.lora.trained(config).into_iter().filter(|(name, _)| !settings.optim.is_frozen(name));
    trained.chain(critic).map(|(_, shape)| shape.elem_count()).collect()
}

/// Returns the load of a step's rollouts, over all ranks.
pub fn rollout_load(settings: &RunSettings, work: &RunWorkload) -> EngineLoad {
    step_load(settings, work.prompts.clone(), settings.rollout.max_new_tokens)
}

/// Returns the memory of the rollout engine for a load.
fn engine(
    name: &'static str,
    config: &ModelConfig,
    target: &Target,
    settings: &EngineSettings,
    workers: usize,
    load: &EngineLoad,
) -> Result<PhaseMemory> {
    let bytes = settings.bytes(config, target, workers, load)?;
    let parts = [("key/value cache", bytes.cache), ("a pass", bytes.pass), ("logits", bytes.logits)];
    Ok(PhaseMemory { name, parts: parts.map(|(name, bytes)| (name, bytes as u64)).into() })
}
