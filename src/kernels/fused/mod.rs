//! Implements [`Kernels`](crate::kernels::Kernels) with this program's own CUDA kernels (`src/kernels/cuda/*.cuh`): selects the kernel, its
//! grid and its arguments.
//!
//! Independent of the machine that runs the kernels: a [`Launch`] is a GPU or, in tests, the emulator.

mod attention;
pub mod attention_tiles;
mod copies;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(test)]
pub(crate) mod emulated;
mod graphs;
mod head;
pub mod launch;
mod operations;

use std::sync::{Arc, Mutex};

use candle_core::{DType, Result, Shape, Tensor, bail};

use crate::kernels::optimizer::QUANTIZATION_MAPS;
use crate::kernels::shape::Factor;
pub use launch::Launch;
use launch::{Argument, Grid, Product};

/// The fused kernels on one machine, in one dtype.
#[derive(Clone, Debug)]
pub struct Fused {
    machine: Arc<dyn Launch>,
    dtype: DType,
    /// The quantization maps of first and second moments, on the device.
    maps: [Tensor; 2],
    /// Recordings of decoding passes with few sequences, and their fixed memory.
    passes: Arc<Mutex<graphs::GraphCache>>,
}

/// Bytes of a thread's widest load.
const VECTOR_BYTES: usize = 16;
/// Largest number of threads per block, for kernels that compute rows or stride over elements.
const MAX_THREADS: usize = 256;
/// Largest number of blocks for a kernel that strides over all elements.
const MAX_BLOCKS: usize = 2048;
/// Smallest number of rows per chunk. A block adds the rows of a chunk up to one partial sum per column.
const ROWS_PER_CHUNK: usize = 16;
/// Largest number of chunks. It gives each of 132 multiprocessors several blocks, so that some can compute while others wait for memory.
const MAX_CHUNKS: usize = 1024;

/// The suffix of a kernel's name for a dtype.
fn suffix(dtype: DType) -> &'static str {
    if dtype == DType::BF16 { "bf16" } else { "f32" }
}

impl Fused {
    /// Creates the kernels for `machine`, with weights and activations in `dtype` (f32 or bf16).
    ///
    /// # Errors
    /// If `dtype` is neither f32 nor bf16, or the device has no memory for the quantization maps.
    pub fn new(machine: Arc<dyn Launch>, dtype: DType) -> Result<Self> {
        if !matches!(dtype, DType::F32 | DType::BF16) {
            bail!("the fused kernels compute in f32 or bf16, not in {dtype:?}");
        }
        let [first, second] = &*QUANTIZATION_MAPS;
        let maps = [Tensor::new(first, machine.device())?, Tensor::new(second, machine.device())?];
        Ok(Self { machine, dtype, maps, passes: Arc::default() })
    }

    fn suffix(&self) -> &'static str {
        suffix(self.dtype)
    }

    /// Launches the variant of a kernel for the kernels' dtype.
    fn launch(&self, kernel: &str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        self.launch_exactly(&format!("{kernel}_{}", self.suffix()), grid, arguments)
    }

    /// Launches the kernel with exactly this name, unless its grid is empty.
    fn launch_exactly(&self, kernel: &str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        if grid.blocks.contains(&0) {
            return Ok(());
        }
        self.machine.launch(kernel, grid, arguments)
    }

    fn empty(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        self.machine.empty(shape.into(), self.dtype)
    }

    fn empty_f32(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        self.machine.empty(shape.into(), DType::F32)
    }

    /// Computes `out = a b + bias + addend`. Products with a transposed factor belong to the backward pass, so they need not be
    /// batch-invariant.
    fn multiply(&self, a: &Tensor, b: &Tensor, bias: Option<&Tensor>, addend: Option<&Tensor>, out: &Tensor) -> Result<()> {
        let (a, b) = (Factor::of(a)?, Factor::of(b)?);
        let forward = !a.is_transposed && !b.is_transposed;
        self.machine.product(&Product { a, b, bias, addend, out, forward })
    }

    fn u32_tensor(&self, values: &[u32]) -> Result<Tensor> {
        self.machine.put(values)
    }

    /// The number of threads per block for a kernel that computes one row of `width` values per block.
    fn threads(&self, width: usize) -> usize {
        let vectors = width.div_ceil(VECTOR_BYTES / self.dtype.size_in_bytes());
        vectors.next_multiple_of(32).min(MAX_THREADS)
    }

    /// A grid for a kernel that strides over `count` elements, with a vector of 16 bytes per thread.
    fn stride(&self, count: usize) -> Grid {
        let vectors = count.div_ceil(VECTOR_BYTES / self.dtype.size_in_bytes());
        Grid::of(vectors.div_ceil(MAX_THREADS).clamp(1, MAX_BLOCKS), MAX_THREADS)
    }

    /// A grid for a kernel that strides over columns along x and over rows along y.
    fn plane(&self, rows: usize, columns: usize) -> Grid {
        let vectors = columns.div_ceil(VECTOR_BYTES / self.dtype.size_in_bytes());
        let threads = vectors.next_multiple_of(32).min(MAX_THREADS);
        Grid { blocks: [vectors.div_ceil(threads), rows.min(MAX_BLOCKS * 8), 1], threads, shared_bytes: 0 }
    }

    /// Adds the column sums of a matrix with `rows` rows to `gradient [n]`. `fill(partials [chunks, n], chunks, rows_per_chunk)` computes the
    /// sums of each chunk of rows.
    fn add_column_sums(&self, gradient: &Tensor, rows: usize, fill: impl FnOnce(&Tensor, usize, usize) -> Result<()>) -> Result<()> {
        let n = gradient.elem_count();
        let per_chunk = rows.div_ceil(MAX_CHUNKS).max(ROWS_PER_CHUNK);
        let chunks = rows.div_ceil(per_chunk);
        let partials = self.empty_f32((chunks, n))?;
        fill(&partials, chunks, per_chunk)?;
        let arguments = [Argument::Tensor(gradient), Argument::Tensor(&partials), Argument::Int(chunks), Argument::Int(n)];
        // A warp adds about four chunks, or up to 1/32 of all chunks if there are many.
        let threads = (chunks.div_ceil(4) * 32).clamp(32, 1024);
        self.launch_exactly("add_partials", Grid::of(n.div_ceil(32), threads), &arguments)
    }
}
