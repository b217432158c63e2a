//! Plain loops on the CPU in f32, each operation next to its gradient. The other backends are compared with them, and machines without a GPU
//! run them.
//!
//! The arithmetic is *batch-invariant*: the bits of a row depend neither on the other rows, nor on whether prefill, decoding or training
//! computes it.

use std::cell::Cell;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Storage, Tensor, bail};

pub mod adamw;
pub mod adamw_8bit;
pub mod attention;
pub mod attention_cached;
pub mod attention_packed;
pub mod head;
mod operations;
pub mod product;
pub mod rms_norm;
pub mod rows;
pub mod sample;
pub mod sampling_mask;
pub mod swiglu;
pub mod vector;

pub use operations::Cpu;

/// Runs `compute` on the values of contiguous f32 tensors on the CPU.
///
/// # Errors
/// If a tensor is on another device, is not contiguous, or is not f32.
pub fn read<const N: usize, R>(tensors: [&Tensor; N], compute: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let guards = tensors.map(|tensor| tensor.storage_and_layout());
    let mut slices: [&[f32]; N] = [&[]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let Storage::Cpu(storage) = &**storage else { bail!("this operation needs tensors on the CPU, but one is on another device") };
        *slice = contiguous(storage, layout)?;
    }
    Ok(compute(slices))
}

/// Runs `compute` on the values of `target`, which it may change in place, and of `sources`. All must be contiguous f32 tensors on the CPU,
/// and `target` must not share storage with a source.
///
/// # Errors
/// If a tensor is on another device, is not contiguous, or is not f32.
pub fn update<const N: usize>(target: &Tensor, sources: [&Tensor; N], compute: impl FnOnce(&mut [f32], [&[f32]; N])) -> Result<()> {
    read(sources, |sources| target.inplace_op1(&Update(Cell::new(Some(|target: &mut [f32]| compute(target, sources))))))?
}

struct Update<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for Update<F> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, target: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("an in-place update needs a contiguous tensor") };
        let CpuStorage::F32(values) = target else { bail!("an in-place update needs an f32 tensor, found another dtype") };
        if let Some(compute) = self.0.take() {
            compute(&mut values[start..end]);
        }
        Ok(())
    }
}

fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("this operation needs a contiguous tensor, found {layout:?}") };
    let CpuStorage::F32(values) = storage else { bail!("this operation needs an f32 tensor, found another dtype") };
    Ok(&values[start..end])
}

/// Creates a tensor on the CPU from its values in row-major order.
///
/// # Errors
/// If the number of values does not fit the shape.
pub fn tensor(values: Vec<f32>, shape: impl Into<candle_core::Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}

/// Number of elements below which one thread is faster than several.
const SERIAL_ELEMENTS: usize = 1 << 16;

/// Calls `run(first_row, rows)` on chunks of `values`, whose rows have `width` elements. Uses the threads of the current rayon pool if there
/// is enough work. Rows are independent, so the split does not change any bit.
pub fn for_rows(values: &mut [f32], width: usize, run: impl Fn(usize, &mut [f32]) + Sync) {
    for_rows_with_cost(values, width, width, run);
}

/// Like [`for_rows`], for rows that each take as much work as `cost` elements.
pub fn for_rows_with_cost(values: &mut [f32], width: usize, cost: usize, run: impl Fn(usize, &mut [f32]) + Sync) {
    use rayon::prelude::*;
    let threads = rayon::current_num_threads();
    let rows = values.len().checked_div(width).unwrap_or(0);
    if threads == 1 || rows * cost < SERIAL_ELEMENTS {
        return run(0, values);
    }
    let chunk = rows.div_ceil(threads * 4).max(1);
    values.par_chunks_mut(chunk * width).enumerate().for_each(|(index, rows)| run(index * chunk, rows));
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Uniform random values in [-1, 1), determined by the seed.
    pub fn random(shape: impl Into<candle_core::Shape>, seed: u64) -> Tensor {
        let shape = shape.into();
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let values = (0..shape.elem_count()).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        });
        tensor(values.collect(), shape).expect("the values fit the shape")
    }

    /// The sum of all elements, in f64.
    pub fn total(x: &Tensor) -> Result<f64> {
        Ok(x.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).sum())
    }

    /// Compares `gradient` with central differences of `f` at `x`, for about 40 elements.
    pub fn check_gradient(x: &Tensor, gradient: &Tensor, f: impl Fn(&Tensor) -> Result<f64>) -> Result<()> {
        let (values, gradient) = (x.flatten_all()?.to_vec1::<f32>()?, gradient.flatten_all()?.to_vec1::<f32>()?);
        let scale = gradient.iter().fold(0.0f32, |a, g| a.max(g.abs()));
        for i in (0..values.len()).step_by((values.len() / 40).max(1)) {
            let at = |h: f32| {
                let mut moved = values.clone();
                moved[i] += h;
                f(&tensor(moved, x.shape().clone())?)
            };
            let h = 5e-3;
            let numeric = (at(h)? - at(-h)?) / f64::from(2.0 * h);
            let error = (numeric - f64::from(gradient[i])).abs();
            assert!(error < 2e-3 * f64::from(scale) + 2e-4, "element {i}: gradient {}, finite difference {numeric}", gradient[i]);
        }
        Ok(())
    }
}
