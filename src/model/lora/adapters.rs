//! Adapters: two factors beside each of the checkpoint's projections, how they begin, how they are added to a base, and how a projection's
//! gradient becomes theirs.

use std::ops::Range;

use anyhow::Result;
use candle_core::{DType, Device, Shape, Tensor};

use crate::draw::{Purpose, Stream};
use crate::kernels::{Kernels, cpu};
use crate::model::config::ModelConfig;
use crate::model::names::parts;
use crate::model::weights::PROJECTIONS;

/// Two factors beside one of the checkpoint's projections.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// The projection after the name of our tensor that holds it: `layers.0.qkv.q_proj`.
    pub name: String,
    /// The projection in the checkpoint, without `.weight`: `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// Our tensor, by its place in `PROJECTIONS`.
    pub(super) projection: usize,
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
    pub(super) layers: Vec<Vec<Adapter>>,
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

    /// The name and shape of every tensor, in the order of `entries`.
    pub fn shapes(config: &ModelConfig, rank: usize) -> Result<Vec<(String, Shape)>> {
        let mut shapes = Vec::new();
        let adapters = Self::build(config, rank, |shape| {
            shapes.push(shape);
            Ok(Tensor::zeros(0, DType::F32, &Device::Cpu)?)
        })?;
        Ok(adapters.entries().into_iter().map(|(name, _)| name).zip(shapes).collect())
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
    pub(super) fn merge(&self, base: &Tensor, merged: &Tensor, scale: f64, kernels: &dyn Kernels) -> Result<()> {
        let sum = base.narrow(1, self.columns.start, self.columns.len())?.force_contiguous()?.to_dtype(DType::F32)?;
        kernels.add_product_into(&sum, &(&self.a * scale)?, &self.b)?;
        Ok(merged.slice_set(&sum.to_dtype(merged.dtype())?, 1, self.columns.start)?)
    }

    /// Adds this adapter's gradients to `sums`, given that of our whole tensor: `scale dw b^T` to a's, `scale a^T dw` to b's.
    pub(super) fn project(&self, gradient: &Tensor, sums: &Adapter, scale: f64, kernels: &dyn Kernels) -> Result<()> {
        let dw = gradient.narrow(1, self.columns.start, self.columns.len())?.contiguous()?;
        kernels.add_product_into(&sums.a, &dw, &(self.b.t()?.contiguous()? * scale)?)?;
        Ok(kernels.add_product_into(&sums.b, &(&self.a * scale)?.t()?, &dw)?)
    }
}
