//! One AdamW step (Loshchilov and Hutter 2019) for a parameter and its two moments, all in f32.

use candle_core::{Result, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{read, update};
use crate::kernels::Step;
use crate::kernels::optimizer::Factors;

/// Elements per unit of work. A constant, because it determines the order in which squares are summed.
const CHUNK: usize = 1 << 14;

/// Updates `parameter` and its moments `first` and `second` in place from `gradient`, in one pass over all four. All must have the same
/// number of elements.
///
/// # Errors
/// If a tensor is not a contiguous f32 tensor on the CPU.
pub fn step_in_place(parameter: &Tensor, first: &Tensor, second: &Tensor, gradient: &Tensor, step: &Step) -> Result<()> {
    let mut inner = Ok(());
    update(parameter, [gradient], |p, [g]| {
        let mut innermost = Ok(());
        inner = update(first, [], |m, []| {
            innermost = update(second, [], |v, []| {
                if rayon::current_num_threads() == 1 {
                    return elements(p, m, v, g, step);
                }
                let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
                let chunks = p.par_chunks_mut(CHUNK).zip(moments).zip(g.par_chunks(CHUNK));
                chunks.for_each(|((p, (m, v)), g)| elements(p, m, v, g, step));
            });
        })
        .and(innermost);
    })?;
    inner
}

/// Returns the sum of the squares, in f64. Each chunk has 16 partial sums, and the chunks are added in order.
///
/// # Errors
/// If `gradient` is not a contiguous f32 tensor on the CPU.
pub fn sum_of_squares(gradient: &Tensor) -> Result<f64> {
    read([gradient], |[gradient]| {
        if rayon::current_num_threads() == 1 {
            return gradient.chunks(CHUNK).map(chunk_of_squares).sum();
        }
        let sums: Vec<f64> = gradient.par_chunks(CHUNK).map(chunk_of_squares).collect();
        sums.into_iter().sum()
    })
}

#[multiversion(targets = "simd")]
fn chunk_of_squares(values: &[f32]) -> f64 {
    let mut sums = [0.0f64; 16];
    for chunk in values.chunks(16) {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    sums.iter().sum()
}

/// Applies the step element by element.
#[multiversion(targets = "simd")]
pub(super) fn elements(parameter: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], step: &Step) {
    let Factors { weight_decay_factor, step_size, beta1, one_minus_beta1, beta2, one_minus_beta2, bias_correction2_sqrt } = step.factors();
    for (((p, m), v), g) in parameter.iter_mut().zip(first).zip(second).zip(gradient) {
        let g = g * step.gradient_scale;
        *m = m.mul_add(beta1, one_minus_beta1 * g);
        *v = v.mul_add(beta2, one_minus_beta2 * g * g);
        *p = *p * weight_decay_factor - step_size * (*m / (v.sqrt() / bias_correction2_sqrt + step.eps));
    }
}
