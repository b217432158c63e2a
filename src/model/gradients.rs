//! Where backward passes leave their gradients: those of all weights, or those of adapters.

use anyhow::Result;
use candle_core::Tensor;

use super::decoder::{Decoder, Trace};
use super::lora::{AdapterGradients, Lora};
use super::packed::Packed;
use super::weights::Weights;
use crate::kernels::Kernels;

/// What is trained, by name: the adapters where there are any, else all weights.
pub fn parameters<'a>(policy: &'a Decoder, lora: Option<&'a Lora>) -> Vec<(String, &'a Tensor)> {
    lora.map_or_else(|| policy.weights.entries(), |lora| lora.adapters.entries())
}

/// The sums of one worker.
pub enum Gradients {
    /// Of all weights.
    Weights(Weights),
    /// Of adapters.
    Adapters(AdapterGradients),
}

impl Gradients {
    /// Zeros for what `parameters` gives.
    pub fn zeros(policy: &Decoder, lora: Option<&Lora>) -> Result<Self> {
        match lora {
            Some(lora) => Ok(Self::Adapters(lora.gradients()?)),
            None => Ok(Self::Weights(Weights::zeros(&policy.config, policy.kernels())?)),
        }
    }

    /// Every gradient with its parameter's name, in the order of `parameters`.
    pub fn entries(&self) -> Vec<(String, &Tensor)> {
        match self {
            Self::Weights(weights) => weights.entries(),
            Self::Adapters(adapters) => adapters.sums.entries(),
        }
    }

    /// Where `Decoder::head_sweep` adds the gradients of the head, if it is trained.
    pub fn of_head(&self) -> Option<&Weights> {
        match self {
            Self::Weights(weights) => Some(weights),
            Self::Adapters(_) => None,
        }
    }

    /// Adds the gradients of everything below the head, given `d_hidden [t, w]`, which is used up.
    pub fn backward(&self, decoder: &Decoder, packed: &Packed, trace: Trace, d_hidden: Tensor) -> Result<()> {
        match self {
            Self::Weights(weights) => decoder.backward(packed, trace, d_hidden, weights),
            Self::Adapters(adapters) => adapters.backward(decoder, packed, trace, &d_hidden),
        }
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
