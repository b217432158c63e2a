//! What a run needs to go on as if it had not stopped: the optimizer's moments and step, and the weights where the export rounds them.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{stream_file, write_file};
use crate::model::folder::{self, WeightDtype};
use crate::model::{ModelConfig, Weights, export};
use crate::optim::AdamW;

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

/// Writes the state into an existing folder; `weights` where the export beside it does not hold them to the bit.
pub fn save(folder: &Path, progress: &Progress, optimizer: &AdamW, weights: Option<&Weights>, config: &ModelConfig) -> Result<()> {
    let file =
        |name: &str, tensors: &Weights| stream_file(&folder.join(name), |out| export::to_writer(out, tensors, config, WeightDtype::F32));
    file("first_moments.safetensors", &optimizer.first)?;
    file("second_moments.safetensors", &optimizer.second)?;
    weights.map(|weights| file("weights.safetensors", weights)).transpose()?;
    write_file(&folder.join("progress.json"), serde_json::to_string_pretty(progress)?.as_bytes())
}

/// Restores optimizer and weights in place.
pub fn load(folder: &Path, optimizer: &mut AdamW, weights: &Weights, config: &ModelConfig) -> Result<Progress> {
    let path = folder.join("progress.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let progress: Progress = serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display()))?;
    restore(&folder.join("first_moments.safetensors"), &optimizer.first, config)?;
    restore(&folder.join("second_moments.safetensors"), &optimizer.second, config)?;
    let masters = folder.join("weights.safetensors");
    if masters.exists() {
        restore(&masters, weights, config)?;
        optimizer.masters.iter().try_for_each(|into| restore(&masters, into, config))?;
    }
    optimizer.count = progress.updates;
    Ok(progress)
}

fn restore(path: &Path, into: &Weights, config: &ModelConfig) -> Result<()> {
    into.set(&folder::load_file(path, config)?).with_context(|| format!("cannot use {}", path.display()))
}
