//! One AdamW step with moments quantized to 8 bits (Dettmers et al. 2021). An element is one of 256 values between -1 and 1, given by its
//! code, times the scale of its block of 256 elements. `cuda/adamw.cuh` explains how the values are chosen and why second moments are
//! rounded stochastically; the arithmetic here is the same, in the same order.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::adamw::elements;
use super::update;
use crate::kernels::on_host;
use crate::kernels::optimizer::{QUANTIZATION_BLOCK, QUANTIZATION_MAPS, QuantizationMap, Quantized, Step};
use crate::rng::philox;

/// Minimum number of blocks per thread.
const BLOCKS_AT_ONCE: usize = 64;
/// Elements per call of the random number generator, which returns 16 bits for each of them.
const PER_CALL: usize = 8;
/// The generator's key.
const KEY: [u32; 2] = [0x8b175, 0xada];

/// A moment copied to the host, so that loops can change it.
struct HostMoment {
    codes: Vec<u8>,
    scales: Vec<f32>,
}

impl HostMoment {
    fn of(moment: &Quantized) -> Result<Self> {
        Ok(Self { codes: on_host(&moment.codes)?.to_vec1()?, scales: on_host(&moment.scales)?.to_vec1()? })
    }

    fn write_to(self, moment: &Quantized) -> Result<()> {
        let (codes, scales) = (self.codes.len(), self.scales.len());
        moment.set(&Quantized {
            codes: Tensor::from_vec(self.codes, codes, &Device::Cpu)?,
            scales: Tensor::from_vec(self.scales, scales, &Device::Cpu)?,
        })
    }

    fn blocks(&mut self) -> impl IndexedParallelIterator<Item = (&mut [u8], &mut f32)> {
        self.codes.par_chunks_mut(QUANTIZATION_BLOCK).zip(&mut self.scales)
    }
}

/// Updates `parameter` and its two moments in place from `gradient`. Parameter and gradient are f32 on the CPU; the moments may be on any
/// device. Blocks are independent, so the number of threads does not change any bit.
///
/// # Errors
/// If `parameter` or `gradient` is not a contiguous f32 tensor on the CPU, or a device fails.
pub fn step_in_place(parameter: &Tensor, first: &Quantized, second: &Quantized, gradient: &Tensor, step: &Step) -> Result<()> {
    let (mut first_on_host, mut second_on_host) = (HostMoment::of(first)?, HostMoment::of(second)?);
    update(parameter, [gradient], |parameter, [gradient]| {
        let values = parameter.par_chunks_mut(QUANTIZATION_BLOCK).zip(gradient.par_chunks(QUANTIZATION_BLOCK));
        let blocks = values.zip(first_on_host.blocks().zip(second_on_host.blocks())).enumerate();
        blocks.with_min_len(BLOCKS_AT_ONCE).for_each(|(block, ((p, g), (m, v)))| step_block(block, p, m, v, g, step));
    })?;
    first_on_host.write_to(first)?;
    second_on_host.write_to(second)
}

fn step_block(
    block: usize,
    parameter: &mut [f32],
    (first_codes, first_scale): (&mut [u8], &mut f32),
    (second_codes, second_scale): (&mut [u8], &mut f32),
    gradient: &[f32],
    step: &Step,
) {
    let [first_map, second_map] = &*QUANTIZATION_MAPS;
    let count = parameter.len();
    let (mut first, mut second) = ([0.0; QUANTIZATION_BLOCK], [0.0; QUANTIZATION_BLOCK]);
    let (first, second) = (&mut first[..count], &mut second[..count]);
    first.iter_mut().zip(&*first_codes).for_each(|(m, code)| *m = first_map[usize::from(*code)] * *first_scale);
    second.iter_mut().zip(&*second_codes).for_each(|(v, code)| *v = second_map[usize::from(*code)] * *second_scale);
    elements(parameter, first, second, gradient, step);
    let largest = |values: &[f32]| values.iter().fold(0.0f32, |top, x| top.max(x.abs()));
    (*first_scale, *second_scale) = (largest(first), largest(second));
    let fraction = |x: f32, scale: f32| if scale > 0.0 { x / scale } else { 0.0 };
    for (m, code) in first.iter().zip(first_codes) {
        *code = nearest_code(first_map, fraction(*m, *first_scale)) as u8;
    }
    for (index, (values, codes)) in second.chunks(PER_CALL).zip(second_codes.chunks_mut(PER_CALL)).enumerate() {
        let at = (block * QUANTIZATION_BLOCK + index * PER_CALL) as u64;
        let words = philox([at as u32, (at >> 32) as u32, step.count as u32, 0], KEY);
        for (j, (v, code)) in values.iter().zip(codes).enumerate() {
            *code = stochastic_code(second_map, fraction(*v, *second_scale), (words[j / 2] >> (16 * (j % 2))) as u16) as u8;
        }
    }
}

/// Returns the code of the largest value that is at most `x`, or 0 if there is none.
fn code_below(map: &QuantizationMap, x: f32) -> usize {
    let (mut code, mut half) = (0, QUANTIZATION_BLOCK / 2);
    while half > 0 {
        code += if map[code + half] <= x { half } else { 0 };
        half /= 2;
    }
    code
}

fn nearest_code(map: &QuantizationMap, x: f32) -> usize {
    let code = code_below(map, x);
    let is_above = code + 1 < QUANTIZATION_BLOCK && map[code + 1] - x < x - map[code];
    code + usize::from(is_above)
}

/// Rounds `x` stochastically to one of the two neighboring codes, so that the expected value is `x`; `random` is uniform. Values
/// between those of code 0 and code 1 become code 1, so that no positive moment vanishes. The same as `stochastic_code` in `cuda/adamw.cuh`.
fn stochastic_code(map: &QuantizationMap, x: f32, random: u16) -> usize {
    let code = code_below(map, x);
    if code + 1 == QUANTIZATION_BLOCK || x <= 0.0 {
        return code;
    }
    let is_above = f32::from(random) < (x - map[code]) / (map[code + 1] - map[code]) * 65536.0;
    if code == 0 { 1 } else { code + usize::from(is_above) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantization_maps_ascend_and_round_trip() {
        for map in QUANTIZATION_MAPS.iter() {
            assert!(map.windows(2).all(|pair| pair[0] < pair[1]));
            assert!((0..QUANTIZATION_BLOCK).all(|code| nearest_code(map, map[code]) == code && stochastic_code(map, map[code], 0) == code));
        }
        let [first, second] = &*QUANTIZATION_MAPS;
        assert_eq!((first[0], first[127], first[255]), (-0.992_968_75, 0.0, 1.0));
        assert_eq!((second[0], second[1], second[255]), (0.0, 3.25e-7, 1.0));
    }

    #[test]
    fn nearest_code_minimizes_the_distance() {
        let map = &QUANTIZATION_MAPS[0];
        for i in -1000..=1000 {
            let x = i as f32 / 1000.0;
            let found = (map[nearest_code(map, x)] - x).abs();
            assert!(map.iter().all(|value| found <= (value - x).abs()), "{x}");
        }
    }

    #[test]
    fn stochastic_code_is_unbiased_and_never_zero() {
        let map = &QUANTIZATION_MAPS[1];
        for x in [1e-9f32, 4e-7, 0.001_234, 0.25, 0.9999] {
            let codes = (0..=u16::MAX).map(|random| stochastic_code(map, x, random));
            let mean = codes.clone().map(|code| f64::from(map[code])).sum::<f64>() / 65536.0;
            assert!(codes.clone().all(|code| code > 0 && (x < map[1] || map[code - 1] <= x)));
            let expected = f64::from(x.max(map[1]));
            assert!((mean - expected).abs() < 2e-5 * expected, "{x}: the mean is {mean}");
        }
        assert_eq!(stochastic_code(map, 0.0, 0), 0);
    }
}
