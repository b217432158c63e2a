//! What the fused kernels need of a machine: launches by name, matrix products, and memory. A GPU gives them, and in tests the emulator.

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Shape, Tensor, bail};

use crate::kernels::DeviceMemory;
use crate::kernels::shape::{Factor, product_sizes};

/// Words of 4 bytes on their way from the device; the call waits for them.
pub type Pending = Box<dyn FnOnce() -> Result<Vec<u32>> + Send>;

/// A machine that kernels are launched on.
pub trait Launch: Debug + Send + Sync {
    /// Where its tensors lie.
    fn device(&self) -> &Device;

    /// Starts a kernel; what it writes is there for all that is started later.
    fn launch(&self, kernel: &str, grid: Grid, arguments: &[Argument]) -> Result<()>;

    /// Starts a matrix product.
    fn product(&self, product: &Product) -> Result<()>;

    /// Whether a product's rows have the same bits whatever other rows there are, because the device was asked for that.
    fn is_batch_invariant(&self) -> bool {
        false
    }

    /// Memory with anything in it.
    fn empty(&self, shape: Shape, dtype: DType) -> Result<Tensor>;

    /// Numbers from the host; what is started later finds them.
    fn put(&self, numbers: &[u32]) -> Result<Tensor> {
        Tensor::new(numbers, self.device())
    }

    /// The same for floats.
    fn put_floats(&self, values: &[f32]) -> Result<Tensor> {
        Tensor::new(values, self.device())
    }

    /// Writes numbers from the host to the beginning of a flat tensor. Work that was started earlier still sees the old numbers.
    fn write(&self, target: &Tensor, numbers: &[u32]) -> Result<()> {
        target.slice_set(&Tensor::new(numbers, self.device())?, 0, 0)
    }

    /// Starts copying `source` to a tensor of the same shape and dtype.
    fn copy(&self, target: &Tensor, source: &Tensor) -> Result<()> {
        target.slice_set(source, 0, 0)
    }

    /// Starts copying a contiguous tensor `[n]` of u32, f32 or f64 to the host, as words of 4 bytes, the lower half of an f64 first.
    fn fetch(&self, numbers: &Tensor) -> Result<Pending> {
        let numbers = numbers.clone();
        Ok(Box::new(move || match numbers.dtype() {
            DType::F32 => Ok(numbers.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect()),
            DType::F64 => {
                Ok(numbers.to_vec1::<f64>()?.into_iter().map(f64::to_bits).flat_map(|bits| [bits as u32, (bits >> 32) as u32]).collect())
            }
            _ => numbers.to_vec1(),
        }))
    }

    /// The device's own memory, where it has some.
    fn memory(&self) -> Option<DeviceMemory> {
        None
    }

    /// A machine with the same memory that records what is started on it; none if recording is not supported.
    fn recorder(self: Arc<Self>) -> Result<Option<Arc<dyn Recorder>>> {
        Ok(None)
    }
}

/// A machine that records launches and products instead of running them. It neither allocates nor copies from the host.
pub trait Recorder: Launch {
    /// Records what `run` starts on this machine.
    ///
    /// # Errors
    /// Those of `run`, and if something cannot be recorded. Nothing has been started then.
    fn record(&self, run: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Recording>>;
}

/// Recorded operations with their addresses and sizes.
pub trait Recording: Debug + Send {
    /// Starts all of them, after everything that was started on the original machine before.
    fn replay(&self) -> Result<()>;
}

/// How many blocks of how many threads.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// Blocks along each axis.
    pub blocks: [usize; 3],
    /// Threads of a block.
    pub threads: usize,
    /// Dynamic shared memory of a block, bytes.
    pub shared_bytes: usize,
}

impl Grid {
    /// Blocks in a row, without dynamic shared memory.
    pub fn of(blocks: usize, threads: usize) -> Self {
        Self { blocks: [blocks, 1, 1], threads, shared_bytes: 0 }
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a> {
    /// The address of a contiguous tensor's first element.
    Tensor(&'a Tensor),
    /// `int`
    Int(usize),
    /// `long long`
    Long(usize),
    /// `unsigned`
    Unsigned(u32),
    /// `float`
    Float(f32),
    /// A struct of floats.
    Floats(&'a [f32]),
}

/// `out [m, n] = a b + bias + addend`. The factors have one dtype; everything else has that dtype or f32. Sums are in f32 and rounded once.
#[derive(Clone, Debug)]
pub struct Product<'a> {
    /// `[m, k]`
    pub a: Factor,
    /// `[k, n]`
    pub b: Factor,
    /// `[n]`, added to each row.
    pub bias: Option<&'a Tensor>,
    /// `[m, n]`, contiguous; `out` itself if the product is added to it.
    pub addend: Option<&'a Tensor>,
    /// `[m, n]`, contiguous.
    pub out: &'a Tensor,
    /// Whether it is one of those that log-probabilities come from: sampler and trainer compute it with different numbers of rows.
    pub forward: bool,
}

impl Product<'_> {
    /// m, k and n.
    ///
    /// # Errors
    /// If shapes or dtypes do not match.
    pub fn sizes(&self) -> Result<(usize, usize, usize)> {
        let (m, k, n) = product_sizes(&self.a, &self.b)?;
        let dtype = self.out.dtype();
        if self.out.dims2()? != (m, n) {
            bail!("cannot write the product of {m} x {k} and {k} x {n} to {:?}", self.out.shape());
        }
        if let Some(addend) = self.addend.filter(|addend| addend.dtype() != dtype || addend.shape() != self.out.shape()) {
            bail!("cannot add {:?} in {:?} to a product of {m} x {n} in {dtype:?}", addend.shape(), addend.dtype());
        }
        if let Some(bias) = self.bias.filter(|bias| bias.dtype() != dtype || bias.dims() != [n]) {
            bail!("cannot add the bias {:?} in {:?} to a product of {m} x {n} in {dtype:?}", bias.shape(), bias.dtype());
        }
        Ok((m, k, n))
    }
}
