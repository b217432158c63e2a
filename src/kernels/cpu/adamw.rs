//! One AdamW step (Loshchilov and Hutter 2019) over a parameter and its two moments, all f32.

use candle_core::{Result, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{read, update};
use crate::kernels::Step;
use crate::kernels::optimizer::Factors;

/// Elements that a thread takes at a time; fixed, because it decides in which order squares are summed.
const CHUNK: usize = 1 << 14;

/// Updates `parameter`, `first` and `second` in place from `gradient`: one pass over all four.
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

/// The sum of squares, in f64: 16 sums side by side in each chunk, then chunk after chunk.
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
    let mut lanes = [0.0f64; 16];
    for chunk in values.chunks(16) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*value) * f64::from(*value);
        }
    }
    lanes.iter().sum()
}

/// The step, element by element.
#[multiversion(targets = "simd")]
pub(super) fn elements(parameter: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], step: &Step) {
    let Factors { keep, rate, keep_first, take_first, keep_second, take_second, second_correction } = step.factors();
    for (((p, m), v), g) in parameter.iter_mut().zip(first).zip(second).zip(gradient) {
        let g = g * step.gradient_scale;
        *m = m.mul_add(keep_first, take_first * g);
        *v = v.mul_add(keep_second, take_second * g * g);
        *p = *p * keep - rate * (*m / (v.sqrt() / second_correction + step.eps));
    }
}
