//! What the fused kernels need of a machine: launches by name, matrix products, and memory. A GPU gives them, and in tests the emulator.

use std::fmt::Debug;

use candle_core::{DType, Device, Result, Shape, Tensor};

use crate::kernels::DeviceMemory;
use crate::kernels::shape::{Factor, product_sizes};

/// Words of 4 bytes on their way from the device; there when it returns.
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

    /// Starts bringing a contiguous tensor `[n]` of u32, f32 or f64 to the host, as words of 4 bytes, the lower half of an f64 first.
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

/// `c [m, n] = a b`, or `c += a b`: factors of one dtype, sums in f32, and `c` in that dtype or f32.
#[derive(Clone, Debug)]
pub struct Product<'a> {
    /// `[m, k]`
    pub a: Factor,
    /// `[k, n]`
    pub b: Factor,
    /// `[m, n]`, contiguous.
    pub c: &'a Tensor,
    /// Whether `c` is added to.
    pub accumulate: bool,
    /// Whether it is one of those that log-probabilities come from: sampler and trainer compute it with different numbers of rows.
    pub forward: bool,
}

impl Product<'_> {
    /// m, k and n.
    ///
    /// # Errors
    /// When the shapes do not meet.
    pub fn sizes(&self) -> Result<(usize, usize, usize)> {
        let (m, k, n) = product_sizes(&self.a, &self.b)?;
        if self.c.dims2()? != (m, n) {
            candle_core::bail!("cannot write the product of {m} x {k} and {k} x {n} to {:?}", self.c.shape());
        }
        Ok((m, k, n))
    }
}
