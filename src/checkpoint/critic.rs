//! Saves and loads a critic's training state, next to the policy's: f32 weights, moments and the number of updates. No other program loads
//! these files, so their tensors have our names and layout.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::{moments, stream_file, write_file};
use crate::kernels::Kernels;
use crate::model::tensor_file::{self, Entry};
use crate::optim::{AdamW, Part};
use crate::output;

const WEIGHTS: &str = "weights.safetensors";
const MOMENTS: &str = "moments.safetensors";
const PROGRESS: &str = "progress.json";

#[derive(Serialize, Deserialize)]
struct Progress {
    /// Number of completed optimizer steps.
    updates: u64,
}

/// Creates a folder with the critic's state. Writes weights in f32: the master weights if there are any, otherwise the parameters. Rank 0
/// calls it, and the others [`AdamW::send_states`].
///
/// # Errors
/// If the folder exists, a file cannot be written, or another rank does not send its states.
pub fn save(folder: &Path, optimizer: &AdamW, parameters: &[(String, &Tensor)]) -> Result<()> {
    std::fs::create_dir(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let states = optimizer.all_states(parameters);
    let entries: Vec<Entry> = parameters.iter().map(|(name, tensor)| Entry::f32(name.clone(), tensor.dims())).collect();
    let mut weights = |number: usize| {
        let (name, tensor) = &parameters[number];
        Ok(states.read(name, Part::Master)?.unwrap_or_else(|| (*tensor).clone()))
    };
    stream_file(&folder.join(WEIGHTS), |out| tensor_file::write(out, &entries, &[], &mut weights))?;
    stream_file(&folder.join(MOMENTS), |out| moments::to_writer(out, &states))?;
    states.end()?;
    write_file(&folder.join(PROGRESS), serde_json::to_string_pretty(&Progress { updates: optimizer.count })?.as_bytes())
}

/// Restores the optimizer and the parameters in place. Counts the bytes of each file in `shown`, as parts of the work in progress.
///
/// # Errors
/// If a file is missing or corrupt, or its tensors do not match the critic's. The message names the file and the tensor.
pub fn load(
    folder: &Path,
    kernels: &dyn Kernels,
    optimizer: &mut AdamW,
    parameters: &[(String, &Tensor)],
    shown: &output::Progress,
) -> Result<()> {
    let path = folder.join(PROGRESS);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}: was the checkpoint saved without a critic (advantage.baseline)?", path.display()))?;
    let progress: Progress = serde_json::from_str(&text).with_context(|| format!("{} is corrupt", path.display()))?;
    moments::load(&folder.join(MOMENTS), kernels, optimizer, shown)?;
    let path = folder.join(WEIGHTS);
    let restore = || {
        let found = moments::read_tensors(&path, shown)?;
        let value = |(name, target): &(String, &Tensor)| {
            let value = found.get(name).with_context(|| format!("tensor {name} is missing"))?;
            ensure!(value.dims() == target.dims(), "tensor {name} has shape {:?}, expected {:?}", value.dims(), target.dims());
            ensure!(value.dtype() == DType::F32, "tensor {name} has dtype {:?}, expected F32", value.dtype());
            kernels.set(target, value)?;
            Ok((name.clone(), value))
        };
        optimizer.set_masters(kernels, &parameters.iter().map(value).collect::<Result<Vec<_>>>()?)
    };
    restore().with_context(|| format!("cannot use {}", path.display()))?;
    optimizer.count = progress.updates;
    Ok(())
}
