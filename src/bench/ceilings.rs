//! Measures the machine's ceilings, copy bandwidth and matrix-product throughput, with the kernels that compute the model.

use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use crate::kernels::Kernels;
use crate::kernels::cpu::tensor;
use crate::model::Decoder;
use crate::rng::{Purpose, Stream};
use crate::workers::Workers;

/// Minimum time per ceiling, in seconds, and minimum number of repeats.
const SECONDS: f64 = 0.5;
const REPEATS: usize = 3;

/// The machine's measured limits.
#[derive(Clone, Debug, Serialize)]
pub struct Ceilings {
    /// Bytes read and written per second by a copy or an in-place addition of large f32 tensors, whichever is faster.
    pub copy_bytes_per_s: f64,
    /// FLOP/s of a large square product in the kernels' dtype.
    pub square_flops: f64,
    /// Side of the square product.
    pub square_side: usize,
    /// FLOP/s of the model's widest product, on all workers at once.
    pub widest_flops: f64,
    /// Rows, inner width and columns of the widest product.
    pub widest: [usize; 3],
}

impl Ceilings {
    /// Measures the ceilings on the decoder's device.
    ///
    /// # Errors
    /// If the model has no blocks, or an operation fails.
    pub fn measure(decoder: &Decoder, workers: &Workers) -> Result<Self> {
        let kernels = decoder.kernels();
        let sizes = Sizes::of(kernels.device());
        let weight = &decoder.weights.blocks.first().context("the model has no blocks")?.gate_up;
        let (k, n) = weight.dims2()?;
        let copy_bytes_per_s = copy(kernels, sizes.copy_elements)?;
        let side = sizes.square_side;
        let square = random_tensor(kernels, side, side)?;
        let square_flops = products(kernels, workers, side, &square, sizes.operations)?;
        let widest_flops = products(kernels, workers, sizes.rows, weight, sizes.operations)?;
        Ok(Self { copy_bytes_per_s, square_flops, square_side: side, widest_flops, widest: [sizes.rows, k, n] })
    }

    /// FLOP/s of the faster of the two products. Model FLOP utilization (MFU) is relative to it.
    pub fn product_flops(&self) -> f64 {
        self.square_flops.max(self.widest_flops)
    }
}

/// Sizes of the measured tensors.
struct Sizes {
    copy_elements: usize,
    square_side: usize,
    rows: usize,
    /// Floating-point operations per timed run.
    operations: usize,
}

impl Sizes {
    /// Returns sizes that exceed every cache and keep a GPU busy.
    fn of(device: &Device) -> Self {
        if device.is_cpu() {
            Self { copy_elements: 32 << 20, square_side: 2048, rows: 512, operations: 20_000_000_000 }
        } else {
            Self { copy_elements: 128 << 20, square_side: 8192, rows: 8192, operations: 20_000_000_000_000 }
        }
    }
}

/// Measures bytes per second. A copy reads and writes each element; an in-place addition reads two elements and writes one.
fn copy(kernels: &dyn Kernels, elements: usize) -> Result<f64> {
    let (source, target) = (Tensor::zeros(elements, DType::F32, kernels.device())?, Tensor::zeros(elements, DType::F32, kernels.device())?);
    let bytes = (elements * size_of::<f32>()) as f64;
    let copy_s = median(kernels.device(), || Ok(source.copy().map(|_| ())?))?;
    let add_s = median(kernels.device(), || Ok(kernels.add_into(&target, &source)?))?;
    Ok((2.0 * bytes / copy_s).max(3.0 * bytes / add_s))
}

/// Measures the FLOP/s of `[rows, k]` times `weight [k, n]`, on all workers at once.
fn products(kernels: &dyn Kernels, workers: &Workers, rows: usize, weight: &Tensor, operations: usize) -> Result<f64> {
    let (k, n) = weight.dims2()?;
    let count = (operations / (2 * rows * k * n)).clamp(1, 50);
    let x = random_tensor(kernels, rows, k)?;
    let seconds = median(kernels.device(), || {
        workers.run(|_| (0..count).try_for_each(|_| Ok(kernels.product(&x, weight, None).map(|_| ())?))).map(|_| ())
    })?;
    Ok((count * workers.count()) as f64 * 2.0 * (rows * k * n) as f64 / seconds)
}

/// Returns random values of a weight's magnitude. With zeros a GPU would draw less power and therefore multiply faster.
fn random_tensor(kernels: &dyn Kernels, rows: usize, columns: usize) -> Result<Tensor> {
    let mut stream = Stream::new(0, Purpose::Initial, 0);
    // The number of distinct values is prime, so that rows whose length is a power of two differ.
    let distinct: Vec<f32> = (0..65_521).map(|_| stream.normal() * 0.02).collect();
    let values = distinct.iter().cycle().take(rows * columns).copied().collect();
    Ok(tensor(values, (rows, columns))?.to_dtype(kernels.dtype())?.to_device(kernels.device())?)
}

/// Returns the median time of repeated runs in seconds, after one warm-up run.
fn median(device: &Device, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    device.synchronize()?;
    let (mut times, began) = (Vec::new(), Instant::now());
    while times.len() < REPEATS || began.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        work()?;
        device.synchronize()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
