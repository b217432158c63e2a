//! RMSNorm (Zhang and Sennrich 2019): `y = x / sqrt(mean(x^2) + eps) * weight`, row by row.

use candle_core::{Result, Tensor};
use multiversion::multiversion;

use super::{for_rows, for_rows_with_cost, read, tensor, update, vector};

/// Normalizes each row of `x [t, n]` and scales it by `weight [n]`. Returns `(y [t, n], inverse_rms [t])`. The backward pass needs
/// `inverse_rms`.
///
/// # Errors
/// If a tensor is not a contiguous f32 tensor on the CPU, or `x` is not a matrix.
pub fn forward(x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)> {
    let (rows, width) = x.dims2()?;
    let (y, inverse_rms) = read([x, weight], |[x, weight]| {
        let (mut y, mut inverse_rms) = (vec![0.0; x.len()], vec![0.0; rows]);
        for_rows_with_cost(&mut inverse_rms, 1, width, |first, inverse_rms| inverse_rows(&x[first * width..], width, eps, inverse_rms));
        for_rows(&mut y, width, |first, y| forward_rows(&x[first * width..], weight, &inverse_rms[first..], y));
        (y, inverse_rms)
    })?;
    Ok((tensor(y, (rows, width))?, tensor(inverse_rms, rows)?))
}

/// Adds the gradient of `x` to `dx [t, n]` and the gradient of the weight to `weight_gradient [n]`, from `dy [t, n]`.
///
/// # Errors
/// If a tensor is not a contiguous f32 tensor on the CPU.
pub fn backward_into(dx: &Tensor, weight_gradient: &Tensor, dy: &Tensor, x: &Tensor, weight: &Tensor, inverse_rms: &Tensor) -> Result<()> {
    update(weight_gradient, [dy, x, inverse_rms], |gradient, [dy, x, inverse_rms]| weight_rows(gradient, dy, x, inverse_rms))?;
    update(dx, [dy, x, weight, inverse_rms], |dx, [dy, x, weight, inverse_rms]| {
        let width = weight.len();
        for_rows(dx, width, |first, dx| backward_rows(dx, &dy[first * width..], &x[first * width..], weight, &inverse_rms[first..]));
    })
}

#[multiversion(targets = "simd")]
fn inverse_rows(x: &[f32], width: usize, eps: f32, inverse_rms: &mut [f32]) {
    for (x, inverse) in x.chunks_exact(width).zip(inverse_rms) {
        *inverse = 1.0 / (vector::dot(x, x) / width as f32 + eps).sqrt();
    }
}

#[multiversion(targets = "simd")]
fn forward_rows(x: &[f32], weight: &[f32], inverse_rms: &[f32], y: &mut [f32]) {
    let width = weight.len();
    for ((x, y), inverse) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(inverse_rms) {
        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * *inverse * w;
        }
    }
}

#[multiversion(targets = "simd")]
fn weight_rows(gradient: &mut [f32], dy: &[f32], x: &[f32], inverse_rms: &[f32]) {
    let width = gradient.len();
    for ((dy, x), inverse) in dy.chunks_exact(width).zip(x.chunks_exact(width)).zip(inverse_rms) {
        for ((g, dy), x) in gradient.iter_mut().zip(dy).zip(x) {
            *g = (dy * x).mul_add(*inverse, *g);
        }
    }
}

/// With n = x r and g = dy w: dx = r (g - n mean(g n)).
#[multiversion(targets = "simd")]
fn backward_rows(dx: &mut [f32], dy: &[f32], x: &[f32], weight: &[f32], inverse_rms: &[f32]) {
    let width = weight.len();
    for (((dx, dy), x), r) in dx.chunks_exact_mut(width).zip(dy.chunks_exact(width)).zip(x.chunks_exact(width)).zip(inverse_rms) {
        let (dy, x) = (&dy[..width], &x[..width]);
        let mean = vector::sum(width, |i| dy[i] * weight[i] * x[i]) * r / width as f32;
        for i in 0..width {
            dx[i] += r * (dy[i] * weight[i] - x[i] * r * mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::testing::{check_gradient, random, total};

    #[test]
    fn backward_into_equals_finite_differences() -> Result<()> {
        for (rows, width) in [(1, 1), (3, 16), (2, 65)] {
            let (x, weight, dy) = (random((rows, width), 1), random(width, 2), random((rows, width), 3));
            let (_, inverse_rms) = forward(&x, &weight, 1e-5)?;
            let (dx, dw) = (x.zeros_like()?, weight.zeros_like()?);
            backward_into(&dx, &dw, &dy, &x, &weight, &inverse_rms)?;
            check_gradient(&x, &dx, |x| total(&(forward(x, &weight, 1e-5)?.0 * &dy)?))?;
            check_gradient(&weight, &dw, |w| total(&(forward(&x, w, 1e-5)?.0 * &dy)?))?;
        }
        Ok(())
    }
}
