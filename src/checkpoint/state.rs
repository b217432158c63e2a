//! Saves and loads the state from which a run resumes bit-identically: the optimizer's moments and step count, and the exact parameters if
//! the exported model rounds them.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{moments, stream_file, write_file};
use crate::kernels::{Kernels, Moments};
use crate::model::export::WeightDtype;
use crate::model::lora::{Adapters, peft};
use crate::model::tensor_file::Source;
use crate::model::{ModelConfig, export, import};
use crate::optim::{AdamW, MomentDtype, Part};
use crate::output;

/// The progress of a run when its state was saved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Number of completed training steps.
    pub step: u64,
    /// Number of completed optimizer steps.
    pub updates: u64,
    /// Total time of these steps, in seconds.
    pub elapsed_s: f64,
    /// True if the state contains the exact parameters, because the exported model rounds them. `None` in states of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_weights: Option<bool>,
}

impl Progress {
    /// Reads the progress from a state folder.
    ///
    /// # Errors
    /// If the file is missing or corrupt.
    pub fn read(state: &Path) -> Result<Self> {
        let path = state.join(PROGRESS_FILE);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is corrupt", path.display()))
    }
}

/// The file with [`Progress`].
const PROGRESS_FILE: &str = "progress.json";

/// The files with first and second moments in f32, with the names and layout of a Hugging Face checkpoint.
const F32_MOMENTS: [&str; 2] = ["first_moments.safetensors", "second_moments.safetensors"];
/// The file with quantized moments, in the format of `moments`.
const QUANTIZED_MOMENTS: &str = "moments_8bit.safetensors";
/// The file with the exact parameters in f32.
pub const WEIGHTS: &str = "weights.safetensors";

/// The kind of trained parameters, which determines the names and layout of tensors in a file.
pub enum TrainedParameters<'a> {
    /// All weights of a model with this configuration.
    Weights(&'a ModelConfig),
    /// LoRA adapters.
    Adapters(&'a Adapters),
}

impl TrainedParameters<'_> {
    /// Writes one f32 tensor per parameter. `source` returns a tensor by the index of its parameter, with the parameter's shape.
    ///
    /// # Errors
    /// If the file cannot be written, `source` fails, or the device fails.
    pub fn write(&self, path: &Path, source: &mut Source) -> Result<()> {
        stream_file(path, |out| match self {
            Self::Weights(config) => export::tensors_to_writer(out, config, WeightDtype::F32, source),
            Self::Adapters(adapters) => peft::to_writer(out, adapters, source),
        })
    }

    /// Reads a file from `write` and checks names and shapes. Returns one tensor per parameter, in order.
    fn read(&self, path: &Path, shown: &output::Progress) -> Result<Vec<Tensor>> {
        match self {
            Self::Weights(config) => {
                let weights = import::load_file(path, config, shown)?;
                Ok(weights.entries().into_iter().map(|(_, tensor)| tensor.clone()).collect())
            }
            Self::Adapters(adapters) => peft::load(path, adapters),
        }
    }
}

/// Writes the state into an existing folder. Includes the parameters in f32 if `exact` is true (because the exported model rounds them) or
/// if the optimizer has master weights. For frozen parameters, f32 files have zero moments and quantized files have none. Rank 0 calls it,
/// and the others [`AdamW::send_states`].
///
/// # Errors
/// If a file cannot be written, the device fails, or another rank does not send its states.
pub fn save(
    folder: &Path,
    progress: &Progress,
    optimizer: &AdamW,
    trained: &TrainedParameters,
    parameters: &[(String, &Tensor)],
    exact: bool,
) -> Result<()> {
    let states = optimizer.all_states(parameters);
    match optimizer.settings.states {
        MomentDtype::F32 => {
            for (name, part) in F32_MOMENTS.iter().zip([Part::First, Part::Second]) {
                trained.write(&folder.join(name), &mut |number| {
                    let (name, tensor) = &parameters[number];
                    states.read(name, part)?.map_or_else(|| Ok(tensor.zeros_like()?), Ok)
                })?;
            }
        }
        MomentDtype::Quantized => stream_file(&folder.join(QUANTIZED_MOMENTS), |out| moments::to_writer(out, &states))?,
    }
    let exact = exact || states.have_masters()?;
    if exact {
        trained.write(&folder.join(WEIGHTS), &mut |number| {
            let (name, tensor) = &parameters[number];
            Ok(states.read(name, Part::Master)?.unwrap_or_else(|| (*tensor).clone()))
        })?;
    }
    states.end()?;
    let progress = Progress { exact_weights: Some(exact), ..*progress };
    write_file(&folder.join(PROGRESS_FILE), serde_json::to_string_pretty(&progress)?.as_bytes())
}

fn has_masters(optimizer: &AdamW) -> bool {
    optimizer.states.iter().any(|state| state.master.is_some())
}

/// Restores the optimizer and the parameters in place, and returns the progress. Skips the moments of parameters that are frozen now;
/// parameters that were frozen when the state was saved get zero moments. `exact` is true if the exported model rounds the parameters; it
/// only matters for older states, which do not record it. Counts the bytes of each file in `shown`, as parts of the work in progress.
///
/// # Errors
/// If the state was saved with another `optim.states`, or a file is missing or corrupt.
pub fn load(
    folder: &Path,
    kernels: &dyn Kernels,
    optimizer: &mut AdamW,
    trained: &TrainedParameters,
    parameters: &[(String, &Tensor)],
    exact: bool,
    shown: &output::Progress,
) -> Result<Progress> {
    let progress = Progress::read(folder)?;
    let weights = folder.join(WEIGHTS);
    let needs_weights = progress.exact_weights.unwrap_or(exact || has_masters(optimizer));
    ensure!(
        !needs_weights || weights.exists(),
        "{} is missing, and the exported model is rounded: restore the file, or resume from another checkpoint",
        weights.display()
    );
    let (expected, other, name) = match optimizer.settings.states {
        MomentDtype::F32 => (F32_MOMENTS[0], QUANTIZED_MOMENTS, "8bit"),
        MomentDtype::Quantized => (QUANTIZED_MOMENTS, F32_MOMENTS[0], "f32"),
    };
    if !folder.join(expected).exists() && folder.join(other).exists() {
        bail!(
            "{} was saved with optim.states = \"{name}\", but the settings differ: set optim.states = \"{name}\" in the run's config.toml",
            folder.display()
        );
    }
    match optimizer.settings.states {
        MomentDtype::F32 => {
            for (which, name) in F32_MOMENTS.iter().enumerate() {
                for ((name, _), value) in parameters.iter().zip(trained.read(&folder.join(name), shown)?) {
                    if let Some(Moments::Full { first, second }) = optimizer.state(name).map(|state| &state.moments) {
                        kernels.set([first, second][which], &value)?;
                    }
                }
            }
        }
        MomentDtype::Quantized => moments::load(&folder.join(QUANTIZED_MOMENTS), kernels, optimizer, shown)?,
    }
    if weights.exists() {
        let values = trained.read(&weights, shown)?;
        for ((_, target), value) in parameters.iter().zip(&values) {
            kernels.set(target, value)?;
        }
        let named: Vec<(String, &Tensor)> = parameters.iter().map(|(name, _)| name.clone()).zip(&values).collect();
        optimizer.set_masters(kernels, &named)?;
    }
    optimizer.count = progress.updates;
    Ok(progress)
}

#[cfg(test)]
mod tests;
