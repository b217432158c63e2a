//! The rotary tables: cosines and sines of every position, in f32 whatever the weights are (in bf16, position 257 would become 256).

use anyhow::Result;
use candle_core::Tensor;

use super::config::{ModelConfig, RopeScaling};
use crate::kernels;

/// Cosine and sine tables, `[positions, d/2]`.
#[derive(Clone, Debug)]
pub struct Rotary {
    /// cos(position * frequency)
    pub cos: Tensor,
    /// sin(position * frequency)
    pub sin: Tensor,
}

impl Rotary {
    /// Tables for the model's whole window.
    pub fn new(config: &ModelConfig) -> Result<Self> {
        let half = config.heads.width / 2;
        let frequencies = frequencies(config);
        let (mut cos, mut sin) = (Vec::with_capacity(config.window * half), Vec::with_capacity(config.window * half));
        for position in 0..config.window {
            for frequency in &frequencies {
                // The angle is rounded to f32 as transformers does; its cosine then in f64.
                let angle = f64::from(position as f32 * frequency);
                cos.push(angle.cos() as f32);
                sin.push(angle.sin() as f32);
            }
        }
        let shape = (config.window, half);
        Ok(Self { cos: kernels::tensor(cos, shape)?, sin: kernels::tensor(sin, shape)? })
    }
}

/// The angle by which each pair of a head turns per position.
fn frequencies(config: &ModelConfig) -> Vec<f32> {
    let width = config.heads.width;
    let plain = (0..width / 2).map(|i| 1.0 / config.rope_theta.powf(2.0 * i as f64 / width as f64));
    plain.map(|frequency| scaled(frequency, config.rope_scaling) as f32).collect()
}

fn scaled(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 { factor, low, high, original } => {
            let wavelength = std::f64::consts::TAU / frequency;
            if wavelength < original / high {
                frequency
            } else if wavelength > original / low {
                frequency / factor
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
    }
}
