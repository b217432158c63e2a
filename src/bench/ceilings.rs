//! What the machine itself can do, measured through the kernels that compute: bytes copied and products a second.

use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use crate::draw::{Purpose, Stream};
use crate::kernels::Kernels;
use crate::kernels::cpu::tensor;
use crate::lanes::Lanes;
use crate::model::Decoder;

/// Seconds that each ceiling is measured for, and the fewest repeats.
const SECONDS: f64 = 0.5;
const REPEATS: usize = 3;

/// The machine's limits.
#[derive(Clone, Debug, Serialize)]
pub struct Ceilings {
    /// Bytes read and written per second by the faster of a copy and an addition in place of large f32 tensors.
    pub copy_bytes_per_s: f64,
    /// Operations per second of a large square product, in the kernels' dtype.
    pub square_flops: f64,
    /// Its side.
    pub square_side: usize,
    /// Operations per second of the model's widest product, on all lanes at once.
    pub widest_flops: f64,
    /// Rows, inner width and columns of that one.
    pub widest: [usize; 3],
}

impl Ceilings {
    /// Measures them on the decoder's device.
    pub fn measure(decoder: &Decoder, lanes: &Lanes) -> Result<Self> {
        let kernels = decoder.kernels();
        let sizes = Sizes::of(kernels.device());
        let weight = &decoder.weights.blocks.first().context("a model without blocks")?.gate_up;
        let (k, n) = weight.dims2()?;
        let copy_bytes_per_s = copy(kernels, sizes.copy_elements)?;
        let side = sizes.square_side;
        let square = varied(kernels, side, side)?;
        let square_flops = products(kernels, lanes, side, &square, sizes.operations)?;
        let widest_flops = products(kernels, lanes, sizes.rows, weight, sizes.operations)?;
        Ok(Self { copy_bytes_per_s, square_flops, square_side: side, widest_flops, widest: [sizes.rows, k, n] })
    }

    /// The faster of the two products: what utilisation is a share of.
    pub fn product_flops(&self) -> f64 {
        self.square_flops.max(self.widest_flops)
    }
}

/// How large the tensors are.
struct Sizes {
    copy_elements: usize,
    square_side: usize,
    rows: usize,
    /// Operations of all products between two looks at the clock.
    operations: usize,
}

impl Sizes {
    /// Larger than any cache, and for a GPU enough to fill it.
    fn of(device: &Device) -> Self {
        if device.is_cpu() {
            Self { copy_elements: 32 << 20, square_side: 2048, rows: 512, operations: 20_000_000_000 }
        } else {
            Self { copy_elements: 128 << 20, square_side: 8192, rows: 8192, operations: 20_000_000_000_000 }
        }
    }
}

/// Bytes a second: a copy reads and writes each element, an addition in place reads two and writes one.
fn copy(kernels: &dyn Kernels, elements: usize) -> Result<f64> {
    let (source, target) = (Tensor::zeros(elements, DType::F32, kernels.device())?, Tensor::zeros(elements, DType::F32, kernels.device())?);
    let bytes = (elements * size_of::<f32>()) as f64;
    let copy_s = median(kernels.device(), || Ok(source.copy().map(|_| ())?))?;
    let add_s = median(kernels.device(), || Ok(kernels.add_into(&target, &source)?))?;
    Ok((2.0 * bytes / copy_s).max(3.0 * bytes / add_s))
}

/// Operations a second of `[rows, k]` times `weight [k, n]`, on all lanes at once.
fn products(kernels: &dyn Kernels, lanes: &Lanes, rows: usize, weight: &Tensor, operations: usize) -> Result<f64> {
    let (k, n) = weight.dims2()?;
    let count = (operations / (2 * rows * k * n)).clamp(1, 50);
    let x = varied(kernels, rows, k)?;
    let seconds = median(kernels.device(), || {
        lanes.run(|_| (0..count).try_for_each(|_| Ok(kernels.product(&x, weight, None).map(|_| ())?))).map(|_| ())
    })?;
    Ok((count * lanes.count()) as f64 * 2.0 * (rows * k * n) as f64 / seconds)
}

/// Values as a model has them: a GPU multiplies zeros faster, because it draws less power.
fn varied(kernels: &dyn Kernels, rows: usize, columns: usize) -> Result<Tensor> {
    let mut stream = Stream::new(0, Purpose::Initial, 0);
    // A prime, so that rows of powers of two differ.
    let some: Vec<f32> = (0..65_521).map(|_| stream.normal() * 0.02).collect();
    let values = some.iter().cycle().take(rows * columns).copied().collect();
    Ok(tensor(values, (rows, columns))?.to_dtype(kernels.dtype())?.to_device(kernels.device())?)
}

/// The median time, in seconds, of some repeats, warmed up once.
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
