//! Compares optimizer steps, with moments in f32 and in 8 bits, with f64, and the codes of every backend with those of the plain loops.

use candle_core::{DType, Device, Result, Tensor};

use super::Bench;
use crate::kernels::cpu::testing::random;
use crate::kernels::optimizer::{QUANTIZATION_BLOCK, QUANTIZATION_MAPS, QuantizationMap};
use crate::kernels::{Cpu, Kernels, Moments, Parameter, Quantized, Step, on_host};

impl Bench<'_> {
    pub fn optimizer(&mut self, count: usize) -> Result<()> {
        let kernels = self.kernels;
        let (gradient, start, first) = (self.random_f32(count, 1)?, self.random_f32(count, 2)?, self.random_f32(count, 3)?);
        let second = self.put(&random(count, 4).sqr()?, DType::F32)?;
        let weight = start.tensor.to_dtype(kernels.dtype())?;
        let master = (kernels.dtype() != DType::F32).then_some(&start.tensor);
        let weight = if master.is_some() { &weight } else { &start.tensor };
        let squares = kernels.sum_of_squares(&gradient.tensor)?;
        self.outcome_of_slice(&format!("sum_of_squares of {count}"), vec![gradient.exact.iter().map(|g| g * g).sum()], &[squares as f32]);
        let (mut p, mut m, mut v) = (start.exact.clone(), first.exact.clone(), second.exact.clone());
        exact_step(&mut p, &mut m, &mut v, &gradient.exact);
        let moments = Moments::Full { first: first.tensor.clone(), second: second.tensor.clone() };
        kernels.adamw_in_place(&Parameter { weight, master, moments: &moments, gradient: &gradient.tensor }, &STEP)?;
        self.outcome(&format!("adamw of {count}"), count, p.clone(), weight)?;
        self.outcome(&format!("adamw of {count}, master"), count, p, master.unwrap_or(weight))?;
        self.outcome(&format!("adamw of {count}, first moment"), count, m, &first.tensor)?;
        self.outcome(&format!("adamw of {count}, second moment"), count, v, &second.tensor)?;
        let exact = gradient.exact.iter().zip(&first.exact).map(|(g, _)| *g).collect::<Vec<_>>();
        let other = self.random_f32(count, 9)?;
        kernels.add_into(&other.tensor, &gradient.tensor)?;
        let exact = exact.iter().zip(&other.exact).map(|(g, o)| g + o).collect();
        self.outcome(&format!("add_into of {count}"), count, exact, &other.tensor)?;
        kernels.clear(&other.tensor)?;
        self.outcome(&format!("clear of {count}"), count, vec![0.0; count], &other.tensor)
    }

    /// Runs one step with quantized moments. Weights and scales must be exact, and moments within the distance between two codes.
    pub fn quantized_optimizer(&mut self, count: usize) -> Result<()> {
        let kernels = self.kernels;
        let (gradient, start) = (self.put(&spread(count, 1)?, DType::F32)?, self.random_f32(count, 2)?);
        let (first, second) = (random_quantized(count, 3, kernels.device())?, random_quantized(count, 4, kernels.device())?);
        let ([first_map, second_map], [mut m, mut v]) =
            (&*QUANTIZATION_MAPS, [dequantized(&first, &QUANTIZATION_MAPS[0])?, dequantized(&second, &QUANTIZATION_MAPS[1])?]);
        let weight = start.tensor.to_dtype(kernels.dtype())?;
        let master = (kernels.dtype() != DType::F32).then_some(&start.tensor);
        let weight = if master.is_some() { &weight } else { &start.tensor };
        let mut p = start.exact.clone();
        exact_step(&mut p, &mut m, &mut v, &gradient.exact);
        let moments = Moments::Quantized { first: first.clone(), second: second.clone() };
        kernels.adamw_in_place(&Parameter { weight, master, moments: &moments, gradient: &gradient.tensor }, &STEP)?;
        self.outcome(&format!("8-bit adamw of {count}"), count, p.clone(), weight)?;
        self.outcome(&format!("8-bit adamw of {count}, master"), count, p, master.unwrap_or(weight))?;
        for (name, moment, exact, map, apart) in [("first", &first, &m, first_map, 0.5), ("second", &second, &v, second_map, 1.0)] {
            let largest = |block: &[f64]| block.iter().fold(0.0, |top: f64, x| top.max(x.abs()));
            let scales: Vec<f64> = exact.chunks(QUANTIZATION_BLOCK).map(largest).collect();
            self.outcome(&format!("8-bit adamw of {count}, scales of the {name} moment"), 1, scales.clone(), &moment.scales)?;
            for (i, (found, exact)) in dequantized(moment, map)?.into_iter().zip(exact).enumerate() {
                let scale = scales[i / QUANTIZATION_BLOCK];
                let above = map.iter().position(|value| f64::from(*value) * scale > *exact).unwrap_or(QUANTIZATION_BLOCK - 1).max(1);
                let gap = f64::from(map[above] - map[above - 1]) * scale;
                let distance = (found - exact).abs();
                assert!(distance <= (apart + 1e-3) * gap, "element {i} of {count}: the {name} moment is {found}, expected {exact}");
            }
        }
        Ok(())
    }
}

/// The hyperparameters of the tested steps.
const STEP: Step = Step { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, gradient_scale: 0.5, count: 3 };

/// Applies [`STEP`] in f64.
fn exact_step(parameter: &mut [f64], first: &mut [f64], second: &mut [f64], gradient: &[f64]) {
    for (((p, m), v), g) in parameter.iter_mut().zip(first).zip(second).zip(gradient) {
        let g = g * 0.5;
        *m = 0.9 * *m + 0.1 * g;
        *v = 0.999 * *v + 0.001 * g * g;
        let (m_hat, v_hat) = (*m / (1.0 - 0.9f64.powi(3)), *v / (1.0 - 0.999f64.powi(3)));
        *p = *p * (1.0 - 0.01 * 0.1) - 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
    }
}

/// From the same state, every backend writes the same codes as the plain loops, over ten steps. At most one element in a thousand may have the
/// neighboring code, because it is on the boundary between two codes, where the last bit decides.
pub fn codes(bench: &mut Bench) -> Result<()> {
    bench.assertions("8-bit adamw's codes of 4999", |bench| check_codes(bench.kernels, 4999));
    Ok(())
}

fn check_codes(kernels: &dyn Kernels, count: usize) -> Result<()> {
    let (weight, first, second) = (random(count, 2), Quantized::zeros(count, &Device::Cpu)?, Quantized::zeros(count, &Device::Cpu)?);
    let plain = Moments::Quantized { first: first.clone(), second: second.clone() };
    for number in 1..=10 {
        let device = kernels.device();
        let (other_first, other_second) = (Quantized::zeros(count, device)?, Quantized::zeros(count, device)?);
        other_first.set(&first)?;
        other_second.set(&second)?;
        let (gradient, step) = (spread(count, 10 + number)?, Step { count: number, ..STEP });
        let other_weight = weight.copy()?.to_device(device)?;
        let moments = Moments::Quantized { first: other_first.clone(), second: other_second.clone() };
        let other = Parameter { weight: &other_weight, master: None, moments: &moments, gradient: &gradient.to_device(device)? };
        kernels.adamw_in_place(&other, &step)?;
        Cpu.adamw_in_place(&Parameter { weight: &weight, master: None, moments: &plain, gradient: &gradient }, &step)?;
        let far = |a: Vec<f32>, b: Vec<f32>| a.iter().zip(&b).fold(0.0f32, |far, (a, b)| far.max((a - b).abs() / a.abs().max(1e-2)));
        assert!(far(on_host(&weight)?.to_vec1()?, on_host(&other_weight)?.to_vec1()?) < 1e-5, "weights after step {number}");
        for (expected, found) in [(&first, other_first), (&second, other_second)] {
            assert!(far(expected.scales.to_vec1()?, on_host(&found.scales)?.to_vec1()?) < 1e-6, "scales after step {number}");
            let codes = expected.codes.to_vec1::<u8>()?.into_iter().zip(on_host(&found.codes)?.to_vec1::<u8>()?);
            let others: Vec<u8> = codes.map(|(a, b)| a.abs_diff(b)).filter(|apart| *apart > 0).collect();
            assert!(others.len() <= count / 1000 && others.iter().all(|apart| *apart == 1), "step {number}: codes differ by {others:?}");
        }
    }
    Ok(())
}

/// Returns values of both signs whose magnitudes span four decades.
fn spread(count: usize, seed: u64) -> Result<Tensor> {
    random(count, seed) * (random(count, seed + 100) * 4.6)?.exp()?
}

/// Returns a moment of random codes, with scales between 0 and 2.
fn random_quantized(count: usize, seed: u64, device: &Device) -> Result<Quantized> {
    let codes = ((random(count, seed) + 1.0)? * 128.0)?.to_dtype(DType::U8)?;
    Ok(Quantized {
        codes: codes.to_device(device)?,
        scales: (random(count.div_ceil(QUANTIZATION_BLOCK), seed + 1) + 1.0)?.to_device(device)?,
    })
}

fn dequantized(moment: &Quantized, map: &QuantizationMap) -> Result<Vec<f64>> {
    let (codes, scales) = (on_host(&moment.codes)?.to_vec1::<u8>()?, on_host(&moment.scales)?.to_vec1::<f32>()?);
    Ok(codes.iter().enumerate().map(|(i, code)| f64::from(map[usize::from(*code)]) * f64::from(scales[i / QUANTIZATION_BLOCK])).collect())
}
