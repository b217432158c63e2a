//! What a run needs to go on as if it had not stopped: the optimizer's moments and step, and the parameters where the export rounds them.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{moments, stream_file, write_file};
use crate::kernels::{Kernels, Moments};
use crate::model::export::WeightDtype;
use crate::model::lora::{Adapters, peft};
use crate::model::{ModelConfig, export, import};
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
    /// Whether the state holds the parameters themselves, because the export rounds them; older versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact_weights: Option<bool>,
}

impl Progress {
    /// Reads a state's progress.
    ///
    /// # Errors
    /// When the file is not there or broken.
    pub fn read(state: &Path) -> Result<Self> {
        let path = state.join(PROGRESS_FILE);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display()))
    }
}

/// Where the run was.
const PROGRESS_FILE: &str = "progress.json";

/// Moments in f32, under Hugging Face's names.
const FULL: [&str; 2] = ["first_moments.safetensors", "second_moments.safetensors"];
/// Moments in 8 bits, as `moments` has them.
const CODED: &str = "moments_8bit.safetensors";
/// Parameters to the bit.
pub const WEIGHTS: &str = "weights.safetensors";

/// What is trained, and with that the names and the layout of its tensors in a file.
pub enum Trained<'a> {
    /// All weights of a model of this shape.
    Weights(&'a ModelConfig),
    /// Adapters.
    Adapters(&'a Adapters),
}

impl Trained<'_> {
    /// Writes tensors that belong to the parameters, in their order, f32; zeros where there is none.
    pub fn write(&self, path: &Path, tensors: &[Option<&Tensor>]) -> Result<()> {
        stream_file(path, |out| match self {
            Self::Weights(config) => export::tensors_to_writer(out, tensors, config, WeightDtype::F32),
            Self::Adapters(adapters) => {
                let or_zeros = |(tensor, (_, ours)): (&Option<&Tensor>, (String, &Tensor))| match tensor {
                    Some(tensor) => Ok((*tensor).clone()),
                    None => ours.zeros_like(),
                };
                let tensors = tensors.iter().zip(adapters.entries()).map(or_zeros).collect::<candle_core::Result<Vec<_>>>()?;
                peft::to_writer(out, adapters, &tensors)
            }
        })
    }

    /// Reads what was written, checked for names and shapes.
    fn read(&self, path: &Path) -> Result<Vec<Tensor>> {
        match self {
            Self::Weights(config) => Ok(import::load_file(path, config)?.entries().into_iter().map(|(_, tensor)| tensor.clone()).collect()),
            Self::Adapters(adapters) => peft::load(path, adapters),
        }
    }
}

/// Writes the state into an existing folder; with `exact`, the parameters in f32 too, because the export beside it does not hold them to the bit.
/// Moments of frozen parameters are written as zeros where a file has Hugging Face's layout, and not at all in 8 bits.
pub fn save(
    folder: &Path,
    progress: &Progress,
    optimizer: &AdamW,
    trained: &Trained,
    parameters: &[(String, &Tensor)],
    exact: bool,
) -> Result<()> {
    match optimizer.settings.states {
        States::F32 => {
            let moments = parameters.iter().map(|(name, _)| match optimizer.state(name).map(|state| &state.moments) {
                Some(Moments::Full { first, second }) => [Some(first), Some(second)],
                _ => [None; 2],
            });
            let (first, second): (Vec<_>, Vec<_>) = moments.map(|[first, second]| (first, second)).unzip();
            FULL.iter().zip([first, second]).try_for_each(|(name, tensors)| trained.write(&folder.join(name), &tensors))?;
        }
        States::Coded => stream_file(&folder.join(CODED), |out| moments::to_writer(out, optimizer))?,
    }
    let exact = exact || has_masters(optimizer);
    if exact {
        let masters = parameters.iter().map(|(name, tensor)| {
            let master = optimizer.state(name).and_then(|state| state.master.as_ref());
            Some(master.unwrap_or(tensor))
        });
        trained.write(&folder.join(WEIGHTS), &masters.collect::<Vec<_>>())?;
    }
    let progress = Progress { exact_weights: Some(exact), ..*progress };
    write_file(&folder.join(PROGRESS_FILE), serde_json::to_string_pretty(&progress)?.as_bytes())
}

fn has_masters(optimizer: &AdamW) -> bool {
    optimizer.states.iter().any(|state| state.master.is_some())
}

/// Restores optimizer and parameters in place. What the state has of a parameter that is frozen now is left alone; one that was frozen then has
/// zero moments. `exact` says whether the parameters must be in the state, where the state itself does not say.
///
/// # Errors
/// When the state was saved with another `optim.states`, a file is broken, or the parameters are missing.
pub fn load(
    folder: &Path,
    kernels: &dyn Kernels,
    optimizer: &mut AdamW,
    trained: &Trained,
    parameters: &[(String, &Tensor)],
    exact: bool,
) -> Result<Progress> {
    let progress = Progress::read(folder)?;
    let weights = folder.join(WEIGHTS);
    let needs_weights = progress.exact_weights.unwrap_or(exact || has_masters(optimizer));
    ensure!(
        !needs_weights || weights.exists(),
        "{} is missing, and the model beside the state is rounded: the run would not go on from its own weights",
        weights.display()
    );
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
        States::F32 => {
            for (which, name) in FULL.iter().enumerate() {
                for ((name, _), value) in parameters.iter().zip(trained.read(&folder.join(name))?) {
                    if let Some(Moments::Full { first, second }) = optimizer.state(name).map(|state| &state.moments) {
                        kernels.set([first, second][which], &value)?;
                    }
                }
            }
        }
        States::Coded => moments::load(&folder.join(CODED), kernels, optimizer)?,
    }
    if weights.exists() {
        let values = trained.read(&weights)?;
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
