//! Weights to start from: random, as the published architectures are initialised.

use anyhow::Result;

use super::config::ModelConfig;
use super::weights::Weights;
use crate::draw::{Purpose, Stream};
use crate::kernels;

/// Normal weights of standard deviation `scale`, norms 1, biases 0; each tensor is an addressed stream of its own.
pub fn random(config: &ModelConfig, seed: u64, scale: f32) -> Result<Weights> {
    let mut index = 0;
    Weights::build(config, |name, shape| {
        let mut stream = Stream::new(seed, Purpose::Initial, index);
        index += 1;
        let values = (0..shape.elem_count()).map(|_| {
            if name.ends_with("norm") {
                1.0
            } else if name.ends_with("bias") {
                0.0
            } else {
                stream.normal() * scale
            }
        });
        Ok(kernels::tensor(values.collect(), shape)?)
    })
}
