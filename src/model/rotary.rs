//! Rotary tables: cosines and sines of every position, always in f32, because bf16 would round position 257 to 256.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::config::{ModelConfig, RopeScaling};
use crate::kernels::cpu;

/// Cosine and sine tables, `[positions, d/2]`, in f32.
#[derive(Clone, Debug)]
pub struct Rotary {
    /// `cos(position * frequency)`.
    pub cos: Tensor,
    /// `sin(position * frequency)`.
    pub sin: Tensor,
}

impl Rotary {
    /// Returns the bytes of the tables for the whole context length, their maximum size.
    pub fn bytes(config: &ModelConfig) -> u64 {
        (config.context_length * config.heads.width * size_of::<f32>()) as u64
    }

    /// Computes the tables for positions `0..positions`.
    fn new(config: &ModelConfig, positions: usize) -> Result<Self> {
        let half = config.heads.width / 2;
        let frequencies = frequencies(config);
        let (mut cos, mut sin) = (Vec::with_capacity(positions * half), Vec::with_capacity(positions * half));
        for position in 0..positions {
            for frequency in &frequencies {
                // As in transformers, the angle is rounded to f32. Cosine and sine are computed in f64.
                let angle = f64::from(position as f32 * frequency);
                cos.push(angle.cos() as f32);
                sin.push(angle.sin() as f32);
            }
        }
        let shape = (positions, half);
        Ok(Self { cos: cpu::tensor(cos, shape)?, sin: cpu::tensor(sin, shape)? })
    }

    fn on(&self, device: &Device) -> Result<Self> {
        Ok(Self { cos: self.cos.to_device(device)?, sin: self.sin.to_device(device)? })
    }

    fn positions(&self) -> Result<usize> {
        Ok(self.cos.dim(0)?)
    }
}

/// Number of positions in the first tables, unless the context length is smaller.
const FIRST_POSITIONS: usize = 4096;

/// The tables of a model on a device. They grow with the longest sequence, so a context length of millions costs nothing until it is used.
#[derive(Clone, Debug)]
pub struct RotaryTables {
    device: Device,
    /// Clones share the tables.
    current: Arc<Mutex<Rotary>>,
}

impl RotaryTables {
    /// Computes the tables for the first 4096 positions, or for the context length if it is smaller.
    ///
    /// # Errors
    /// If the device has no memory for them.
    pub fn new(config: &ModelConfig, device: &Device) -> Result<Self> {
        let first = Rotary::new(config, config.context_length.min(FIRST_POSITIONS))?.on(device)?;
        Ok(Self { device: device.clone(), current: Arc::new(Mutex::new(first)) })
    }

    /// Returns tables that cover positions `0..positions`, but no more than the context length.
    ///
    /// # Errors
    /// If the device has no memory for larger tables.
    pub fn covering(&self, config: &ModelConfig, positions: usize) -> Result<Rotary> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let needed = positions.min(config.context_length);
        if current.positions()? < needed {
            *current = Rotary::new(config, needed.next_power_of_two().min(config.context_length))?.on(&self.device)?;
        }
        Ok(current.clone())
    }
}

/// Returns the rotation angle per position for each pair of a head's elements. Every operation rounds to f32 as in transformers, because an
/// error of one bit in a frequency changes the angle at position 2,000 by 1e-4.
fn frequencies(config: &ModelConfig) -> Vec<f32> {
    let width = config.heads.width;
    let exponent = |i: usize| (2 * i) as f32 / width as f32;
    let unscaled = (0..width / 2).map(|i| 1.0 / config.rope_theta.powf(f64::from(exponent(i))) as f32);
    unscaled.map(|frequency| scaled(frequency, config.rope_scaling)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::known_models;

    #[test]
    fn covering_grows_the_tables_and_keeps_their_values() {
        let mut config = known_models::by_name("llama-3.2-3b-instruct").unwrap().read().unwrap();
        config.context_length = 1 << 24;
        let tables = RotaryTables::new(&config, &Device::Cpu).unwrap();
        let rows = |rotary: &Rotary| rotary.cos.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let first = tables.covering(&config, 1).unwrap();
        let grown = tables.clone().covering(&config, 4097).unwrap();
        assert_eq!((first.positions().unwrap(), grown.positions().unwrap()), (4096, 8192));
        assert_eq!(rows(&first)[..], rows(&grown)[..4096 * 64]);
        assert_eq!(tables.covering(&config, 10).unwrap().positions().unwrap(), 8192);
        config.context_length = 9000;
        assert_eq!(tables.covering(&config, 1 << 40).unwrap().positions().unwrap(), 9000);
    }
}
