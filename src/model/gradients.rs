//! The gradients of a backward pass: of all weights, or of LoRA adapters only.

use anyhow::Result;
use candle_core::Tensor;

use super::decoder::{Activations, Decoder};
use super::lora::{AdapterGradients, Lora};
use super::packed::Packed;
use super::weights::Weights;
use crate::kernels::Kernels;

/// Returns the trained parameters with their names: adapters in a LoRA run, otherwise all weights.
pub fn parameters<'a>(policy: &'a Decoder, lora: Option<&'a Lora>) -> Vec<(String, &'a Tensor)> {
    lora.map_or_else(|| policy.weights.entries(), |lora| lora.adapters.entries())
}

/// The summed gradients of one worker, in f32.
pub enum Gradients {
    /// Gradients of all weights.
    Weights(Weights),
    /// Gradients of LoRA adapters.
    Adapters(AdapterGradients),
}

/// Gradients that can be added up.
pub trait GradientSum {
    /// Returns all gradients, in the same order for all values of the same model.
    fn tensors(&self) -> Vec<&Tensor>;

    /// Adds other gradients in place.
    ///
    /// # Errors
    /// If a kernel fails.
    fn add(&self, other: &Self, kernels: &dyn Kernels) -> Result<()> {
        self.tensors().into_iter().zip(other.tensors()).try_for_each(|(target, source)| Ok(kernels.add_into(target, source)?))
    }

    /// Sets all gradients to 0 in place.
    ///
    /// # Errors
    /// If a kernel fails.
    fn clear(&self, kernels: &dyn Kernels) -> Result<()> {
        self.tensors().into_iter().try_for_each(|tensor| Ok(kernels.clear(tensor)?))
    }
}

impl GradientSum for Gradients {
    fn tensors(&self) -> Vec<&Tensor> {
        self.entries().into_iter().map(|(_, tensor)| tensor).collect()
    }
}

impl Gradients {
    /// Allocates zero gradients for the tensors that [`parameters`] returns.
    ///
    /// # Errors
    /// If the device has no memory for them.
    pub fn zeros(policy: &Decoder, lora: Option<&Lora>) -> Result<Self> {
        match lora {
            Some(lora) => Ok(Self::Adapters(lora.gradients()?)),
            None => Ok(Self::Weights(Weights::zeros(&policy.config, policy.kernels())?)),
        }
    }

    /// Returns all gradients with the names of their parameters, in the order of [`parameters`].
    pub fn entries(&self) -> Vec<(String, &Tensor)> {
        match self {
            Self::Weights(weights) => weights.entries(),
            Self::Adapters(adapters) => adapters.sums.entries(),
        }
    }

    /// Returns the gradients for [`Decoder::head_forward_backward`]; `None` for adapters, with which the head is frozen.
    pub fn of_head(&self) -> Option<&Weights> {
        match self {
            Self::Weights(weights) => Some(weights),
            Self::Adapters(_) => None,
        }
    }

    /// Runs the backward pass below the head and adds its gradients. `d_hidden [t, w]` is the gradient of the residual stream after the
    /// last block.
    ///
    /// # Errors
    /// If a kernel fails, for example because the device is out of memory.
    pub fn backward(&self, decoder: &Decoder, packed: &Packed, saved: Activations, d_hidden: Tensor) -> Result<()> {
        match self {
            Self::Weights(weights) => decoder.backward(packed, saved, d_hidden, weights),
            Self::Adapters(adapters) => adapters.backward(decoder, packed, saved, &d_hidden),
        }
    }
}
