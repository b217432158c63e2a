//! Disk: what a run leaves in its folder.

use super::Work;
use crate::kernels::Target;
use crate::model::{ModelConfig, Weights, lora, value};
use crate::optim::{OptimSettings, States};
use crate::train::settings::{ExportDtype, RunSettings};

/// A response token in a recorded step, compressed: its text, and in evaluated steps its id and log-probability.
const TEXT_BYTES: f64 = 1.5;
const TOKEN_BYTES: f64 = 11.0;

/// Bytes in the run's folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    /// Checkpoints, all of which keep their weights.
    pub checkpoints: u64,
    /// Weights of one.
    pub weights: u64,
    /// State of one that can be resumed.
    pub state: u64,
    /// States that there are at once: one more than are kept, while the newest is written.
    pub states: u64,
    /// The best checkpoint, with its successor while that is written.
    pub best: u64,
    /// Recorded responses, about, when all are as long as they may be.
    pub rollouts: u64,
}

impl Disk {
    /// Adds it up.
    pub fn of(config: &ModelConfig, settings: &RunSettings, work: &Work, target: &Target) -> Self {
        let checkpoint = &settings.checkpoint;
        let (set, adapters) = (Weights::bytes(config), lora::bytes(config, settings.lora.rank));
        let weights = (config.parameters() * checkpoint.format(target).dtype.size()) as u64 + adapters;
        let (parameters, is_exact) = if settings.lora.is_on() { (adapters, false) } else { (set, !checkpoint.rounds(target)) };
        // In f32 the files hold zeros for frozen parameters.
        let moments = match settings.optim.states {
            States::F32 => 2 * parameters,
            States::Coded => settings.optim.moment_bytes(&settings.lora.trained(config)),
        };
        let reference = if settings.reference_moves() { set } else { 0 };
        let critic = if settings.has_critic() {
            let moments = OptimSettings { freeze: Vec::new(), ..settings.optim.clone() }.moment_bytes(&value::shapes(config));
            (value::parameters(config) * size_of::<f32>()) as u64 + moments
        } else {
            0
        };
        let state = moments + reference + if is_exact { 0 } else { parameters } + critic;
        let steps = settings.train.steps.saturating_sub(work.done);
        let checkpoints = if checkpoint.every == 0 { 1 } else { steps.div_ceil(checkpoint.every).max(1) };
        let tokens = (settings.rollout.groups * settings.rollout.group_size * settings.rollout.max_new) as f64;
        let with_ids = steps.checked_div(settings.eval.every).unwrap_or(0);
        Self {
            checkpoints,
            weights,
            state,
            states: checkpoints.min(checkpoint.keep_last as u64 + 1),
            best: if work.evaluations.is_empty() { 0 } else { 2 * weights },
            rollouts: (tokens * (steps as f64 * TEXT_BYTES + with_ids as f64 * TOKEN_BYTES)) as u64,
        }
    }

    /// The most that there is at once.
    pub fn total(&self) -> u64 {
        self.checkpoints * self.weights + self.states * self.state + self.best + self.rollouts
    }

    /// What to set so that checkpoints fit into `free` bytes, if that can be.
    pub fn advice(&self, settings: &RunSettings, free: u64) -> Option<String> {
        let rest = self.total() - self.checkpoints * self.weights;
        let fitting = free.checked_sub(rest)? / self.weights.max(1);
        if fitting == 0 {
            return None;
        }
        let every = settings.train.steps.div_ceil(fitting);
        let smaller =
            if settings.checkpoint.dtype == ExportDtype::Auto { ", or fewer of half the size with --export-dtype bf16" } else { "" };
        Some(format!("--set checkpoint.every={every} leaves {fitting} checkpoints at most{smaller}"))
    }
}
