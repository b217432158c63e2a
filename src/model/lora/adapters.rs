//! Adapters: two factors beside each of the checkpoint's projections, how they begin, how they are added to a base, and how a projection's
//! gradient becomes theirs.

use std::ops::Range;

use anyhow::Result;
use candle_core::{DType, Shape, Tensor};

use crate::draw::{Purpose, Stream};
use crate::kernels::{Kernels, cpu};
use crate::model::config::ModelConfig;
use crate::model::parameters::{self, Parameter, Role};
use crate::model::parts::Part;

/// Two factors beside one of the checkpoint's projections.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// The projection after the name of our tensor that holds it: `layers.0.qkv.q_proj`.
    pub name: String,
    /// The projection in the checkpoint, without `.weight`: `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// The field of `BlockWeights` with our tensor.
    pub(super) field: &'static str,
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

/// What an adapter stands beside.
struct Beside {
    name: String,
    module: String,
    field: &'static str,
    columns: Range<usize>,
    inputs: usize,
    outputs: usize,
}

/// Every projection of the checkpoint in one layer, in the table's order.
fn projections(config: &ModelConfig, layer: usize) -> Vec<Beside> {
    let beside = |row: &Parameter, part: &Part| {
        let (outputs, inputs) = part.rows_and_columns();
        let module = part.name.trim_end_matches(".weight").to_owned();
        let name = format!("{}.{}", row.name(), module.rsplit('.').next().unwrap_or_default());
        Beside { name, module, field: row.field, columns: part.columns.clone(), inputs, outputs }
    };
    let mut rows = parameters::block(config, layer);
    rows.retain(|row| row.role == Role::Projection);
    rows.iter().flat_map(|row| row.parts.iter().map(|part| beside(row, part))).collect()
}

impl Adapters {
    /// Builds the structure by asking `make(shape)` for each tensor, in the order of `entries`.
    fn build(config: &ModelConfig, rank: usize, mut make: impl FnMut(Shape) -> Result<Tensor>) -> Result<Self> {
        let mut adapter = |Beside { name, module, field, columns, inputs, outputs }: Beside| {
            let (a, b) = (make((inputs, rank).into())?, make((rank, outputs).into())?);
            Ok(Adapter { name, module, field, columns, a, b })
        };
        let layers = (0..config.layers).map(|layer| projections(config, layer).into_iter().map(&mut adapter).collect::<Result<_>>());
        Ok(Self { layers: layers.collect::<Result<_>>()? })
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
    pub fn shapes(config: &ModelConfig, rank: usize) -> Vec<(String, Shape)> {
        let factors = |beside: Beside| {
            let shapes = [(beside.inputs, rank).into(), (rank, beside.outputs).into()];
            factor_names(&beside.name).into_iter().zip(shapes)
        };
        (0..config.layers).flat_map(|layer| projections(config, layer)).flat_map(factors).collect()
    }

    /// Numbers in all adapters.
    pub fn parameters(config: &ModelConfig, rank: usize) -> usize {
        Self::shapes(config, rank).iter().map(|(_, shape)| shape.elem_count()).sum()
    }

    /// All adapters, in one fixed order.
    pub fn iter(&self) -> impl Iterator<Item = &Adapter> {
        self.layers.iter().flatten()
    }

    /// Every tensor with its name, in one fixed order.
    pub fn entries(&self) -> Vec<(String, &Tensor)> {
        self.iter().flat_map(|adapter| factor_names(&adapter.name).into_iter().zip([&adapter.a, &adapter.b])).collect()
    }
}

/// The names of an adapter's two tensors.
fn factor_names(adapter: &str) -> [String; 2] {
    ["lora_A", "lora_B"].map(|factor| format!("{adapter}.{factor}"))
}

impl Adapter {
    /// Writes `base + scale * a b`, summed in f32 and rounded once, to the adapter's columns of `merged`.
    pub(super) fn merge(&self, base: &Tensor, merged: &Tensor, scale: f64, kernels: &dyn Kernels) -> Result<()> {
        let sum = kernels.columns(base, self.columns.clone())?;
        kernels.add_product_into(&sum, &kernels.scaled(&self.a, scale)?, &self.b)?;
        Ok(kernels.set_columns(merged, self.columns.start, &sum)?)
    }

    /// Adds this adapter's gradients to `sums`, given that of our whole tensor: `scale dw b^T` to a's, `scale a^T dw` to b's.
    pub(super) fn project(&self, gradient: &Tensor, sums: &Adapter, scale: f64, kernels: &dyn Kernels) -> Result<()> {
        let is_whole = self.columns.len() == gradient.dim(1)?;
        let dw = if is_whole { gradient.clone() } else { kernels.columns(gradient, self.columns.clone())? };
        kernels.add_product_into(&sums.a, &dw, &kernels.scaled(&self.b.t()?, scale)?)?;
        Ok(kernels.add_product_into(&sums.b, &kernels.scaled(&self.a, scale)?.t()?, &dw)?)
    }
}
