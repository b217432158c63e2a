//! One AdamW step (Loshchilov and Hutter 2019) over a parameter and its two moments, all f32.

use candle_core::{Result, Tensor};
use multiversion::multiversion;

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

/// Updates `parameter`, `first` and `second` in place from `gradient`.
pub fn step(parameter: &Tensor, first: &Tensor, second: &Tensor, gradient: &Tensor, step: &Step) -> Result<()> {
    update(first, [gradient], |m, [g]| decay(m, g, step.beta1, step.gradient_scale))?;
    update(second, [gradient], |v, [g]| decay_squares(v, g, step.beta2, step.gradient_scale))?;
    update(parameter, [first, second], |p, [m, v]| apply(p, m, v, step))
}

/// The sum of squares, in f64 and in element order.
pub fn sum_of_squares(gradient: &Tensor) -> Result<f64> {
    read([gradient], |[gradient]| gradient.iter().map(|g| f64::from(*g) * f64::from(*g)).sum())
}

#[multiversion(targets = "simd")]
fn decay(moment: &mut [f32], gradient: &[f32], beta: f64, scale: f32) {
    let (keep, take) = (beta as f32, (1.0 - beta) as f32);
    for (m, g) in moment.iter_mut().zip(gradient) {
        *m = m.mul_add(keep, take * (g * scale));
    }
}

#[multiversion(targets = "simd")]
fn decay_squares(moment: &mut [f32], gradient: &[f32], beta: f64, scale: f32) {
    let (keep, take) = (beta as f32, (1.0 - beta) as f32);
    for (v, g) in moment.iter_mut().zip(gradient) {
        let g = g * scale;
        *v = v.mul_add(keep, take * g * g);
    }
}

#[multiversion(targets = "simd")]
fn apply(parameter: &mut [f32], first: &[f32], second: &[f32], step: &Step) {
    let first_correction = (1.0 - step.beta1.powf(step.count as f64)) as f32;
    let second_correction = (1.0 - step.beta2.powf(step.count as f64)).sqrt() as f32;
    let (keep, rate) = (1.0 - step.lr * step.weight_decay, step.lr / first_correction);
    for ((p, m), v) in parameter.iter_mut().zip(first).zip(second) {
        *p = *p * keep - rate * (m / (v.sqrt() / second_correction + step.eps));
    }
}
