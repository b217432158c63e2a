//! The tensors of a model, laid out for computing: projections that share their input are fused, and stored `[in, out]`.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Shape, Tensor};

use super::config::ModelConfig;
use crate::kernels::{Cpu, Kernels};

/// All parameters of a decoder; the same structure holds their gradients.
#[derive(Clone, Debug)]
pub struct Weights {
    /// `[v, w]`
    pub embedding: Tensor,
    /// One per layer.
    pub blocks: Vec<BlockWeights>,
    /// `[w]`
    pub norm: Tensor,
    /// `[v, w]`; none where the embedding serves as head.
    pub head: Option<Tensor>,
}

/// The parameters of one block.
#[derive(Clone, Debug)]
pub struct BlockWeights {
    /// `[w]`
    pub attention_norm: Tensor,
    /// `[w, (q + 2 kv) d]`: queries, keys, values side by side.
    pub qkv: Tensor,
    /// `[(q + 2 kv) d]`
    pub qkv_bias: Option<Tensor>,
    /// `[q d, w]`
    pub output: Tensor,
    /// `[w]`
    pub mlp_norm: Tensor,
    /// `[w, 2 f]`: gate and up side by side.
    pub gate_up: Tensor,
    /// `[f, w]`
    pub down: Tensor,
}

/// The names of a block's matrices.
pub const PROJECTIONS: [&str; 4] = ["qkv", "output", "gate_up", "down"];

impl BlockWeights {
    /// The same structure with `change` of every tensor.
    pub fn map(&self, change: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Self> {
        Ok(Self {
            attention_norm: change(&self.attention_norm)?,
            qkv: change(&self.qkv)?,
            qkv_bias: self.qkv_bias.as_ref().map(&change).transpose()?,
            output: change(&self.output)?,
            mlp_norm: change(&self.mlp_norm)?,
            gate_up: change(&self.gate_up)?,
            down: change(&self.down)?,
        })
    }

    /// Builds one block by asking `make(name, shape)` for each tensor, in the order of `entries`.
    pub fn build(config: &ModelConfig, mut make: impl FnMut(&str, Shape) -> Result<Tensor>) -> Result<Self> {
        let (w, f, row) = (config.hidden, config.feed_forward, config.heads.row());
        Ok(Self {
            attention_norm: make("attention_norm", w.into())?,
            qkv: make("qkv", (w, row).into())?,
            qkv_bias: config.qkv_bias.then(|| make("qkv_bias", row.into())).transpose()?,
            output: make("output", (config.heads.query * config.heads.width, w).into())?,
            mlp_norm: make("mlp_norm", w.into())?,
            gate_up: make("gate_up", (w, 2 * f).into())?,
            down: make("down", (f, w).into())?,
        })
    }

    /// Every tensor with its name, in one fixed order.
    pub fn entries(&self) -> Vec<(&'static str, &Tensor)> {
        let Self { attention_norm, qkv, qkv_bias, output, mlp_norm, gate_up, down } = self;
        let mut entries = vec![("attention_norm", attention_norm), ("qkv", qkv)];
        entries.extend(qkv_bias.iter().map(|bias| ("qkv_bias", bias)));
        entries.extend([("output", output), ("mlp_norm", mlp_norm), ("gate_up", gate_up), ("down", down)]);
        entries
    }

    /// The matrices, in the order of `PROJECTIONS`.
    pub fn projections(&self) -> [&Tensor; PROJECTIONS.len()] {
        [&self.qkv, &self.output, &self.gate_up, &self.down]
    }

    /// The same block with projections of its own; norms and biases are shared.
    pub fn with_own_projections(&self) -> Result<Self> {
        let Self { qkv, output, gate_up, down, .. } = self;
        Ok(Self { qkv: qkv.copy()?, output: output.copy()?, gate_up: gate_up.copy()?, down: down.copy()?, ..self.clone() })
    }

    /// Parameters in the projections of one block.
    pub fn projection_parameters(config: &ModelConfig) -> usize {
        let (w, queries) = (config.hidden, config.heads.query * config.heads.width);
        w * config.heads.row() + queries * w + 3 * w * config.feed_forward
    }

    /// Parameters of one block.
    pub fn parameters(config: &ModelConfig) -> usize {
        Self::projection_parameters(config) + 2 * config.hidden + if config.qkv_bias { config.heads.row() } else { 0 }
    }
}

impl Weights {
    /// Builds the structure by asking `make(name, shape)` for each tensor, in the canonical order of `entries`.
    pub fn build(config: &ModelConfig, mut make: impl FnMut(&str, Shape) -> Result<Tensor>) -> Result<Self> {
        let w = config.hidden;
        let embedding = make("embedding", (config.vocabulary, w).into())?;
        let blocks = (0..config.layers)
            .map(|layer| BlockWeights::build(config, |name: &str, shape: Shape| make(&format!("layers.{layer}.{name}"), shape)));
        let blocks = blocks.collect::<Result<Vec<_>>>()?;
        let norm = make("norm", w.into())?;
        let head = (!config.tied).then(|| make("head", (config.vocabulary, w).into())).transpose()?;
        Ok(Self { embedding, blocks, norm, head })
    }

    /// The name and shape of every tensor, in the order of `entries`.
    pub fn shapes(config: &ModelConfig) -> Result<Vec<(String, Shape)>> {
        let mut shapes = Vec::new();
        Self::build(config, |name, shape| {
            shapes.push((name.to_owned(), shape));
            Ok(Tensor::zeros(0, DType::F32, Cpu.device())?)
        })?;
        Ok(shapes)
    }

    /// All zeros, in f32: gradients.
    pub fn zeros(config: &ModelConfig, kernels: &dyn Kernels) -> Result<Self> {
        Self::build(config, |_, shape| Ok(Tensor::zeros(shape, DType::F32, kernels.device())?))
    }

    /// Bytes of one set in f32, be it parameters, gradients or moments.
    pub fn bytes(config: &ModelConfig) -> u64 {
        (config.parameters() * size_of::<f32>()) as u64
    }

    /// Every tensor with its name, in one fixed order.
    pub fn entries(&self) -> Vec<(String, &Tensor)> {
        let mut entries = vec![("embedding".to_owned(), &self.embedding)];
        for (layer, block) in self.blocks.iter().enumerate() {
            entries.extend(block.entries().into_iter().map(|(name, tensor)| (format!("layers.{layer}.{name}"), tensor)));
        }
        entries.push(("norm".to_owned(), &self.norm));
        entries.extend(self.head.iter().map(|head| ("head".to_owned(), head)));
        entries
    }

    /// The matrix that makes logits, `[v, w]`.
    pub fn output_embedding(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// The same structure with `change` of every tensor.
    pub fn map(&self, config: &ModelConfig, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let entries = self.entries();
        let mut tensors = entries.iter();
        Self::build(config, |name, _| {
            let (found, tensor) = tensors.next().ok_or_else(|| anyhow::anyhow!("no tensor {name}"))?;
            debug_assert_eq!(found, name);
            change(tensor)
        })
    }

    /// The same weights in f32 on the CPU; shared, not copied, where they are that already.
    pub fn on_host(&self, config: &ModelConfig) -> Result<Self> {
        self.map(config, |tensor| Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?))
    }

    /// Takes over the values of another set, in place, on whatever device and in whatever dtype this one is.
    ///
    /// # Errors
    /// When a tensor has another shape; its name and both shapes are said.
    pub fn set(&self, values: &Weights) -> Result<()> {
        for ((name, target), (_, source)) in self.entries().into_iter().zip(values.entries()) {
            ensure!(target.dims() == source.dims(), "{name} has the shape {:?}, expected {:?}", source.dims(), target.dims());
            target.slice_set(&source.to_device(target.device())?.to_dtype(target.dtype())?, 0, 0)?;
        }
        Ok(())
    }

    /// Sets every element to 0, in place.
    pub fn clear(&self, kernels: &dyn Kernels) -> Result<()> {
        self.entries().into_iter().try_for_each(|(_, tensor)| Ok(kernels.clear(tensor)?))
    }

    /// Adds another set of the same shapes, f32, in place.
    pub fn add(&self, other: &Weights, kernels: &dyn Kernels) -> Result<()> {
        self.entries().into_iter().zip(other.entries()).try_for_each(|((_, target), (_, source))| Ok(kernels.add_into(target, source)?))
    }
}
