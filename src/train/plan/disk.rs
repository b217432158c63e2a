//! The disk space of a run folder.

use super::{Plan, RunWorkload};
use crate::kernels::Target;
use crate::model::{ModelConfig, Weights, lora, value};
use crate::optim::{MomentDtype, OptimSettings};
use crate::train::settings::{CheckpointSettings, ExportDtype, RunSettings};

/// Compressed bytes of text per recorded response token.
const TEXT_BYTES: f64 = 1.5;
/// Compressed bytes of the id and the log-probability per response token, which evaluation steps record.
const TOKEN_BYTES: f64 = 11.0;

/// The disk space of a run, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    /// The maximum number of checkpoints with weights at once.
    pub checkpoints: u64,
    /// The number of checkpoints that the whole run writes.
    pub written: u64,
    /// The bytes of the weights of one checkpoint.
    pub weights: u64,
    /// The bytes of the state of one resumable checkpoint.
    pub state: u64,
    /// The maximum number of states at once: those of `checkpoint.keep_last`, the last good one, and the one being written.
    pub states: u64,
    /// The bytes of the best checkpoint, and of its successor while it is being written; 0 without evaluation.
    pub best: u64,
    /// The approximate bytes of recorded responses of the remaining steps if all have the maximum length.
    pub rollouts: u64,
    /// The bytes of the checkpoints that a resumed run already has.
    pub present: u64,
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
        let tokens = (settings.rollout.groups * settings.rollout.group_size * settings.rollout.max_new_tokens) as f64;
        let token_steps = steps.checked_div(settings.eval.every).unwrap_or(0);
        Self {
            checkpoints: checkpoint.most_at_once(settings.train.steps),
            written: checkpoint.written(settings.train.steps),
            weights,
            state,
            states: checkpoint.written(settings.train.steps).min(checkpoint.most_states()),
            best: if work.evaluations.is_empty() { 0 } else { 2 * weights },
            rollouts: (tokens * (steps as f64 * TEXT_BYTES + token_steps as f64 * TOKEN_BYTES)) as u64,
            present: work.checkpoint_bytes,
        }
    }

    /// Returns the maximum disk space that the run uses at once, in bytes.
    pub fn total(&self) -> u64 {
        self.checkpoints * self.weights + self.states * self.state + self.best + self.rollouts
    }

    /// Returns the free disk space that the run needs, in bytes: the maximum at once, without the checkpoints that a resumed run already
    /// has.
    pub fn needed(&self) -> u64 {
        self.total().saturating_sub(self.present)
    }
}

/// Returns flags with which the run fits into `free` bytes of disk space and trains exactly the same; `None` if there are none. Tries to
/// keep fewer checkpoints first, then fewer states, then smaller weights, and then to write checkpoints less often.
pub fn changes_that_fit(plan: &Plan, free: u64) -> Option<String> {
    let current = &plan.settings.checkpoint;
    let fits = |changed: &CheckpointSettings| {
        let settings = RunSettings { checkpoint: changed.clone(), ..plan.settings.clone() };
        Disk::of(plan.config, &settings, plan.work, &plan.target).needed() <= free
    };
    candidates(current, plan.settings.train.steps, !current.rounds(&plan.target)).into_iter().find(fits).map(|found| flags(current, &found))
}

/// Returns settings that need less disk space, the least harmful first. `is_wide` is true if weights are exported in f32.
fn candidates(current: &CheckpointSettings, steps: u64, is_wide: bool) -> Vec<CheckpointSettings> {
    let fewer = [8, 4, 2, 1].into_iter().filter(|spaced| current.keep_spaced == 0 || *spaced < current.keep_spaced);
    let mut found = vec![current.clone()];
    found.extend(fewer.map(|keep_spaced| CheckpointSettings { keep_spaced, ..current.clone() }));
    found.extend(found.clone().into_iter().map(|settings| CheckpointSettings { keep_last: 1, ..settings }));
    if is_wide && current.dtype == ExportDtype::Auto {
        found.extend(found.clone().into_iter().map(|settings| CheckpointSettings { dtype: ExportDtype::Bf16, ..settings }));
    }
    let rarer = std::iter::successors(Some(current.every), |every| every.checked_mul(2).filter(|every| *every > 0 && *every < 2 * steps));
    let (least, rarer) = (found[found.len() - 1].clone(), rarer.skip(1));
    found.extend(rarer.map(|every| CheckpointSettings { every, ..least.clone() }));
    found
}

/// Formats the flags that change one group of settings into another.
fn flags(before: &CheckpointSettings, after: &CheckpointSettings) -> String {
    let number = |name: &str, before: u64, after: u64| (before != after).then(|| format!("--set checkpoint.{name}={after}"));
    let dtype = (before.dtype != after.dtype).then(|| "--export-dtype bf16".to_owned());
    let numbers = [
        number("every", before.every, after.every),
        number("keep_spaced", before.keep_spaced as u64, after.keep_spaced as u64),
        number("keep_last", before.keep_last as u64, after.keep_last as u64),
    ];
    numbers.into_iter().chain([dtype]).flatten().collect::<Vec<_>>().join(" ")
}
