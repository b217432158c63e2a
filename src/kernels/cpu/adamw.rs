//! One AdamW step (Loshchilov and Hutter 2019) over a parameter and its two moments, all f32.

use candle_core::{Result, Tensor};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{read, update};

/// The numbers of one step, the same for every parameter.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment. In f64: 1 - 0.999 in f32 is off by 5e-5 of itself.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay: a share `lr * weight_decay` of the parameter is removed.
    pub weight_decay: f32,
    /// What each gradient is multiplied with first: the clip of the global norm.
    pub gradient_scale: f32,
    /// Which step this is, from 1: corrects the moments' bias.
    pub count: u64,
}

/// Elements that a thread takes at a time; fixed, because it decides in which order squares are summed.
const CHUNK: usize = 1 << 14;

/// Updates `parameter`, `first` and `second` in place from `gradient`: one pass over all four.
pub fn step(parameter: &Tensor, first: &Tensor, second: &Tensor, gradient: &Tensor, step: &Step) -> Result<()> {
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

#[multiversion(targets = "simd")]
fn elements(parameter: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], step: &Step) {
    let first_correction = (1.0 - step.beta1.powf(step.count as f64)) as f32;
    let second_correction = (1.0 - step.beta2.powf(step.count as f64)).sqrt() as f32;
    let (keep, rate) = (1.0 - step.lr * step.weight_decay, step.lr / first_correction);
    let ((keep_first, take_first), (keep_second, take_second)) = (shares(step.beta1), shares(step.beta2));
    for (((p, m), v), g) in parameter.iter_mut().zip(first).zip(second).zip(gradient) {
        let g = g * step.gradient_scale;
        *m = m.mul_add(keep_first, take_first * g);
        *v = v.mul_add(keep_second, take_second * g * g);
        *p = *p * keep - rate * (*m / (v.sqrt() / second_correction + step.eps));
    }
}

/// What a moment keeps and what it takes.
fn shares(beta: f64) -> (f32, f32) {
    (beta as f32, (1.0 - beta) as f32)
}
