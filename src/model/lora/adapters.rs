//! LoRA adapters: initialization, merging into the base weights, and the projection of weight gradients onto them.

use std::ops::Range;

use anyhow::Result;
use candle_core::{DType, Shape, Tensor};

use crate::kernels::{Kernels, cpu};
use crate::model::checkpoint_tensors::CheckpointTensor;
use crate::model::config::ModelConfig;
use crate::model::parameters::{self, Parameter, Role};
use crate::rng::{Purpose, Stream};

/// The two low-rank factors of one projection of the checkpoint.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// The name of our tensor that contains the projection, followed by that of the projection: `layers.0.qkv.q_proj`.
    pub name: String,
    /// The projection's module in the checkpoint: `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// The field of `BlockWeights` that contains the projection.
    pub(super) field: &'static str,
    /// The columns of our tensor that belong to the projection.
    columns: Range<usize>,
    /// `[in, r]`, f32: the transpose of PEFT's `lora_A`.
    pub a: Tensor,
    /// `[r, out]`, f32: the transpose of PEFT's `lora_B`.
    pub b: Tensor,
}

/// One adapter for each projection of the checkpoint. Also used for their gradients.
#[derive(Clone, Debug)]
pub struct Adapters {
    pub(super) layers: Vec<Vec<Adapter>>,
}

/// A projection of the checkpoint: its names, its position in our tensors, and its size.
struct Projection {
    name: String,
    module: String,
    field: &'static str,
    columns: Range<usize>,
    inputs: usize,
    outputs: usize,
}

/// Returns the projections of one layer, in the order of `parameters`.
fn projections(config: &ModelConfig, layer: usize) -> Vec<Projection> {
    let projection = |row: &Parameter, part: &CheckpointTensor| {
        let (outputs, inputs) = part.rows_and_columns();
        let module = part.name.trim_end_matches(".weight").to_owned();
        let name = format!("{}.{}", row.name(), module.rsplit('.').next().unwrap_or_default());
        Projection { name, module, field: row.field, columns: part.columns.clone(), inputs, outputs }
    };
    let mut rows = parameters::block(config, layer);
    rows.retain(|row| row.role == Role::Projection);
    rows.iter().flat_map(|row| row.parts.iter().map(|part| projection(row, part))).collect()
}

impl Adapters {
    /// Builds the adapters, calling `make(shape)` for each tensor in the order of `entries`.
    fn build(config: &ModelConfig, rank: usize, mut make: impl FnMut(Shape) -> Result<Tensor>) -> Result<Self> {
        let mut adapter = |Projection { name, module, field, columns, inputs, outputs }: Projection| {
            let (a, b) = (make((inputs, rank).into())?, make((rank, outputs).into())?);
            Ok(Adapter { name, module, field, columns, a, b })
        };
        let layers = (0..config.layers).map(|layer| projections(config, layer).into_iter().map(&mut adapter).collect::<Result<_>>());
        Ok(Self { layers: layers.collect::<Result<_>>()? })
    }

    /// Creates adapters whose product is zero, initialized like PEFT's (`LoraLayer.reset_lora_parameters`): `a` is uniform between -1 /
    /// sqrt(in) and 1 / sqrt(in), and `b` is zero. Each `a` has its own random stream.
    ///
    /// # Errors
    /// If the device has no memory for a tensor.
    pub fn initial(config: &ModelConfig, rank: usize, seed: u64, kernels: &dyn Kernels) -> Result<Self> {
        let mut number = 0;
        Self::build(config, rank, |shape| {
            let (stream, is_a) = (number / 2, number % 2 == 0);
            number += 1;
            if !is_a {
                return Ok(Tensor::zeros(shape, DType::F32, kernels.device())?);
            }
            let bound = 1.0 / (shape.dims()[0] as f32).sqrt();
            let mut random = Stream::new(seed, Purpose::Adapters, stream);
            let values = (0..shape.elem_count()).map(|_| bound * (2.0 * random.uniform() - 1.0)).collect();
            Ok(cpu::tensor(values, shape)?.to_device(kernels.device())?)
        })
    }

    /// Creates adapters with only zeros, for gradients.
    ///
    /// # Errors
    /// If the device has no memory for a tensor.
    pub fn zeros(config: &ModelConfig, rank: usize, kernels: &dyn Kernels) -> Result<Self> {
        Self::build(config, rank, |shape| Ok(Tensor::zeros(shape, DType::F32, kernels.device())?))
    }

    /// Returns names and shapes of all tensors, in the order of `entries`.
    pub fn shapes(config: &ModelConfig, rank: usize) -> Vec<(String, Shape)> {
        let factors = |projection: Projection| {
            let shapes = [(projection.inputs, rank).into(), (rank, projection.outputs).into()];
            factor_names(&projection.name).into_iter().zip(shapes)
        };
        (0..config.layers).flat_map(|layer| projections(config, layer)).flat_map(factors).collect()
    }

    /// Returns the number of parameters in all adapters.
    pub fn parameter_count(config: &ModelConfig, rank: usize) -> usize {
        Self::shapes(config, rank).iter().map(|(_, shape)| shape.elem_count()).sum()
    }

    /// Iterates over all adapters, layer by layer, in the order of `parameters`.
    pub fn iter(&self) -> impl Iterator<Item = &Adapter> {
        self.layers.iter().flatten()
    }

    /// Returns all tensors with their names: `a` and `b` of each adapter, in the order of `iter`.
    pub fn entries(&self) -> Vec<(String, &Tensor)> {
        self.iter().flat_map(|adapter| factor_names(&adapter.name).into_iter().zip([&adapter.a, &adapter.b])).collect()
    }
}

/// Returns the names of an adapter's two tensors.
fn factor_names(adapter: &str) -> [String; 2] {
    ["lora_A", "lora_B"].map(|factor| format!("{adapter}.{factor}"))
}

impl Adapter {
    /// Writes `base + scale * a b` to the adapter's columns of `merged`, summed in f32 and rounded once.
    pub(super) fn merge(&self, base: &Tensor, merged: &Tensor, scale: f64, kernels: &dyn Kernels) -> Result<()> {
        let sum = kernels.columns(base, self.columns.clone())?;
        kernels.add_product_into(&sum, &kernels.scaled(&self.a, scale)?, &self.b)?;
        Ok(kernels.set_columns(merged, self.columns.start, &sum)?)
    }

    /// Adds this adapter's gradients to `sums`: `scale dw b^T` for `a`, `scale a^T dw` for `b`, where `dw` is the part of `gradient` (of
    /// our whole tensor) for this projection.
    pub(super) fn project(&self, gradient: &Tensor, sums: &Adapter, scale: f64, kernels: &dyn Kernels) -> Result<()> {
        let is_whole = self.columns.len() == gradient.dim(1)?;
        let dw = if is_whole { gradient.clone() } else { kernels.columns(gradient, self.columns.clone())? };
        kernels.add_product_into(&sums.a, &dw, &kernels.scaled(&self.b.t()?, scale)?)?;
        Ok(kernels.add_product_into(&sums.b, &kernels.scaled(&self.a, scale)?.t()?, &dw)?)
    }
}
