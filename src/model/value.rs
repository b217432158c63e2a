//! The critic's model: a decoder whose end is one number for each response token, its value, in place of logits. Owns its weights and its
//! backward pass; must never know what a value is learned from. Nothing here has the vocabulary's width but the embedding.

use anyhow::Result;
use candle_core::{DType, Shape, Tensor};

use super::config::ModelConfig;
use super::decoder::{Decoder, Trace};
use super::packed::Packed;
use super::parameters;
use super::weights::Weights;
use crate::draw::{Purpose, Stream};
use crate::kernels::{Kernels, cpu};

/// Names of the head's tensors.
const HEAD: [&str; 2] = ["value.weight", "value.bias"];

/// A decoder with a scalar head: `value = weight . norm(x) + bias`, x the residual stream after the last block.
#[derive(Clone, Debug)]
pub struct ValueModel {
    /// Embedding, blocks and final norm; it has no head for logits of its own.
    pub body: Decoder,
    /// `[1, w]`, in the kernels' dtype.
    pub weight: Tensor,
    /// `[1]`, in f32.
    pub bias: Tensor,
}

/// The gradients of a value model, all in f32.
pub struct ValueGradients {
    /// Of embedding, blocks and final norm.
    pub body: Weights,
    /// `[1, w]`
    pub weight: Tensor,
    /// `[1]`
    pub bias: Tensor,
}

/// The body's shape: the policy's without a head of its own.
fn body(config: &ModelConfig) -> ModelConfig {
    ModelConfig { tied: true, ..config.clone() }
}

/// The name and shape of every tensor of the value model that goes with a policy of this shape, in the order of `ValueModel::entries`.
pub fn shapes(config: &ModelConfig) -> Vec<(String, Shape)> {
    let mut shapes = parameters::shapes(&body(config));
    shapes.extend(HEAD.map(str::to_owned).into_iter().zip([(1, config.hidden).into(), 1.into()]));
    shapes
}

/// Parameters of the value model that goes with a policy of this shape.
pub fn parameters(config: &ModelConfig) -> usize {
    shapes(config).iter().map(|(_, shape)| shape.elem_count()).sum()
}

impl ValueModel {
    /// A copy of a policy's weights under a new head: normal weights of standard deviation `scale`, bias 0. With 0 all values begin at 0, and
    /// the first update reaches the head alone.
    pub fn new(policy: &Decoder, seed: u64, scale: f32) -> Result<Self> {
        let (config, kernels) = (body(&policy.config), policy.kernels());
        let mut stream = Stream::new(seed, Purpose::ValueHead, 0);
        let weight: Vec<f32> = (0..config.hidden).map(|_| stream.normal() * scale).collect();
        let weight = kernels.cast(&cpu::tensor(weight, (1, config.hidden))?, kernels.dtype())?;
        let bias = Tensor::zeros(1, DType::F32, kernels.device())?;
        let mut body = policy.with(policy.weights.map(&config, |tensor| Ok(tensor.copy()?))?);
        body.config = config;
        Ok(Self { body, weight, bias })
    }

    /// Every tensor with its name, in one fixed order.
    pub fn entries(&self) -> Vec<(String, &Tensor)> {
        entries(&self.body.weights, &self.weight, &self.bias)
    }

    /// Room for the gradients of one worker, zeros.
    pub fn gradients(&self) -> Result<ValueGradients> {
        let body = Weights::zeros(&self.body.config, self.body.kernels())?;
        let zeros = |tensor: &Tensor| Tensor::zeros(tensor.shape(), DType::F32, tensor.device());
        Ok(ValueGradients { body, weight: zeros(&self.weight)?, bias: zeros(&self.bias)? })
    }

    /// The value of every response token of a packed batch, in the order of `Packed::targets`: that of the row which predicts it.
    pub fn values(&self, packed: &Packed) -> Result<Vec<f32>> {
        self.values_of(&self.body.hidden(packed)?, packed)
    }

    /// The same from the residual stream after the last block, `hidden [t, w]`.
    pub fn values_of(&self, hidden: &Tensor, packed: &Packed) -> Result<Vec<f32>> {
        let kernels = self.body.kernels();
        let bias = kernels.read(&self.bias)?[0];
        let mut values = Vec::with_capacity(packed.rows.len());
        for (rows, _) in self.body.chunks(packed) {
            let x = kernels.gather(hidden, &kernels.indices(rows)?)?;
            let (normed, _) = kernels.rms_norm(&x, &self.body.weights.norm, self.body.config.norm_eps)?;
            let chunk = kernels.read(&kernels.logits(&normed, &self.weight)?)?;
            values.extend(chunk.into_iter().map(|value| value + bias));
        }
        Ok(values)
    }

    /// Adds the gradients of all weights to `gradients`, given what `Decoder::forward` of the body gave and the loss's derivative by each
    /// value, in the order of `Packed::targets`.
    pub fn backward(&self, hidden: &Tensor, packed: &Packed, trace: Trace, d_values: &[f32], gradients: &ValueGradients) -> Result<()> {
        let (kernels, norm) = (self.body.kernels(), &self.body.weights.norm);
        let d_hidden = hidden.zeros_like()?;
        let mut rest = d_values;
        for (rows, _) in self.body.chunks(packed) {
            let (own, after) = rest.split_at(rows.len());
            rest = after;
            let x = kernels.gather(hidden, &kernels.indices(rows)?)?;
            let (normed, inverse_rms) = kernels.rms_norm(&x, norm, self.body.config.norm_eps)?;
            let d_own = kernels.cast(&cpu::tensor(own.to_vec(), (own.len(), 1))?, kernels.dtype())?;
            kernels.add_product_into(&gradients.weight, &d_own.t()?, &normed)?;
            let d_normed = kernels.product(&d_own, &self.weight, None)?;
            let dx = x.zeros_like()?;
            kernels.rms_norm_backward_into(&dx, &gradients.body.norm, &d_normed, &x, norm, &inverse_rms)?;
            kernels.scatter_add_into(&d_hidden, rows, &dx)?;
        }
        let sum: f64 = d_values.iter().copied().map(f64::from).sum();
        kernels.add_into(&gradients.bias, &Tensor::from_slice(&[sum as f32], 1, kernels.device())?)?;
        self.body.backward(packed, trace, d_hidden, &gradients.body)
    }
}

impl ValueGradients {
    /// Every gradient with its parameter's name, in the order of `ValueModel::entries`.
    pub fn entries(&self) -> Vec<(String, &Tensor)> {
        entries(&self.body, &self.weight, &self.bias)
    }

    /// Adds another worker's sums, in place.
    pub fn add(&self, other: &Self, kernels: &dyn Kernels) -> Result<()> {
        self.entries().into_iter().zip(other.entries()).try_for_each(|((_, target), (_, source))| Ok(kernels.add_into(target, source)?))
    }

    /// Sets every element to 0, in place.
    pub fn clear(&self, kernels: &dyn Kernels) -> Result<()> {
        self.entries().into_iter().try_for_each(|(_, tensor)| Ok(kernels.clear(tensor)?))
    }
}

fn entries<'a>(body: &'a Weights, weight: &'a Tensor, bias: &'a Tensor) -> Vec<(String, &'a Tensor)> {
    let mut entries = body.entries();
    entries.extend(HEAD.map(str::to_owned).into_iter().zip([weight, bias]));
    entries
}

#[cfg(test)]
mod tests;
