//! What a run needs to go on as if it had not stopped: the optimizer's moments and step, and the weights where the export rounds them.

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{stream_file, write_file};
use crate::model::folder::{self, WeightDtype};
use crate::model::lora::{Adapters, peft};
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

/// What is trained, and with that the names and the layout of its tensors in a file.
pub enum Trained<'a> {
    /// All weights of a model of this shape.
    Weights(&'a ModelConfig),
    /// Adapters.
    Adapters(&'a Adapters),
}

impl Trained<'_> {
    /// Writes tensors that belong to the parameters, in their order, f32.
    pub fn write<'a>(&self, path: &Path, tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<()> {
        stream_file(path, |out| match self {
            Self::Weights(config) => {
                let tensors: Vec<Tensor> = tensors.into_iter().cloned().collect();
                export::to_writer(out, &Weights::of(config, &tensors)?, config, WeightDtype::F32)
            }
            Self::Adapters(adapters) => peft::to_writer(out, adapters, tensors),
        })
    }

    /// Reads what was written, checked for names and shapes.
    fn read(&self, path: &Path) -> Result<Vec<Tensor>> {
        match self {
            Self::Weights(config) => Ok(folder::load_file(path, config)?.entries().into_iter().map(|(_, tensor)| tensor.clone()).collect()),
            Self::Adapters(adapters) => peft::load(path, adapters),
        }
    }
}

/// Takes over values, in place, on whatever device and in whatever dtype the targets are.
fn set<'a>(targets: impl IntoIterator<Item = &'a Tensor>, values: &[Tensor]) -> Result<()> {
    let set = |(target, value): (&Tensor, &Tensor)| target.slice_set(&value.to_device(target.device())?.to_dtype(target.dtype())?, 0, 0);
    Ok(targets.into_iter().zip(values).try_for_each(set)?)
}

/// Writes the state into an existing folder; the parameters in f32 where the export beside it does not hold them to the bit.
pub fn save(folder: &Path, progress: &Progress, optimizer: &AdamW, trained: &Trained, parameters: Option<&[&Tensor]>) -> Result<()> {
    trained.write(&folder.join("first_moments.safetensors"), &optimizer.first)?;
    trained.write(&folder.join("second_moments.safetensors"), &optimizer.second)?;
    parameters.map(|parameters| trained.write(&folder.join("weights.safetensors"), parameters.iter().copied())).transpose()?;
    write_file(&folder.join("progress.json"), serde_json::to_string_pretty(progress)?.as_bytes())
}

/// Restores optimizer and parameters in place.
pub fn load(folder: &Path, optimizer: &mut AdamW, trained: &Trained, parameters: &[(String, &Tensor)]) -> Result<Progress> {
    let path = folder.join("progress.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let progress: Progress = serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display()))?;
    set(&optimizer.first, &trained.read(&folder.join("first_moments.safetensors"))?)?;
    set(&optimizer.second, &trained.read(&folder.join("second_moments.safetensors"))?)?;
    let masters = folder.join("weights.safetensors");
    if masters.exists() {
        let masters = trained.read(&masters)?;
        set(parameters.iter().map(|(_, tensor)| *tensor), &masters)?;
        set(optimizer.masters(parameters), &masters)?;
    }
    optimizer.count = progress.updates;
    Ok(progress)
}
