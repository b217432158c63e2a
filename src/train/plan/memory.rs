//! Memory: what a run holds from its first update to its end, and what each phase takes on top.

use anyhow::{Context, Result};

use super::{Work, lanes};
use crate::model::decoder::{Recompute, kept_bytes};
use crate::model::rotary::Rotary;
use crate::model::{ModelConfig, Weights, block, export, head, lora};
use crate::rollout::engine::{EngineSettings, Load};
use crate::train::settings::RunSettings;
use crate::train::update::{micro_batch_count, recompute};

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

/// Weights, two moments and one set of gradients: what no other setting lowers.
pub fn least_bytes(config: &ModelConfig, settings: &RunSettings) -> u64 {
    let (set, rank) = (Weights::bytes(config), settings.lora.rank);
    match settings.lora.is_on() {
        true => set + lora::base_bytes(config) + 3 * lora::bytes(config, rank) + lora::gradient_bytes(config, rank),
        false => 4 * set,
    }
}

impl Memory {
    /// Adds it up.
    pub fn of(config: &ModelConfig, settings: &RunSettings, work: &Work) -> Result<Self> {
        let (lanes, set) = (lanes(config, settings), Weights::bytes(config));
        let (rotary, rank, is_lora) = (Rotary::bytes(config), settings.lora.rank, settings.lora.is_on());
        let (trained, gradients) = if is_lora { (lora::bytes(config, rank), lora::gradient_bytes(config, rank)) } else { (set, set) };
        let mut held = match is_lora {
            true => vec![
                ("weights with adapters, in f32".to_owned(), set + rotary),
                ("projections without adapters".to_owned(), lora::base_bytes(config)),
                (format!("adapters of rank {rank}"), trained),
            ],
            false => vec![("weights, in f32: they are the optimizer's masters".to_owned(), set + rotary)],
        };
        // The model without adapters is the policy as it starts.
        if settings.loss.kl != 0.0 && !(is_lora && settings.reference.is_empty()) {
            held.push((format!("reference (loss.kl is {})", settings.loss.kl), set));
        }
        held.push(("optimizer: two moments".to_owned(), 2 * trained));
        held.push((
            if lanes == 1 { "gradients".to_owned() } else { format!("gradients: a set for each of {lanes} lanes") },
            lanes as u64 * gradients,
        ));
        held.push(("program and tokenizer".to_owned(), PROGRAM_BYTES + (work.vocabulary * VOCABULARY_BYTES) as u64));

        let responses = settings.rollout.groups * settings.rollout.group_size;
        let samples = Phase { name: "", parts: vec![("responses", (responses * settings.rollout.max_new * RESPONSE_TOKEN_BYTES) as u64)] };
        let mut phases = Vec::new();
        if settings.rollout.replay.is_empty() {
            let rollout = engine("rollouts", config, &settings.rollout.engine, lanes, &rollout_load(settings, work));
            phases.push(rollout.context("rollouts do not fit")?.with(&samples));
        }
        let (update, micro_batch_rows, recompute) = update(config, settings, work, lanes);
        phases.push(update.with(&samples));
        let passes = work.evaluations.iter().map(|load| engine("evaluation", config, &settings.rollout.engine, lanes, load));
        let passes = passes.collect::<Result<Vec<_>>>().context("the evaluation does not fit")?;
        phases.extend(passes.into_iter().max_by_key(Phase::bytes));
        let mut checkpoint = vec![("pieces of tensors", export::buffer_bytes(settings.checkpoint.format().dtype))];
        checkpoint.extend(is_lora.then(|| ("adapters, transposed and as a file", 2 * trained)));
        phases.push(Phase { name: "checkpoint", parts: checkpoint });
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

fn engine(name: &'static str, config: &ModelConfig, settings: &EngineSettings, lanes: usize, load: &Load) -> Result<Phase> {
    let bytes = settings.bytes(config, lanes, load)?;
    let parts = [("key/value cache", bytes.cache), ("a pass", bytes.pass), ("logits", bytes.logits)];
    Ok(Phase { name, parts: parts.map(|(name, bytes)| (name, bytes as u64)).into() })
}

/// The update, with the rows of its largest micro-batch.
fn update(config: &ModelConfig, settings: &RunSettings, work: &Work, lanes: usize) -> (Phase, usize, Recompute) {
    let responses = settings.rollout.groups * settings.rollout.group_size / settings.train.updates_per_rollout;
    let count = micro_batch_count(&settings.train, lanes, responses, responses * settings.rollout.max_new);
    let in_one = responses.div_ceil(count);
    // Responses to one prompt are dealt in turn, the prompt once in each micro-batch; those to several are cut within the budget, but for a
    // response that exceeds it by itself.
    let longest = work.prompts.iter().max().copied().unwrap_or(0);
    let dealt = in_one * settings.rollout.max_new.saturating_sub(1) + longest;
    let alone = longest + settings.rollout.max_new.saturating_sub(1);
    let rows = if work.prompts.len() > 1 { settings.train.micro_batch_tokens.max(alone) } else { dealt };
    let recompute = recompute(config, &settings.train, lanes);
    let stream = 2 * config.hidden * size_of::<f32>();
    let scratch = (rows * block::backward_bytes(config)).max(head::sweep_bytes(config));
    let all = |bytes: usize| (lanes.min(count) * bytes) as u64;
    let kept = all(rows * (kept_bytes(config, recompute) + stream));
    // The reference's pass, and the one for old log-probabilities, keep nothing and come before.
    let before = all(rows * block::pass_bytes(config) + head::sweep_bytes(config));
    let scratch = all(scratch).max(before.saturating_sub(kept));
    (
        Phase { name: "update", parts: vec![("kept activations", kept), ("a block's backward pass, or the head's chunk", scratch)] },
        rows,
        recompute,
    )
}
