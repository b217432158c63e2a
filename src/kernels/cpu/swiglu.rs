//! SwiGLU, the activation of the feed-forward layer: `silu(gate) * up` (Shazeer 2020). One product computes gate and up side by side.

use candle_core::{Result, Tensor};
use multiversion::multiversion;

use super::{for_rows, read, tensor, vector};

/// Returns `silu(gate) * up`, `[t, f]`, from `gate_up [t, 2 f]`.
///
/// # Errors
/// If `gate_up` is not a contiguous f32 matrix on the CPU.
pub fn forward(gate_up: &Tensor) -> Result<Tensor> {
    let (rows, width) = gate_up.dims2()?;
    let values = read([gate_up], |[gate_up]| {
        let mut out = vec![0.0; gate_up.len() / 2];
        for_rows(&mut out, width / 2, |first, out| forward_rows(&gate_up[first * width..], width / 2, out));
        out
    })?;
    tensor(values, (rows, width / 2))
}

/// Returns the gradient of `gate_up [t, 2 f]` from the gradient of the output, `dy [t, f]`.
///
/// # Errors
/// If a tensor is not a contiguous f32 tensor on the CPU, or `gate_up` is not a matrix.
pub fn backward(dy: &Tensor, gate_up: &Tensor) -> Result<Tensor> {
    let (rows, width) = gate_up.dims2()?;
    let values = read([dy, gate_up], |[dy, gate_up]| {
        let mut out = vec![0.0; gate_up.len()];
        for_rows(&mut out, width, |first, out| backward_rows(&dy[first * width / 2..], &gate_up[first * width..], width / 2, out));
        out
    })?;
    tensor(values, (rows, width))
}

#[multiversion(targets = "simd")]
fn forward_rows(gate_up: &[f32], width: usize, out: &mut [f32]) {
    for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        let (gate, up) = row.split_at(width);
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * vector::sigmoid(*gate) * up;
        }
    }
}

#[multiversion(targets = "simd")]
fn backward_rows(dy: &[f32], gate_up: &[f32], width: usize, out: &mut [f32]) {
    for ((dy, row), out) in dy.chunks_exact(width).zip(gate_up.chunks_exact(2 * width)).zip(out.chunks_exact_mut(2 * width)) {
        let ((gate, up), (d_gate, d_up)) = (row.split_at(width), out.split_at_mut(width));
        for i in 0..width {
            let sigmoid = vector::sigmoid(gate[i]);
            let silu = gate[i] * sigmoid;
            d_up[i] = dy[i] * silu;
            d_gate[i] = dy[i] * up[i] * (sigmoid + silu * (1.0 - sigmoid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::testing::{check_gradient, random, total};

    #[test]
    fn backward_equals_finite_differences() -> Result<()> {
        for (rows, width) in [(1, 1), (3, 17)] {
            let (x, dy) = (random((rows, 2 * width), 1), random((rows, width), 2));
            check_gradient(&x, &backward(&dy, &x)?, |x| total(&(forward(x)? * &dy)?))?;
        }
        Ok(())
    }
}
