//! The critic's model: a decoder with a scalar head in place of the head for logits, which computes a value for each response token. Owns
//! its weights and its backward pass; knows nothing about the loss that trains it.

use anyhow::Result;
use candle_core::{DType, Shape, Tensor};

use super::config::ModelConfig;
use super::decoder::{Activations, Decoder};
use super::gradients::GradientSum;
use super::packed::Packed;
use super::parameters;
use super::weights::Weights;
use crate::kernels::cpu;
use crate::rng::{Purpose, Stream};

/// The names of the head's tensors.
const HEAD: [&str; 2] = ["value.weight", "value.bias"];

/// A decoder with a scalar head: `value = weight . norm(x) + bias`, where `x` is the residual stream after the last block.
#[derive(Clone, Debug)]
pub struct ValueModel {
    /// Embedding, blocks and final norm, without a head for logits.
    pub body: Decoder,
    /// The head's weight, `[1, w]`, in the kernels' dtype.
    pub weight: Tensor,
    /// The head's bias, `[1]`, in f32.
    pub bias: Tensor,
}

/// The gradients of a value model, in f32.
pub struct ValueGradients {
    /// Gradients of embedding, blocks and final norm.
    pub body: Weights,
    /// Gradient of the head's weight, `[1, w]`.
    pub weight: Tensor,
    /// Gradient of the head's bias, `[1]`.
    pub bias: Tensor,
}

/// Returns the configuration of the body: the policy's, without a head for logits.
fn body(config: &ModelConfig) -> ModelConfig {
    ModelConfig { tied: true, ..config.clone() }
}

/// Returns names and shapes of all tensors in the value model for a policy with this configuration, in the order of
/// [`ValueModel::entries`].
pub fn shapes(config: &ModelConfig) -> Vec<(String, Shape)> {
    let mut shapes = parameters::shapes(&body(config));
    shapes.extend(HEAD.map(str::to_owned).into_iter().zip([(1, config.hidden).into(), 1.into()]));
    shapes
}

/// Returns the number of parameters in the value model for a policy with this configuration.
pub fn parameter_count(config: &ModelConfig) -> usize {
    shapes(config).iter().map(|(_, shape)| shape.elem_count()).sum()
}

impl ValueModel {
    /// Copies the weights of a policy and adds a new head: normal weights with standard deviation `scale`, and bias 0. With scale 0, all
    /// initial values are 0 and the first update only has gradients in the head.
    ///
    /// # Errors
    /// If the device has no memory for the copy.
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

    /// Returns all tensors with their names: the body's in the order of [`Weights::entries`], then the head's weight and bias.
    pub fn entries(&self) -> Vec<(String, &Tensor)> {
        entries(&self.body.weights, &self.weight, &self.bias)
    }

    /// Allocates zero gradients for one worker.
    ///
    /// # Errors
    /// If the device has no memory for them.
    pub fn gradients(&self) -> Result<ValueGradients> {
        let body = Weights::zeros(&self.body.config, self.body.kernels())?;
        let zeros = |tensor: &Tensor| Tensor::zeros(tensor.shape(), DType::F32, tensor.device());
        Ok(ValueGradients { body, weight: zeros(&self.weight)?, bias: zeros(&self.bias)? })
    }

    /// Computes the value of every response token of a packed batch, in the order of `Packed::targets`. The value of a token comes from the
    /// row that predicts it.
    ///
    /// # Errors
    /// If a token is outside the vocabulary, a sequence exceeds the context length, or a kernel fails.
    pub fn values(&self, packed: &Packed) -> Result<Vec<f32>> {
        self.values_of(&self.body.hidden(packed)?, packed)
    }

    /// Computes the value of every response token, in the order of `Packed::targets`, from the residual stream after the last block,
    /// `hidden [t, w]`.
    ///
    /// # Errors
    /// If a kernel fails, for example because the device is out of memory.
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

    /// Adds the gradients of all weights to `gradients`. `hidden` and `saved` are the results of [`Decoder::forward`] on the body;
    /// `d_values` has the derivatives of the loss with respect to the values, in the order of `Packed::targets`.
    ///
    /// # Errors
    /// If a kernel fails, for example because the device is out of memory.
    pub fn backward(
        &self,
        hidden: &Tensor,
        packed: &Packed,
        saved: Activations,
        d_values: &[f32],
        gradients: &ValueGradients,
    ) -> Result<()> {
        let (kernels, norm) = (self.body.kernels(), &self.body.weights.norm);
        let d_hidden = hidden.zeros_like()?;
        let mut rest = d_values;
        for (rows, _) in self.body.chunks(packed) {
            let (chunk, after) = rest.split_at(rows.len());
            rest = after;
            let x = kernels.gather(hidden, &kernels.indices(rows)?)?;
            let (normed, inverse_rms) = kernels.rms_norm(&x, norm, self.body.config.norm_eps)?;
            let d_chunk = kernels.cast(&cpu::tensor(chunk.to_vec(), (chunk.len(), 1))?, kernels.dtype())?;
            kernels.add_product_into(&gradients.weight, &d_chunk.t()?, &normed)?;
            let d_normed = kernels.product(&d_chunk, &self.weight, None)?;
            let dx = x.zeros_like()?;
            kernels.rms_norm_backward_into(&dx, &gradients.body.norm, &d_normed, &x, norm, &inverse_rms)?;
            kernels.scatter_add_into(&d_hidden, rows, &dx)?;
        }
        let sum: f64 = d_values.iter().copied().map(f64::from).sum();
        kernels.add_into(&gradients.bias, &Tensor::from_slice(&[sum as f32], 1, kernels.device())?)?;
        self.body.backward(packed, saved, d_hidden, &gradients.body)
    }
}

impl ValueGradients {
    /// Returns all gradients with the names of their parameters, in the order of [`ValueModel::entries`].
    pub fn entries(&self) -> Vec<(String, &Tensor)> {
        entries(&self.body, &self.weight, &self.bias)
    }
}

impl GradientSum for ValueGradients {
    fn tensors(&self) -> Vec<&Tensor> {
        self.entries().into_iter().map(|(_, tensor)| tensor).collect()
    }
}

fn entries<'a>(body: &'a Weights, weight: &'a Tensor, bias: &'a Tensor) -> Vec<(String, &'a Tensor)> {
    let mut entries = body.entries();
    entries.extend(HEAD.map(str::to_owned).into_iter().zip([weight, bias]));
    entries
}

#[cfg(test)]
mod tests;
