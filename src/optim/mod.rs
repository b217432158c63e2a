//! AdamW with f32 master weights, gradient clipping by global norm, and learning-rate schedules. Works on named tensors and their
//! gradients; knows nothing about the model that they belong to.

mod owners;
mod states;
mod transfer;

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Shape, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::range::{Range, Row, above, at_least, from_below, row, whole};
use crate::dist::World;
use crate::kernels::{Kernels, Moments, Parameter, Quantized, Step};

/// The optimizer's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimSettings {
    /// Peak learning rate, reached at the end of warm-up.
    pub lr: f64,
    /// Number of updates over which the learning rate rises linearly from 0.
    pub warmup_steps: u64,
    /// The learning-rate schedule after warm-up.
    pub schedule: Schedule,
    /// Number of final updates over which the schedule decays, after a constant rate; 0 decays over all updates after warm-up.
    pub decay_steps: u64,
    /// Decay rate of the first moment.
    pub beta1: f64,
    /// Decay rate of the second moment.
    pub beta2: f64,
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, per unit of learning rate.
    pub weight_decay: f64,
    /// Maximum global gradient norm; 0 turns clipping off.
    pub clip_norm: f64,
    /// The format of the two moments.
    pub states: MomentDtype,
    /// Frozen parameters: full names, or prefixes that end before a dot, such as `layers.0`.
    pub freeze: Vec<String>,
}

impl Default for OptimSettings {
    /// The settings of the published run.
    fn default() -> Self {
        Self {
            lr: 1e-6,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            decay_steps: 0,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            clip_norm: 1.0,
            states: MomentDtype::F32,
            freeze: Vec::new(),
        }
    }
}

/// The valid range, unit, meaning and reason of each setting, by its full name in the training settings.
#[rustfmt::skip] // a row is two lines
pub const ROWS: [Row; 11] = [
    row("optim.lr", at_least(0.0), "Learning rate after warm-up.")
        .because("As published. The embedded model is about 7,000 times smaller than the paper's and needs a higher rate; pre-training needs a still higher one."),
    row("optim.warmup_steps", whole(0, 1_000_000_000), "Updates over which the learning rate rises linearly from 0.").in_unit("updates")
        .because("As published: none. Pre-training starts from random weights and warms up."),
    row("optim.schedule", Range::OneOf(&["constant", "linear", "cosine"]), "Learning-rate schedule after warm-up.")
        .because("As published: constant. The demonstration and pre-training decay, so that the last weights move little."),
    row("optim.decay_steps", whole(0, 1_000_000_000), "Number of final updates over which the schedule decays; 0 decays over all updates after warm-up.").in_unit("updates")
        .because("No effect with a constant rate. The demonstration is constant for two thirds of its steps."),
    row("optim.beta1", from_below(0.0, 1.0), "Decay rate of the first moment.")
        .because("As published."),
    row("optim.beta2", from_below(0.0, 1.0), "Decay rate of the second moment.")
        .because("As published. Trials with models like the embedded one gained more after saturation with 0.95 than with 0.999."),
    row("optim.eps", above(0.0), "Added to the square root of the second moment.")
        .because("As published."),
    row("optim.weight_decay", at_least(0.0), "Decoupled weight decay.")
        .because("As published; at a learning rate of 1e-6 it is below the rounding of most weights. The demonstration trains without it."),
    row("optim.clip_norm", at_least(0.0), "Maximum global gradient norm; 0 turns clipping off.")
        .because("As published."),
    row("optim.states", Range::OneOf(&["f32", "8bit"]), "Precision of the two moments: f32, or quantized to 8 bits.")
        .because("As published. `8bit` saves about 6 of 8 bytes per parameter and rounds the moments."),
    row("optim.freeze", Range::Strings, "Parameters to freeze, by full name or by prefix, such as `layers.0.qkv`.")
        .because("As published: all parameters are trained."),
];

/// The learning-rate schedule after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// The peak learning rate throughout.
    Constant,
    /// Decays linearly and would reach 0 one update after the last.
    Linear,
    /// Decays along half a cosine and would reach 0 one update after the last.
    Cosine,
}

/// The format of the two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MomentDtype {
    /// f32: 8 bytes per parameter for both moments.
    #[serde(rename = "f32")]
    F32,
    /// 8 bits: about 2 bytes per parameter for both moments, with one scale per 256 elements (Dettmers et al. 2021, arXiv 2110.02861).
    ///
    /// Tensors with fewer than 4096 elements (norms, biases) stay in f32, as is common practice: they cost little memory and scale large
    /// activations. Embeddings are quantized, although common practice leaves them in f32 when training from scratch: f32 would cost a
    /// seventh of the savings. If the model's width is a multiple of 256, each block of an embedding is within one row, so rare tokens do
    /// not share a scale with frequent ones.
    #[serde(rename = "8bit")]
    Quantized,
}

/// Tensors with fewer elements than this keep moments in f32.
const MIN_QUANTIZED_ELEMENTS: usize = 4096;

impl MomentDtype {
    fn quantizes(self, elements: usize) -> bool {
        self == Self::Quantized && elements >= MIN_QUANTIZED_ELEMENTS
    }

    fn zeros(self, shape: &Shape, device: &Device) -> Result<Moments> {
        let elements = shape.elem_count();
        Ok(if self.quantizes(elements) {
            Moments::Quantized { first: Quantized::zeros(elements, device)?, second: Quantized::zeros(elements, device)? }
        } else {
            Moments::Full { first: Tensor::zeros(shape, DType::F32, device)?, second: Tensor::zeros(shape, DType::F32, device)? }
        })
    }

    /// Returns the size of both moments of a parameter with `elements` elements, in bytes.
    pub fn bytes(self, elements: usize) -> u64 {
        2 * if self.quantizes(elements) { Quantized::bytes(elements) } else { (elements * size_of::<f32>()) as u64 }
    }
}

impl OptimSettings {
    /// Returns the learning rate of update `step` (from 1) out of `total`.
    pub fn learning_rate(&self, step: u64, total: u64) -> f64 {
        if step <= self.warmup_steps {
            return self.lr * step as f64 / self.warmup_steps as f64;
        }
        let after_warmup = total.saturating_sub(self.warmup_steps);
        let decay_steps = if self.decay_steps == 0 { after_warmup } else { self.decay_steps.min(after_warmup) };
        let left = ((total.saturating_sub(step) + 1) as f64 / decay_steps.max(1) as f64).min(1.0);
        match self.schedule {
            Schedule::Constant => self.lr,
            Schedule::Linear => self.lr * left,
            Schedule::Cosine => self.lr * 0.5 * (1.0 - (std::f64::consts::PI * left).cos()),
        }
    }

    /// Returns true if the parameter is frozen.
    pub fn is_frozen(&self, name: &str) -> bool {
        self.freeze.iter().any(|pattern| matches(name, pattern))
    }

    /// Returns the size of the moments of all trained parameters, in bytes, from the names and shapes of all parameters.
    pub fn moment_bytes(&self, parameters: &[(String, Shape)]) -> u64 {
        let trained = parameters.iter().filter(|(name, _)| !self.is_frozen(name));
        trained.map(|(_, shape)| self.states.bytes(shape.elem_count())).sum()
    }

    /// Returns what each of `ranks` ranks owns of the trained parameters, from the names and shapes of all parameters.
    pub fn owned(&self, parameters: &[(String, Shape)], ranks: usize) -> Vec<Owned> {
        let elements: Vec<usize> =
            parameters.iter().filter(|(name, _)| !self.is_frozen(name)).map(|(_, shape)| shape.elem_count()).collect();
        let mut owned = vec![Owned::default(); ranks];
        for (owner, elements) in owners::assign(elements.clone(), ranks).into_iter().zip(elements) {
            owned[owner].elements += elements as u64;
            owned[owner].moment_bytes += self.states.bytes(elements);
        }
        owned
    }
}

/// What a rank owns of the trained parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    /// The number of elements of its tensors.
    pub elements: u64,
    /// The size of both moments of its tensors, in bytes.
    pub moment_bytes: u64,
}

/// Returns true if `pattern` is `name`, or a prefix of it that ends before a dot.
fn matches(name: &str, pattern: &str) -> bool {
    name.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// An update was skipped because its gradient or loss is not finite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFinite {
    /// The quantity that is not finite, such as "the gradient of layers.0.qkv".
    pub what: String,
}

impl std::fmt::Display for NotFinite {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(out, "{} is not finite; the weights are unchanged", self.what)
    }
}

impl std::error::Error for NotFinite {}

/// AdamW (Loshchilov and Hutter 2019) for a list of named tensors. In a run of several ranks, each rank holds the states of some of the
/// tensors and updates these ([`Owners`]).
#[derive(Clone, Debug)]
pub struct AdamW {
    /// The settings, including the names of frozen parameters.
    pub settings: OptimSettings,
    /// The state of each trained parameter that this rank owns, in the order of the parameters. Frozen parameters have none.
    pub states: Vec<ParameterState>,
    /// Number of updates applied, across restarts.
    pub count: u64,
    /// The ranks that own the trained parameters.
    owners: Owners,
}

impl AdamW {
    /// Creates an optimizer for `parameters` on the device of `kernels`, whose states are divided among the ranks of `world`. All moments
    /// start at 0.
    ///
    /// # Errors
    /// If a name in `freeze` matches no parameter, or the device fails.
    pub fn new(settings: OptimSettings, kernels: &dyn Kernels, parameters: &[(String, &Tensor)], world: &World) -> Result<Self> {
        let names = || parameters.iter().map(|(name, _)| name.as_str());
        if let Some(pattern) = settings.freeze.iter().find(|pattern| !names().any(|name| matches(name, pattern))) {
            bail!(
                "optim.freeze: unknown parameter \"{pattern}\"; expected one of {}, or a prefix that ends before a dot",
                names().collect::<Vec<_>>().join(", ")
            );
        }
        let state = |(name, tensor): &(String, &Tensor)| {
            let is_f32 = tensor.dtype() == DType::F32;
            Ok(ParameterState {
                name: name.clone(),
                master: (!is_f32).then(|| kernels.cast(tensor, DType::F32)).transpose()?,
                moments: settings.states.zeros(tensor.shape(), kernels.device())?,
            })
        };
        let trained = parameters.iter().filter(|(name, _)| !settings.is_frozen(name));
        let owners = Owners::new(world, trained.clone().map(|(name, tensor)| (name.clone(), tensor.elem_count())).collect());
        let states = trained.filter(|(name, _)| owners.owns(name)).map(state).collect::<Result<_>>()?;
        Ok(Self { settings, states, count: 0, owners })
    }

    /// Returns the state of a parameter; `None` if it is frozen or unknown, or another rank owns it.
    pub fn state(&self, name: &str) -> Option<&ParameterState> {
        self.states.iter().find(|state| state.name == name)
    }

    /// Copies `values` into the master weights by name. Skips parameters without a master weight.
    ///
    /// # Errors
    /// If a value is missing or has another shape than its master weight, or the device fails.
    pub fn set_masters(&self, kernels: &dyn Kernels, values: &[(String, &Tensor)]) -> Result<()> {
        let values = by_name(values);
        self.states.iter().filter_map(|state| Some((&state.name, state.master.as_ref()?))).try_for_each(|(name, master)| {
            let value = find(&values, name, "value")?;
            ensure!(master.dims() == value.dims(), "{name} has shape {:?}, expected {:?}", value.dims(), master.dims());
            Ok(kernels.set(master, value)?)
        })
    }

    /// Updates `parameters` in place from `gradients` (f32), with learning rate `lr`, matching them by name. Returns the global norm of the
    /// gradient before clipping, without frozen parameters.
    ///
    /// With several ranks, `gradients` has this rank's part of the sum. Afterwards, the tensors that this rank owns have the whole sum, others
    /// a part of it, and `parameters` are the same on all ranks.
    ///
    /// # Errors
    /// If a gradient is not finite ([`NotFinite`]), or a weight or gradient is missing; in these cases nothing has changed. Also if the
    /// device fails.
    pub fn step(
        &mut self,
        kernels: &dyn Kernels,
        parameters: &[(String, &Tensor)],
        gradients: &[(String, &Tensor)],
        lr: f64,
    ) -> Result<f64> {
        let settings = &self.settings;
        let (weights, gradients) = (by_name(parameters), by_name(gradients));
        let pair = |state: &ParameterState| Ok((find(&weights, &state.name, "weight")?, find(&gradients, &state.name, "gradient")?));
        let pairs = self.states.iter().map(pair).collect::<Result<Vec<_>>>()?;
        self.owners.add_over_ranks(kernels, &gradients)?;
        let squares = pairs.iter().map(|(_, gradient)| kernels.sum_of_squares(gradient)).collect::<candle_core::Result<Vec<_>>>()?;
        let mut total = 0.0;
        for (name, squares) in self.owners.collect(squares)? {
            if !squares.is_finite() {
                return Err(NotFinite { what: format!("the gradient of {name}") }.into());
            }
            total += squares;
        }
        let norm = total.sqrt();
        // PyTorch's clip_grad_norm_ adds 1e-6 to the norm.
        let scale = if settings.clip_norm > 0.0 { (settings.clip_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
        self.count += 1;
        let step = Step {
            lr: lr as f32,
            beta1: settings.beta1,
            beta2: settings.beta2,
            eps: settings.eps as f32,
            weight_decay: settings.weight_decay as f32,
            gradient_scale: scale as f32,
            count: self.count,
        };
        for (ParameterState { master, moments, .. }, (weight, gradient)) in self.states.iter().zip(&pairs) {
            kernels.adamw_in_place(&Parameter { weight, master: master.as_ref(), moments, gradient }, &step)?;
        }
        self.owners.spread(kernels, &weights)?;
        Ok(norm)
    }
}

fn by_name<'a>(tensors: &'a [(String, &'a Tensor)]) -> HashMap<&'a str, &'a Tensor> {
    tensors.iter().map(|(name, tensor)| (name.as_str(), *tensor)).collect()
}

fn find<'a>(tensors: &HashMap<&str, &'a Tensor>, name: &str, kind: &str) -> Result<&'a Tensor> {
    tensors.get(name).copied().with_context(|| format!("{name} has no {kind}"))
}

pub use owners::Owners;
pub use states::{AllStates, ParameterState, Part};
pub use transfer::exchange_bytes;

#[cfg(test)]
mod tests;
