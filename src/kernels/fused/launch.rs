//! The interface between the fused kernels and the machine that runs them: launches by name, matrix products, memory and recordings.
//! Implemented by GPUs and, in tests, by the emulator.

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Shape, Tensor, bail};

use crate::kernels::DeviceMemory;
use crate::kernels::shape::{Factor, product_sizes};

/// A read from the device that is in progress. Calling it waits for the data and returns it as 4-byte words.
pub type PendingRead = Box<dyn FnOnce() -> Result<Vec<u32>> + Send>;

/// A machine that runs kernels. Work runs in the order in which it is started.
pub trait Launch: Debug + Send + Sync {
    /// The device of this machine's tensors.
    fn device(&self) -> &Device;

    /// Starts a kernel. Work that is started later sees its results.
    ///
    /// # Errors
    /// If no kernel has this name, an argument is not contiguous or not on this device, or the launch fails.
    fn launch(&self, kernel: &str, grid: Grid, arguments: &[Argument]) -> Result<()>;

    /// Starts a matrix product.
    ///
    /// # Errors
    /// If sizes or dtypes do not match or are not supported, or the product cannot be started.
    fn product(&self, product: &Product) -> Result<()>;

    /// Returns true if the bits of a row of a forward product do not depend on the other rows, because `batch_invariant` was requested.
    fn is_batch_invariant(&self) -> bool {
        false
    }

    /// Allocates a tensor with undefined contents.
    ///
    /// # Errors
    /// If the device is out of memory.
    fn empty(&self, shape: Shape, dtype: DType) -> Result<Tensor>;

    /// Starts copying numbers from the host to a new tensor `[n]` of u32.
    ///
    /// # Errors
    /// If the device is out of memory or the copy cannot be started.
    fn put(&self, numbers: &[u32]) -> Result<Tensor> {
        Tensor::new(numbers, self.device())
    }

    /// Starts copying floats from the host to a new tensor `[n]` of f32.
    ///
    /// # Errors
    /// If the device is out of memory or the copy cannot be started.
    fn put_floats(&self, values: &[f32]) -> Result<Tensor> {
        Tensor::new(values, self.device())
    }

    /// Starts overwriting the first elements of a flat u32 tensor with numbers from the host. Work that was started earlier still reads the
    /// old numbers.
    ///
    /// # Errors
    /// If the tensor is too short or not u32, or the copy cannot be started.
    fn write(&self, target: &Tensor, numbers: &[u32]) -> Result<()> {
        target.slice_set(&Tensor::new(numbers, self.device())?, 0, 0)
    }

    /// Starts copying `source` to a tensor of the same shape and dtype.
    ///
    /// # Errors
    /// If shapes or dtypes differ, or the copy cannot be started.
    fn copy(&self, target: &Tensor, source: &Tensor) -> Result<()> {
        target.slice_set(source, 0, 0)
    }

    /// Starts copying a contiguous tensor `[n]` of u32, f32 or f64 to the host, as 4-byte words. The lower half of an f64 comes first.
    ///
    /// # Errors
    /// If the tensor has another dtype, or the copy cannot be started. Errors of the copy itself are returned by the [`PendingRead`].
    fn fetch(&self, numbers: &Tensor) -> Result<PendingRead> {
        let numbers = numbers.clone();
        Ok(Box::new(move || match numbers.dtype() {
            DType::F32 => Ok(numbers.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect()),
            DType::F64 => {
                Ok(numbers.to_vec1::<f64>()?.into_iter().map(f64::to_bits).flat_map(|bits| [bits as u32, (bits >> 32) as u32]).collect())
            }
            _ => numbers.to_vec1(),
        }))
    }

    /// The device's memory; `None` if the device uses the host's memory or does not report its own.
    fn memory(&self) -> Option<DeviceMemory> {
        None
    }

    /// Returns a machine with the same memory that records work instead of running it; `None` if recording is not supported.
    ///
    /// # Errors
    /// If the recorder cannot be created.
    fn recorder(self: Arc<Self>) -> Result<Option<Arc<dyn Recorder>>> {
        Ok(None)
    }
}

/// A machine that records launches and products instead of running them. It can neither allocate memory nor copy from or to the host.
pub trait Recorder: Launch {
    /// Records the work that `run` starts on this machine.
    ///
    /// # Errors
    /// If `run` fails, or an operation cannot be recorded. Either way, none of the work runs.
    fn record(&self, run: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Recording>>;
}

/// Recorded operations, with the addresses and sizes that they had when they were recorded.
pub trait Recording: Debug + Send {
    /// Starts all recorded operations, after the work that was started earlier on the original machine.
    ///
    /// # Errors
    /// If the operations cannot be started.
    fn replay(&self) -> Result<()>;
}

/// The numbers of blocks and threads of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// Blocks along x, y and z.
    pub blocks: [usize; 3],
    /// Threads per block.
    pub threads: usize,
    /// Dynamic shared memory per block, in bytes.
    pub shared_bytes: usize,
}

impl Grid {
    /// A row of blocks without dynamic shared memory.
    pub fn of(blocks: usize, threads: usize) -> Self {
        Self { blocks: [blocks, 1, 1], threads, shared_bytes: 0 }
    }
}

/// An argument of a kernel, with its type in C.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a> {
    /// A pointer to the first element of a contiguous tensor.
    Tensor(&'a Tensor),
    /// `int`
    Int(usize),
    /// `long long`
    Long(usize),
    /// `unsigned`
    Unsigned(u32),
    /// `float`
    Float(f32),
    /// A struct of floats, passed by value.
    Floats(&'a [f32]),
}

/// `out [m, n] = a b + bias + addend`. Both factors have one dtype; `bias`, `addend` and `out` have either that dtype or f32. Sums are in f32
/// and rounded once.
#[derive(Clone, Debug)]
pub struct Product<'a> {
    /// `[m, k]`
    pub a: Factor,
    /// `[k, n]`
    pub b: Factor,
    /// `[n]`, added to each row.
    pub bias: Option<&'a Tensor>,
    /// `[m, n]`, contiguous. May be `out` itself: then the product is added to it.
    pub addend: Option<&'a Tensor>,
    /// `[m, n]`, contiguous.
    pub out: &'a Tensor,
    /// True if the product belongs to the forward pass, which sampler and trainer compute with different numbers of rows.
    pub forward: bool,
}

impl Product<'_> {
    /// Returns m, k and n.
    ///
    /// # Errors
    /// If the shapes of factors, result, bias and addend do not match, or bias or addend have another dtype than the result.
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
