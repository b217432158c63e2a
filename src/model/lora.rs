//! LoRA (Hu et al., arXiv 2106.09685) by merged weights: a projection is `base + scale * a b`, written out after each update, so that sampling and
//! training compute with one set of weights and know nothing of adapters. Owns the adapters, the base that they are added to, and their
//! gradients; must never know how they are updated.

use std::ops::Range;

use anyhow::{Result, ensure};
use candle_core::{DType, Shape, Tensor};
use serde::{Deserialize, Serialize};

use super::config::ModelConfig;
use super::decoder::{Decoder, Trace};
use super::names::parts;
use super::packed::Packed;
use super::weights::{BlockWeights, PROJECTIONS};
use crate::draw::{Purpose, Stream};
use crate::kernels::{Kernels, cpu};

pub mod peft;

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

    /// Refuses what is no scale.
    pub fn validate(&self) -> Result<()> {
        ensure!(self.alpha >= 0.0 && self.alpha.is_finite(), "lora.alpha is {}; it must be positive, or 0 for twice the rank", self.alpha);
        ensure!(self.is_on() || self.alpha == 0.0, "lora.alpha is {} and lora.rank 0: give a rank with --lora", self.alpha);
        Ok(())
    }
}

/// Two factors beside one of the checkpoint's projections.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// The projection after the name of our tensor that holds it: `layers.0.qkv.q_proj`.
    pub name: String,
    /// The projection in the checkpoint, without `.weight`: `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// Our tensor, by its place in `PROJECTIONS`.
    projection: usize,
    /// The columns of our tensor that the projection fills.
    columns: Range<usize>,
    /// `[in, r]`, f32: PEFT's `lora_A`, transposed.
    pub a: Tensor,
    /// `[r, out]`, f32: PEFT's `lora_B`, transposed.
    pub b: Tensor,
}

/// An adapter for every projection of the checkpoint; the same structure holds their gradients.
#[derive(Clone, Debug)]
pub struct Adapters {
    layers: Vec<Vec<Adapter>>,
}

impl Adapters {
    /// Builds the structure by asking `make(shape)` for each tensor, in the order of `entries`.
    fn build(config: &ModelConfig, rank: usize, mut make: impl FnMut(Shape) -> Result<Tensor>) -> Result<Self> {
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            let mut adapters = Vec::new();
            for (projection, ours) in PROJECTIONS.iter().enumerate() {
                let ours = format!("layers.{layer}.{ours}");
                for part in parts(config, &ours) {
                    let (outputs, inputs) = part.rows_and_columns();
                    let module = part.name.trim_end_matches(".weight").to_owned();
                    let name = format!("{ours}.{}", module.rsplit('.').next().unwrap_or_default());
                    let (a, b) = (make((inputs, rank).into())?, make((rank, outputs).into())?);
                    adapters.push(Adapter { name, module, projection, columns: part.columns, a, b });
                }
            }
            layers.push(adapters);
        }
        Ok(Self { layers })
    }

    /// Adapters that change nothing yet: `a` uniform within 1 / sqrt(in), as PEFT's Kaiming-uniform initialisation with a = sqrt(5) comes out
    /// (`LoraLayer.reset_lora_parameters`), `b` zero. Each `a` is an addressed stream of its own.
    pub fn initial(config: &ModelConfig, rank: usize, seed: u64, kernels: &dyn Kernels) -> Result<Self> {
        let mut number = 0;
        Self::build(config, rank, |shape| {
            let (stream, is_a) = (number / 2, number % 2 == 0);
            number += 1;
            if !is_a {
                return Ok(Tensor::zeros(shape, DType::F32, kernels.device())?);
            }
            let bound = 1.0 / (shape.dims()[0] as f32).sqrt();
            let mut draws = Stream::new(seed, Purpose::Adapters, stream);
            let values = (0..shape.elem_count()).map(|_| bound * (2.0 * draws.uniform() - 1.0)).collect();
            Ok(cpu::tensor(values, shape)?.to_device(kernels.device())?)
        })
    }

    /// All zeros: gradients.
    pub fn zeros(config: &ModelConfig, rank: usize, kernels: &dyn Kernels) -> Result<Self> {
        Self::build(config, rank, |shape| Ok(Tensor::zeros(shape, DType::F32, kernels.device())?))
    }

    /// Numbers in all adapters.
    pub fn parameters(config: &ModelConfig, rank: usize) -> usize {
        let parts = PROJECTIONS.iter().flat_map(|projection| parts(config, &format!("layers.0.{projection}")));
        config.layers * rank * parts.map(|part| part.shape.iter().sum::<usize>()).sum::<usize>()
    }

    /// All adapters, in one fixed order.
    pub fn iter(&self) -> impl Iterator<Item = &Adapter> {
        self.layers.iter().flatten()
    }

    /// Every tensor with its name, in one fixed order.
    pub fn entries(&self) -> Vec<(String, &Tensor)> {
        let both = |adapter: &'_ Adapter| [format!("{}.lora_A", adapter.name), format!("{}.lora_B", adapter.name)];
        self.iter().flat_map(|adapter| both(adapter).into_iter().zip([&adapter.a, &adapter.b])).collect()
    }
}

impl Adapter {
    /// Writes `base + scale * a b`, summed in f32 and rounded once, to the adapter's columns of `merged`.
    fn merge(&self, base: &Tensor, merged: &Tensor, scale: f64, kernels: &dyn Kernels) -> Result<()> {
        let sum = base.narrow(1, self.columns.start, self.columns.len())?.force_contiguous()?.to_dtype(DType::F32)?;
        kernels.add_product(&sum, &(&self.a * scale)?, &self.b)?;
        Ok(merged.slice_set(&sum.to_dtype(merged.dtype())?, 1, self.columns.start)?)
    }

    /// Adds this adapter's gradients to `sums`, given that of our whole tensor: `scale dw b^T` to a's, `scale a^T dw` to b's.
    fn project(&self, gradient: &Tensor, sums: &Adapter, scale: f64, kernels: &dyn Kernels) -> Result<()> {
        let dw = gradient.narrow(1, self.columns.start, self.columns.len())?.contiguous()?;
        kernels.add_product(&sums.a, &dw, &(self.b.t()?.contiguous()? * scale)?)?;
        Ok(kernels.add_transposed_product(&sums.b, &(&self.a * scale)?, &dw)?)
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
            let (base, merged) = (base.projections(), merged.projections());
            for adapter in adapters {
                adapter.merge(base[adapter.projection], merged[adapter.projection], self.scale(), policy.kernels())?;
            }
        }
        Ok(())
    }

    /// Room for the gradients of one worker.
    pub fn gradients(&self) -> Result<AdapterGradients> {
        let (config, kernels) = (&self.base.config, self.base.kernels());
        let scratch = BlockWeights::build(config, |_, shape| Ok(Tensor::zeros(shape, DType::F32, kernels.device())?))?;
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

/// Bytes of the base's own projections, in f32.
pub fn base_bytes(config: &ModelConfig) -> u64 {
    (config.layers * BlockWeights::projection_parameters(config) * size_of::<f32>()) as u64
}

/// Bytes of one worker's gradients: those of adapters, and a block's.
pub fn gradient_bytes(config: &ModelConfig, rank: usize) -> u64 {
    bytes(config, rank) + (BlockWeights::parameters(config) * size_of::<f32>()) as u64
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
            let gradients = self.scratch[layer].projections();
            for (adapter, sums) in self.adapters.layers[layer].iter().zip(&self.sums.layers[layer]) {
                adapter.project(gradients[adapter.projection], sums, self.scale, kernels)?;
            }
            self.scratch[layer].entries().into_iter().try_for_each(|(_, tensor)| Ok(kernels.clear(tensor)?))
        })
    }
}

#[cfg(test)]
mod tests;
