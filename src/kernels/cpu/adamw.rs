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

/// A step's numbers as they multiply: what every version of the step computes with.
#[derive(Clone, Copy, Debug)]
pub struct Factors {
    /// What weight decay leaves of the parameter.
    pub keep: f32,
    /// Learning rate over the first moment's correction.
    pub rate: f32,
    /// What the first moment keeps.
    pub keep_first: f32,
    /// What it takes of the gradient.
    pub take_first: f32,
    /// What the second moment keeps.
    pub keep_second: f32,
    /// What it takes of the gradient's square.
    pub take_second: f32,
    /// The root of the second moment is divided by it.
    pub second_correction: f32,
}

impl Step {
    /// The numbers that elements are multiplied with.
    pub fn factors(&self) -> Factors {
        let corrections = [self.beta1, self.beta2].map(|beta| 1.0 - beta.powf(self.count as f64));
        Factors {
            keep: 1.0 - self.lr * self.weight_decay,
            rate: self.lr / corrections[0] as f32,
            keep_first: self.beta1 as f32,
            take_first: (1.0 - self.beta1) as f32,
            keep_second: self.beta2 as f32,
            take_second: (1.0 - self.beta2) as f32,
            second_correction: corrections[1].sqrt() as f32,
        }
    }
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
