//! Checks after every update and before every write that weights and moments are finite and not too large to compute with.

use std::fmt;

use anyhow::Result;
use candle_core::{DType, Tensor};

use super::Run;
use crate::kernels::{Kernels, Moments};
use crate::model::gradients::parameters;
use crate::optim::AdamW;

/// The error of a run that cannot continue, because an update destroyed the policy or several consecutive updates were skipped.
#[derive(Debug)]
pub(super) struct Diverged(pub(super) String);

impl fmt::Display for Diverged {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Diverged {}

impl Run<'_> {
    /// Fails if an update has made weights of the policy or the critic non-finite or too large.
    pub(super) fn ensure_weights(&self) -> Result<()> {
        let decoder = &self.inputs.model.decoder;
        ensure_parameters("the weights", decoder.kernels(), &self.optimizer, &parameters(decoder, self.lora.as_ref()))?;
        let Some(critic) = &self.critic else { return Ok(()) };
        ensure_parameters("the critic's weights", decoder.kernels(), &critic.optimizer, &critic.model.entries())
    }

    /// Fails if any tensor that a checkpoint stores, except a moving reference, is non-finite or too large.
    pub(super) fn ensure_state(&self) -> Result<()> {
        self.ensure_weights()?;
        let decoder = &self.inputs.model.decoder;
        if self.lora.is_some() {
            // The exported model has the adapters merged into the base weights.
            let merged = decoder.weights.entries();
            merged.iter().try_for_each(|(name, tensor)| ensure_finite_norm(decoder.kernels(), "the merged weights", name, tensor))?;
        }
        ensure_moments("the moments", decoder.kernels(), &self.optimizer)?;
        self.critic.as_ref().map_or(Ok(()), |critic| ensure_moments("the critic's moments", decoder.kernels(), &critic.optimizer))
    }
}

/// Checks master weights instead of their rounded copies, if there are any. Skips frozen parameters, which no update changes.
fn ensure_parameters(what: &str, kernels: &dyn Kernels, optimizer: &AdamW, parameters: &[(String, &Tensor)]) -> Result<()> {
    parameters.iter().try_for_each(|(name, tensor)| match optimizer.state(name) {
        Some(state) => ensure_finite_norm(kernels, what, name, state.master.as_ref().unwrap_or(tensor)),
        None => Ok(()),
    })
}

fn ensure_moments(what: &str, kernels: &dyn Kernels, optimizer: &AdamW) -> Result<()> {
    for state in &optimizer.states {
        let tensors = match &state.moments {
            Moments::Full { first, second } => [first, second],
            Moments::Quantized { first, second } => [&first.scales, &second.scales],
        };
        tensors.iter().try_for_each(|tensor| ensure_finite_norm(kernels, what, &state.name, tensor))?;
    }
    Ok(())
}

/// Fails unless the sum of the tensor's squares is a finite f32. Larger weights may be finite themselves (a learning rate of 1e38 produces
/// some), but norms computed from them in f32 are not.
fn ensure_finite_norm(kernels: &dyn Kernels, what: &str, name: &str, tensor: &Tensor) -> Result<()> {
    let wide = kernels.cast(tensor, DType::F32)?;
    let squares = kernels.sum_of_squares(&wide)?;
    if squares <= f64::from(f32::MAX) {
        return Ok(());
    }
    let size = if squares.is_finite() { format!("have grown to a norm of {:.1e}", squares.sqrt()) } else { "are not finite".to_owned() };
    Err(Diverged(format!("{what} of {name} {size}")).into())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::kernels::Cpu;

    #[test]
    fn ensure_finite_norm_rejects_nan_infinity_and_overflowing_norms() {
        let check = |values: &[f32], expected: Option<&str>| {
            let tensor = Tensor::new(values, &Device::Cpu).unwrap();
            let found = ensure_finite_norm(&Cpu, "the weights", "layers.0.qkv", &tensor).err().map(|error| error.to_string());
            assert_eq!(found.as_deref(), expected);
        };
        check(&[0.5, -3.0, 0.0], None);
        check(&[1e18, -1e18], None);
        check(&[1.0, f32::NAN], Some("the weights of layers.0.qkv are not finite"));
        check(&[f32::NEG_INFINITY], Some("the weights of layers.0.qkv are not finite"));
        check(&[1e38, 0.0], Some("the weights of layers.0.qkv have grown to a norm of 1.0e38"));
    }
}
