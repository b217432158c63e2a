//! The rotary tables: cosines and sines of every position, in f32 whatever the weights are (in bf16, position 257 would become 256).

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::config::{ModelConfig, RopeScaling};
use crate::kernels::cpu;

/// Cosine and sine tables, `[positions, d/2]`.
#[derive(Clone, Debug)]
pub struct Rotary {
    /// cos(position * frequency)
    pub cos: Tensor,
    /// sin(position * frequency)
    pub sin: Tensor,
}

impl Rotary {
    /// Bytes of the tables.
    pub fn bytes(config: &ModelConfig) -> u64 {
        (config.window * config.heads.width * size_of::<f32>()) as u64
    }

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
        Ok(Self { cos: cpu::tensor(cos, shape)?, sin: cpu::tensor(sin, shape)? })
    }

    /// The same tables on a device.
    pub fn on(&self, device: &Device) -> Result<Self> {
        Ok(Self { cos: self.cos.to_device(device)?, sin: self.sin.to_device(device)? })
    }
}

/// The angle by which each pair of a head turns per position. Every operation rounds to f32 as transformers' do: a frequency that is off by
/// one bit is an angle that is off by 1e-4 at position 2,000.
fn frequencies(config: &ModelConfig) -> Vec<f32> {
    let width = config.heads.width;
    let exponent = |i: usize| (2 * i) as f32 / width as f32;
    let plain = (0..width / 2).map(|i| 1.0 / config.rope_theta.powf(f64::from(exponent(i))) as f32);
    plain.map(|frequency| scaled(frequency, config.rope_scaling)).collect()
}

fn scaled(frequency: f32, scaling: RopeScaling) -> f32 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor as f32,
        RopeScaling::Llama3 { factor, low, high, original } => {
            let wavelength = std::f32::consts::TAU / frequency;
            if f64::from(wavelength) < original / high {
                frequency
            } else if f64::from(wavelength) > original / low {
                frequency / factor as f32
            } else {
                let smooth = (original as f32 / wavelength - low as f32) / (high - low) as f32;
                (1.0 - smooth) * frequency / factor as f32 + smooth * frequency
            }
        }
    }
}
