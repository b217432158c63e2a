//! LoRA (Hu et al., arXiv 2106.09685) with merged weights: after each update, every projection is set to `base + scale * a b`, so that
//! sampling and training use one set of weights and know nothing about adapters. Owns the adapters, their frozen base, and their gradients;
//! knows nothing about the optimizer.

use anyhow::{Result, ensure};
use candle_core::{DType, Shape, Tensor};
use serde::{Deserialize, Serialize};

use super::config::ModelConfig;
use super::decoder::{Activations, Decoder};
use super::packed::Packed;
use super::parameters::{self, Role};
use super::weights::BlockWeights;
use crate::kernels::Target;

mod adapters;
pub mod peft;

pub use adapters::{Adapter, Adapters};

/// The settings of the section `lora`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraSettings {
    /// Rank of the adapters. Every projection has one; all other weights are frozen. 0 trains all weights instead.
    pub rank: usize,
    /// An adapter's product is scaled by `alpha / rank`. 0 means twice the rank, the usual choice. (PEFT's default is 8, verl's 16.)
    pub alpha: f64,
}

impl LoraSettings {
    /// Returns true if adapters are trained.
    pub fn is_on(&self) -> bool {
        self.rank > 0
    }

    /// Returns alpha with its default resolved.
    pub fn effective_alpha(&self) -> f64 {
        if self.alpha == 0.0 { 2.0 * self.rank as f64 } else { self.alpha }
    }

    /// Returns names and shapes of all trained parameters: adapters, or all weights.
    pub fn trained(&self, config: &ModelConfig) -> Vec<(String, Shape)> {
        if self.is_on() { Adapters::shapes(config, self.rank) } else { parameters::shapes(config) }
    }

    /// Checks that alpha is set only if adapters are trained.
    ///
    /// # Errors
    /// If `alpha` is set and `rank` is 0.
    pub fn validate(&self) -> Result<()> {
        ensure!(self.is_on() || self.alpha == 0.0, "lora.alpha is {} but lora.rank is 0: set a rank with --lora", self.alpha);
        Ok(())
    }
}

/// The adapters of a LoRA run, and their frozen base model.
#[derive(Clone, Debug)]
pub struct Lora {
    /// The trained adapters.
    pub adapters: Adapters,
    /// Rank and alpha.
    pub settings: LoraSettings,
    /// The model without adapters. Shares all weights except the projections with the policy.
    pub base: Decoder,
}

impl Lora {
    /// Creates adapters for a policy. The base gets a copy of the policy's projections, because [`merge`](Self::merge) overwrites the
    /// policy's.
    ///
    /// # Errors
    /// If the device has no memory for the adapters or the copy.
    pub fn new(settings: LoraSettings, policy: &Decoder, seed: u64) -> Result<Self> {
        let adapters = Adapters::initial(&policy.config, settings.rank, seed, policy.kernels())?;
        Ok(Self { adapters, settings, base: policy.with_copied_projections()? })
    }

    /// Returns the scale of each adapter's product: alpha / rank.
    pub fn scale(&self) -> f64 {
        self.settings.effective_alpha() / self.settings.rank as f64
    }

    /// Writes `base + scale * a b` to the policy's projections, in place.
    ///
    /// # Errors
    /// If a kernel fails.
    pub fn merge(&self, policy: &Decoder) -> Result<()> {
        let blocks = self.base.weights.blocks.iter().zip(&policy.weights.blocks);
        for (adapters, (base, merged)) in self.adapters.layers.iter().zip(blocks) {
            for adapter in adapters {
                adapter.merge(base.get(adapter.field)?, merged.get(adapter.field)?, self.scale(), policy.kernels())?;
            }
        }
        Ok(())
    }

    /// Allocates zero gradients for one worker.
    ///
    /// # Errors
    /// If the device has no memory for them.
    pub fn gradients(&self) -> Result<AdapterGradients> {
        let (config, kernels) = (&self.base.config, self.base.kernels());
        let scratch = BlockWeights::build(config, |row| Ok(Tensor::zeros(&row.shape, DType::F32, kernels.device())?))?;
        Ok(AdapterGradients {
            sums: Adapters::zeros(config, self.settings.rank, kernels)?,
            adapters: self.adapters.clone(),
            scale: self.scale(),
            scratch: vec![scratch; config.layers],
        })
    }
}

/// Returns the bytes of all adapters in f32. Their gradients and each of their two moments have the same size.
pub fn bytes(config: &ModelConfig, rank: usize) -> u64 {
    (Adapters::parameter_count(config, rank) * size_of::<f32>()) as u64
}

/// Returns the bytes of the base's copy of the projections.
pub fn base_bytes(config: &ModelConfig, target: &Target) -> u64 {
    (parameters::elements(config, |role| role == Role::Projection) * target.element_bytes) as u64
}

/// Returns the bytes of one worker's gradients: those of all adapters, and those of one block's weights.
pub fn gradient_bytes(config: &ModelConfig, rank: usize) -> u64 {
    let block: usize = parameters::block(config, 0).iter().map(|row| row.shape.elem_count()).sum();
    bytes(config, rank) + (block * size_of::<f32>()) as u64
}

/// The gradients of adapters: projections of weight gradients, which exist for one block at a time.
pub struct AdapterGradients {
    /// The gradients, summed over all calls of [`backward`](Self::backward).
    pub sums: Adapters,
    /// The adapters that the gradients belong to.
    adapters: Adapters,
    scale: f64,
    /// Weight gradients, one entry per layer. All entries share the tensors of one block, which are zero between blocks.
    scratch: Vec<BlockWeights>,
}

impl AdapterGradients {
    /// Adds the gradients of all adapters. `d_hidden [t, w]` is the gradient of the residual stream after the last block and is
    /// overwritten.
    ///
    /// # Errors
    /// If a kernel fails, for example because the device is out of memory.
    pub fn backward(&self, decoder: &Decoder, packed: &Packed, saved: Activations, d_hidden: &Tensor) -> Result<()> {
        let kernels = decoder.kernels();
        decoder.backward_blocks(packed, saved, d_hidden, &self.scratch, |layer| {
            let gradients = &self.scratch[layer];
            for (adapter, sums) in self.adapters.layers[layer].iter().zip(&self.sums.layers[layer]) {
                adapter.project(gradients.get(adapter.field)?, sums, self.scale, kernels)?;
            }
            gradients.entries().into_iter().try_for_each(|(_, tensor)| Ok(kernels.clear(tensor)?))
        })
    }
}

#[cfg(test)]
mod tests;
