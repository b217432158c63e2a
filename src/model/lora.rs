//! LoRA (Hu et al., arXiv 2106.09685) by merged weights: a projection is `base + scale * a b`, written out after each update, so that sampling and
//! training compute with one set of weights and know nothing of adapters. Owns the adapters, the base that they are added to, and their
//! gradients; must never know how they are updated.

use anyhow::{Result, ensure};
use candle_core::{DType, Shape, Tensor};
use serde::{Deserialize, Serialize};

use super::config::ModelConfig;
use super::decoder::{Decoder, Trace};
use super::packed::Packed;
use super::parameters::{self, Role};
use super::weights::BlockWeights;
use crate::kernels::Target;

mod adapters;
pub mod peft;

pub use adapters::{Adapter, Adapters};

/// Whether adapters are trained, and which.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraSettings {
    /// Rank of an adapter beside every projection, all other weights staying as they are; 0 trains all weights.
    pub rank: usize,
    /// An adapter's product is scaled by alpha / rank; 0 is twice the rank, the usual choice. PEFT's own default is 8, verl's 16.
    pub alpha: f64,
}

impl LoraSettings {
    /// Whether adapters are trained.
    pub fn is_on(&self) -> bool {
        self.rank > 0
    }

    /// Alpha as it is used.
    pub fn effective_alpha(&self) -> f64 {
        if self.alpha == 0.0 { 2.0 * self.rank as f64 } else { self.alpha }
    }

    /// The name and shape of every parameter that is trained: adapters, or all weights.
    pub fn trained(&self, config: &ModelConfig) -> Vec<(String, Shape)> {
        if self.is_on() { Adapters::shapes(config, self.rank) } else { parameters::shapes(config) }
    }

    /// Refuses a scale of no adapters.
    pub fn validate(&self) -> Result<()> {
        ensure!(self.is_on() || self.alpha == 0.0, "lora.alpha is {} and lora.rank 0: give a rank with --lora", self.alpha);
        Ok(())
    }
}

/// What a LoRA run trains, and what it leaves as it is.
#[derive(Clone, Debug)]
pub struct Lora {
    /// What is trained.
    pub adapters: Adapters,
    /// The settings.
    pub settings: LoraSettings,
    /// The model without adapters; it shares all but the projections with the policy.
    pub base: Decoder,
}

impl Lora {
    /// Adapters for a policy, which from now on computes with merged projections; its present ones are kept as the base.
    pub fn new(settings: LoraSettings, policy: &Decoder, seed: u64) -> Result<Self> {
        let adapters = Adapters::initial(&policy.config, settings.rank, seed, policy.kernels())?;
        Ok(Self { adapters, settings, base: policy.with_own_projections()? })
    }

    /// The factor of every adapter's product.
    pub fn scale(&self) -> f64 {
        self.settings.effective_alpha() / self.settings.rank as f64
    }

    /// Writes base and adapters together into the policy's projections, in place.
    pub fn merge(&self, policy: &Decoder) -> Result<()> {
        let blocks = self.base.weights.blocks.iter().zip(&policy.weights.blocks);
        for (adapters, (base, merged)) in self.adapters.layers.iter().zip(blocks) {
            for adapter in adapters {
                adapter.merge(base.get(adapter.field)?, merged.get(adapter.field)?, self.scale(), policy.kernels())?;
            }
        }
        Ok(())
    }

    /// Room for the gradients of one worker.
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

/// Bytes of all adapters, or of their gradients, or of one of their moments.
pub fn bytes(config: &ModelConfig, rank: usize) -> u64 {
    (Adapters::parameters(config, rank) * size_of::<f32>()) as u64
}

/// Bytes of the base's own projections.
pub fn base_bytes(config: &ModelConfig, target: &Target) -> u64 {
    (parameters::elements(config, |role| role == Role::Projection) * target.element_bytes) as u64
}

/// Bytes of one worker's gradients: those of adapters, and a block's.
pub fn gradient_bytes(config: &ModelConfig, rank: usize) -> u64 {
    let block: usize = parameters::block(config, 0).iter().map(|row| row.shape.elem_count()).sum();
    bytes(config, rank) + (block * size_of::<f32>()) as u64
}

/// The gradients of adapters, with the gradient of one block at a time that they are projections of.
pub struct AdapterGradients {
    /// The gradients.
    pub sums: Adapters,
    /// What they are the gradients of.
    adapters: Adapters,
    scale: f64,
    /// One block's tensors, shared by all layers; zero between blocks.
    scratch: Vec<BlockWeights>,
}

impl AdapterGradients {
    /// Adds the gradients of all adapters, given `d_hidden [t, w]` (overwritten); embedding, head, norms and biases get none.
    pub fn backward(&self, decoder: &Decoder, packed: &Packed, trace: Trace, d_hidden: &Tensor) -> Result<()> {
        let kernels = decoder.kernels();
        decoder.backward_blocks(packed, trace, d_hidden, &self.scratch, |layer| {
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
