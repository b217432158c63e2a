//! The disk space of a run folder.

use super::RunWorkload;
use crate::kernels::Target;
use crate::model::{ModelConfig, Weights, lora, value};
use crate::optim::{MomentDtype, OptimSettings};
use crate::train::settings::{ExportDtype, RunSettings};

/// Compressed bytes of text per recorded response token.
const TEXT_BYTES: f64 = 1.5;
/// Compressed bytes of the id and the log-probability per response token, which evaluation steps record.
const TOKEN_BYTES: f64 = 11.0;

/// The disk space of a run, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    /// The number of checkpoints; each keeps its weights.
    pub checkpoints: u64,
    /// The bytes of the weights of one checkpoint.
    pub weights: u64,
    /// The bytes of the state of one resumable checkpoint.
    pub state: u64,
    /// The maximum number of states at once: those of `checkpoint.keep_last`, and the one being written.
    pub states: u64,
    /// The bytes of the best checkpoint, and of its successor while it is being written; 0 without evaluation.
    pub best: u64,
    /// The approximate bytes of recorded responses if all have the maximum length.
    pub rollouts: u64,
}

impl Disk {
    /// Adds up the disk space of a run.
    pub fn of(config: &ModelConfig, settings: &RunSettings, work: &RunWorkload, target: &Target) -> Self {
        let checkpoint = &settings.checkpoint;
        let (set, adapters) = (Weights::bytes(config), lora::bytes(config, settings.lora.rank));
        let weights = (config.parameter_count() * checkpoint.format(target).dtype.size()) as u64 + adapters;
        let (parameters, is_exact) = if settings.lora.is_on() { (adapters, false) } else { (set, !checkpoint.rounds(target)) };
        // In f32, the files contain zeros for frozen parameters.
        let moments = match settings.optim.states {
            MomentDtype::F32 => 2 * parameters,
            MomentDtype::Quantized => settings.optim.moment_bytes(&settings.lora.trained(config)),
        };
        let reference = if settings.reference_moves() { set } else { 0 };
        let critic = if settings.has_critic() {
            let moments = OptimSettings { freeze: Vec::new(), ..settings.optim.clone() }.moment_bytes(&value::shapes(config));
            (value::parameter_count(config) * size_of::<f32>()) as u64 + moments
        } else {
            0
        };
        let state = moments + reference + if is_exact { 0 } else { parameters } + critic;
        let steps = settings.train.steps.saturating_sub(work.done);
        let checkpoints = if checkpoint.every == 0 { 1 } else { steps.div_ceil(checkpoint.every).max(1) };
        let tokens = (settings.rollout.groups * settings.rollout.group_size * settings.rollout.max_new_tokens) as f64;
        let token_steps = steps.checked_div(settings.eval.every).unwrap_or(0);
        Self {
            checkpoints,
            weights,
            state,
            states: checkpoints.min(checkpoint.keep_last as u64 + 1),
            best: if work.evaluations.is_empty() { 0 } else { 2 * weights },
            rollouts: (tokens * (steps as f64 * TEXT_BYTES + token_steps as f64 * TOKEN_BYTES)) as u64,
        }
    }

    /// Returns the maximum disk space used at once, in bytes.
    pub fn total(&self) -> u64 {
        self.checkpoints * self.weights + self.states * self.state + self.best + self.rollouts
    }

    /// Suggests settings with which the run fits into `free` bytes; `None` if not even one checkpoint fits.
    pub fn advice(&self, settings: &RunSettings, free: u64) -> Option<String> {
        let rest = self.total() - self.checkpoints * self.weights;
        let fitting = free.checked_sub(rest)? / self.weights.max(1);
        if fitting == 0 {
            return None;
        }
        let every = settings.train.steps.div_ceil(fitting);
        let smaller = if settings.checkpoint.dtype == ExportDtype::Auto { "; --export-dtype bf16 halves their size" } else { "" };
        Some(format!("--set checkpoint.every={every} writes at most {fitting} checkpoints{smaller}"))
    }
}
