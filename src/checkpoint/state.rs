//! What a run needs to go on as if it had not stopped: the optimizer's moments and step, and the weights where the export rounds them.

use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{moments, stream_file, write_file};
use crate::kernels::Moments;
use crate::model::folder::{self, WeightDtype};
use crate::model::{ModelConfig, Weights, export};
use crate::optim::{AdamW, States};

/// Where the run was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Optimizer steps done.
    pub updates: u64,
    /// Seconds that the steps took.
    pub elapsed_s: f64,
}

/// Moments in f32, of a whole model, under Hugging Face's names.
const FULL: [&str; 2] = ["first_moments.safetensors", "second_moments.safetensors"];
/// Moments in 8 bits, as `moments` has them.
const CODED: &str = "moments_8bit.safetensors";
/// Weights to the bit.
const WEIGHTS: &str = "weights.safetensors";

/// Writes the state into an existing folder: of a model whose weights are `weights`, all of which the optimizer knows. `rounds` says that
/// the export beside it does not hold them to the bit. Moments of frozen parameters are written as zeros where a file has Hugging Face's
/// layout, and not at all in 8 bits.
pub fn save(folder: &Path, progress: &Progress, optimizer: &AdamW, weights: &Weights, rounds: bool, config: &ModelConfig) -> Result<()> {
    let entries = weights.entries();
    let write = |name: &str, tensors: &[Option<&Tensor>]| {
        stream_file(&folder.join(name), |out| export::tensors_to_writer(out, tensors, config, WeightDtype::F32))
    };
    match optimizer.settings.states {
        States::F32 => {
            let moments = entries.iter().map(|(name, _)| match optimizer.state(name).map(|state| &state.moments) {
                Some(Moments::Full { first, second }) => [Some(first), Some(second)],
                _ => [None; 2],
            });
            let (first, second): (Vec<_>, Vec<_>) = moments.map(|[first, second]| (first, second)).unzip();
            FULL.iter().zip([first, second]).try_for_each(|(name, tensors)| write(name, &tensors))?;
        }
        States::Coded => stream_file(&folder.join(CODED), |out| moments::to_writer(out, optimizer))?,
    }
    if rounds || optimizer.states.iter().any(|state| state.master.is_some()) {
        let exact = entries.iter().map(|(name, weight)| {
            let master = optimizer.state(name).and_then(|state| state.master.as_ref());
            Some(master.unwrap_or(weight))
        });
        write(WEIGHTS, &exact.collect::<Vec<_>>())?;
    }
    write_file(&folder.join("progress.json"), serde_json::to_string_pretty(progress)?.as_bytes())
}

/// Restores optimizer and weights in place. What the state has of a parameter that is frozen now is left alone; one that was frozen then
/// has zero moments.
///
/// # Errors
/// When the state was saved with another `optim.states`, or a file is broken.
pub fn load(folder: &Path, optimizer: &mut AdamW, weights: &Weights, config: &ModelConfig) -> Result<Progress> {
    let path = folder.join("progress.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let progress: Progress = serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display()))?;
    let (expected, other, name) = match optimizer.settings.states {
        States::F32 => (FULL[0], CODED, "8bit"),
        States::Coded => (CODED, FULL[0], "f32"),
    };
    if !folder.join(expected).exists() && folder.join(other).exists() {
        bail!(
            "{} was saved with optim.states = \"{name}\", the settings say otherwise: set it so in the run's config.toml",
            folder.display()
        );
    }
    match optimizer.settings.states {
        States::F32 => FULL.iter().enumerate().try_for_each(|(which, name)| restore_full(&folder.join(name), optimizer, which, config))?,
        States::Coded => moments::load(&folder.join(CODED), optimizer)?,
    }
    let exact = folder.join(WEIGHTS);
    if exact.exists() {
        let values = folder::load_file(&exact, config)?;
        weights.set(&values).with_context(|| format!("cannot use {}", exact.display()))?;
        optimizer.set_masters(&values.entries())?;
    }
    optimizer.count = progress.updates;
    Ok(progress)
}

/// Restores the first moments, or the second ones.
fn restore_full(path: &Path, optimizer: &AdamW, which: usize, config: &ModelConfig) -> Result<()> {
    let values = folder::load_file(path, config)?;
    for (name, value) in values.entries() {
        if let Some(Moments::Full { first, second }) = optimizer.state(&name).map(|state| &state.moments) {
            [first, second][which].slice_set(&value.to_device(first.device())?, 0, 0)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
