//! Matrix products with the `gemm` crate. Unlike candle's own products on the CPU, it can accumulate into the result (`C += A B`) and use the
//! number of threads of the current rayon pool, so that a worker with one thread computes on that thread alone.

use candle_core::{Result, Tensor, bail};
use gemm::Parallelism;

use super::{read, tensor, update};
use crate::kernels::shape::{Factor, product_sizes};

/// Smallest number of rows of a product. With fewer rows, `gemm` selects other kernels, which sum in another order (see the test
/// `product_rows_are_batch_invariant`).
pub const MIN_ROWS: usize = 8;
/// For results with at most this many elements, `gemm` also selects another kernel.
const SMALL_RESULT: usize = 256;
/// For results with at most this many columns, how `gemm` splits sums of more than [`DEPTH`] terms depends on the number of rows.
const NARROW: usize = 64;
/// Largest number of terms of a sum that `gemm` never splits.
const DEPTH: usize = 512;

/// A matrix in memory: row and column strides in elements.
#[derive(Clone, Copy)]
struct View<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    fn of(factor: &Factor, values: &'a [f32]) -> Self {
        let (rows, columns) = factor.size;
        if factor.is_transposed { Self::new(values, columns, rows).transposed() } else { Self::new(values, rows, columns) }
    }

    fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of {rows} x {columns}");
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The view of `count` columns starting at `start`.
    fn columns_from(self, start: usize, count: usize) -> Self {
        Self { values: &self.values[start * self.column_stride..], columns: count, ..self }
    }

    /// The view of `count` rows starting at `start`.
    fn rows_from(self, start: usize, count: usize) -> Self {
        Self { values: &self.values[start * self.row_stride..], rows: count, ..self }
    }

    /// Returns true if the strides reach no element beyond the values.
    fn is_in_bounds(&self) -> bool {
        let last = (self.rows.max(1) - 1) * self.row_stride + (self.columns.max(1) - 1) * self.column_stride;
        self.rows * self.columns == 0 || last < self.values.len()
    }

    fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }
}

/// Returns `x [m, k] weight [k, n]`, plus `bias [n]` if given: `[m, n]`. Either factor may be a transposed view.
///
/// # Errors
/// If the shapes do not match, a factor is neither contiguous nor the transpose of a contiguous matrix, or a tensor is not in f32 on the CPU.
///
/// # Panics
/// If the length of `bias` is not n.
pub fn product(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (a, b) = (Factor::of(x)?, Factor::of(weight)?);
    let (m, _, n) = product_sizes(&a, &b)?;
    let values = match bias {
        Some(bias) => read([&a.stored, &b.stored, bias], |[a_values, b_values, bias]| {
            let mut out = Vec::with_capacity(m * n);
            (0..m).for_each(|_| out.extend_from_slice(bias));
            multiply_factors(&mut out, (&a, a_values), (&b, b_values), true);
            out
        })?,
        None => read([&a.stored, &b.stored], |[a_values, b_values]| {
            let mut out = vec![0.0; m * n];
            multiply_factors(&mut out, (&a, a_values), (&b, b_values), false);
            out
        })?,
    };
    tensor(values, (m, n))
}

/// `target [m, n] += x [m, k] weight [k, n]`, accumulated within the product. The target is a residual stream, or a weight's gradient, which
/// is a sum over tokens and calls.
///
/// # Errors
/// If the shapes do not match, a factor is neither contiguous nor the transpose of a contiguous matrix, or a tensor is not in f32 on the
/// CPU.
pub fn add_product_into(target: &Tensor, x: &Tensor, weight: &Tensor) -> Result<()> {
    let (a, b) = (Factor::of(x)?, Factor::of(weight)?);
    let (m, _, n) = product_sizes(&a, &b)?;
    if target.dims2()? != (m, n) {
        bail!("cannot add the product of {:?} and {:?} to {:?}", x.shape(), weight.shape(), target.shape());
    }
    update(target, [&a.stored, &b.stored], |target, [a_values, b_values]| {
        multiply_factors(target, (&a, a_values), (&b, b_values), true);
    })
}

/// Adds the column sums of `dy [t, n]` to `gradient [n]`: the gradient of a bias.
///
/// # Errors
/// If a tensor is not a contiguous f32 tensor on the CPU, or `dy` is not a matrix.
pub fn add_column_sums_into(gradient: &Tensor, dy: &Tensor) -> Result<()> {
    let (_, n) = dy.dims2()?;
    update(gradient, [dy], |gradient, [dy]| {
        for row in dy.chunks_exact(n) {
            gradient.iter_mut().zip(row).for_each(|(g, d)| *g += d);
        }
    })
}

/// Computes `out = a b`, or `out += a b` if `accumulate`, for factors and their values. The rows of a transposed `a` are not tokens, so they
/// need not be batch-invariant.
fn multiply_factors(out: &mut [f32], (a, a_values): (&Factor, &[f32]), (b, b_values): (&Factor, &[f32]), accumulate: bool) {
    let multiply = if a.is_transposed { multiply } else { multiply_rows };
    multiply(out, View::of(a, a_values), View::of(b, b_values), accumulate);
}

/// Like [`multiply`], for `a` whose rows are tokens: each row is summed in the same order for any number of rows.
fn multiply_rows(out: &mut [f32], a: View, b: View, accumulate: bool) {
    if b.columns > NARROW || a.columns <= DEPTH {
        return multiply(out, a, b, accumulate);
    }
    for start in (0..a.columns).step_by(DEPTH) {
        let depth = DEPTH.min(a.columns - start);
        multiply(out, a.columns_from(start, depth), b.rows_from(start, depth), accumulate || start > 0);
    }
}

/// Computes `out = a b`, or `out += a b` if `accumulate`. Pads `a` with rows of zeros if it has too few rows.
fn multiply(out: &mut [f32], a: View, b: View, accumulate: bool) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert!(out.len() == m * n && b.rows == k, "product of {m} x {k} and {} x {n} into {} values", b.rows, out.len());
    assert!(a.is_in_bounds() && b.is_in_bounds(), "a view extends beyond its values");
    if m == 0 || n == 0 {
        return;
    }
    let min_rows = MIN_ROWS.max(SMALL_RESULT / n + 1);
    if m < min_rows && a.column_stride == 1 {
        let mut padded = vec![0.0; min_rows * k];
        for (row, padded) in padded.chunks_exact_mut(k.max(1)).take(m).enumerate() {
            padded.copy_from_slice(&a.values[row * a.row_stride..][..k]);
        }
        let mut wide = vec![0.0; min_rows * n];
        wide[..m * n].copy_from_slice(out);
        multiply(&mut wide, View::new(&padded, min_rows, k), b, accumulate);
        return out.copy_from_slice(&wide[..m * n]);
    }
    let threads = rayon::current_num_threads();
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    // SAFETY: the asserts above guarantee that all elements reached by the strides are within their slices, that `out` has m x n elements,
    // and that the sizes match. `out` is borrowed exclusively, so it overlaps neither source.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            accumulate,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::testing::random;

    #[test]
    fn product_and_add_product_into_equal_candles() -> Result<()> {
        for (m, k, n) in [(1, 5, 3), (7, 48, 144), (8, 64, 469), (65, 33, 17)] {
            let (x, weight, bias) = (random((m, k), 1), random((k, n), 2), random(n, 3));
            let expected = x.matmul(&weight)?.broadcast_add(&bias)?;
            close(&product(&x, &weight, Some(&bias))?, &expected)?;
            close(&product(&x, &weight.t()?.contiguous()?.t()?, None)?, &x.matmul(&weight)?)?;
            let target = random((m, n), 4);
            let expected = (&target + x.matmul(&weight)?)?;
            add_product_into(&target, &x, &weight)?;
            close(&target, &expected)?;
            let (dy, gradient) = (random((m, n), 5), random((k, n), 6));
            let expected = (&gradient + x.t()?.matmul(&dy)?)?;
            add_product_into(&gradient, &x.t()?, &dy)?;
            close(&gradient, &expected)?;
        }
        Ok(())
    }

    /// The log-probabilities of sampler and trainer are bit-identical only if a row of a product does not depend on the other rows.
    #[test]
    fn product_rows_are_batch_invariant() -> Result<()> {
        for (k, n) in [
            (48, 96),
            (48, 48),
            (64, 128),
            (64, 384),
            (192, 64),
            (64, 469),
            (256, 1024),
            (1536, 256),
            (768, 64),
            (1500, 24),
            (64, 32),
            (64, 5),
        ] {
            let (x, weight, out_in) = (random((300, k), 1), random((k, n), 2), random((n, k), 3));
            let (all, all_transposed) = (product(&x, &weight, None)?, product(&x, &out_in.t()?, None)?);
            for m in (1..40).chain([63, 64, 65, 127, 128, 200, 299]) {
                let some = x.narrow(0, 300 - m, m)?;
                let rows = |whole: &Tensor| whole.narrow(0, 300 - m, m)?.flatten_all()?.to_vec1::<f32>();
                assert_eq!(product(&some, &weight, None)?.flatten_all()?.to_vec1::<f32>()?, rows(&all)?, "{m} rows of {k} x {n}");
                let found = product(&some, &out_in.t()?, None)?.flatten_all()?.to_vec1::<f32>()?;
                assert_eq!(found, rows(&all_transposed)?, "{m} rows of {k} x {n}, transposed");
            }
        }
        Ok(())
    }

    fn close(found: &Tensor, expected: &Tensor) -> Result<()> {
        let difference = (found - expected)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
        assert!(difference < 1e-4, "products differ by {difference}");
        Ok(())
    }
}
