//! Runs the kernels on an NVIDIA GPU, in the same stream as candle's operations, so that all work runs in program order.

#[cfg(test)]
pub mod counts;
mod driver;
mod graph;
mod pool;
mod product;
mod transfer;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use candle_core::cuda_backend::cudarc::driver::result::{mem_pool, memcpy_dtod_async};
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaDevice, CudaStorageSlice, WrapErr};
use candle_core::{DType, Device, Error, Result, Shape, Storage, Tensor, bail};

use super::launch::{Argument, Grid, Launch, PendingRead, Product, Recorder};
use crate::dist::DeviceSlice;
use crate::kernels::DeviceMemory;
use crate::kernels::memory::{candle_is_out_of_memory, driver::to_error};
pub use driver::{count, describe, driver_version};
pub use pool::memory;
use pool::{keep_memory, pool};
use product::Products;
use transfer::Transfers;

/// All kernels, compiled by `build.rs` for several GPU generations.
static KERNELS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin"));
/// Dynamic shared memory that a block may use by default, in bytes: 48 KiB, less room for the static shared memory of the kernels.
const DEFAULT_SHARED_BYTES: usize = 40 << 10;
/// Largest number of floats in a struct argument.
const MAX_FLOATS: usize = 16;

/// An NVIDIA GPU.
///
/// Fields are dropped in order: first those that have work in the stream, last the device with the stream and its context.
pub struct Gpu {
    transfers: Transfers,
    products: Products,
    /// Kernels by name, each with the number of bytes of dynamic shared memory that it may use.
    functions: Mutex<HashMap<String, (CudaFunction, usize)>>,
    module: Arc<CudaModule>,
    cuda: CudaDevice,
    device: Device,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({:?})", self.cuda)
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // The kernels and the host memory of transfers must exist until all work in the stream has finished. Waiting also binds the context,
        // which the libraries need to destroy their handles. An error cannot be returned here.
        let _ = self.cuda.cuda_stream().synchronize();
    }
}

/// A struct of floats, passed by value. A kernel reads only the floats that it declares.
#[derive(Clone, Copy)]
#[repr(C)]
struct Floats([f32; MAX_FLOATS]);

// SAFETY: a struct of floats in a kernel has the layout of an array of floats in C.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Floats {}

/// An argument's value, stored until the launch.
enum Value {
    Address(u64),
    Int(i32),
    Long(i64),
    Unsigned(u32),
    Float(f32),
    Floats(Floats),
}

impl Gpu {
    /// Opens the GPU with this number. `batch_invariant` makes the products of the forward pass batch-invariant.
    ///
    /// # Errors
    /// If there is no such GPU, the kernels were not compiled for it, or it has no memory for the workspace of products.
    pub fn new(ordinal: usize, batch_invariant: bool) -> Result<Self> {
        let device = Device::new_cuda_with_stream(ordinal)?;
        let Device::Cuda(cuda) = &device else { bail!("GPU {ordinal} is not a CUDA device") };
        let cuda = cuda.clone();
        // SAFETY: all work is in one stream, in order, so tensors need no events.
        #[allow(unsafe_code)]
        unsafe {
            cuda.disable_event_tracking();
        }
        product::sum_in_f32(&cuda)?;
        let stream = cuda.cuda_stream();
        keep_memory(stream.context())?;
        let module = stream.context().load_module(Ptx::from_binary(KERNELS.to_vec()));
        let module = module.map_err(|error| to_error(&error, format!("the kernels in this build do not run on GPU {ordinal}: {error}")))?;
        let products = Products::new(stream.clone(), batch_invariant, product::cache_folder().as_deref())?;
        let transfers = Transfers::new(stream)?;
        Ok(Self { transfers, products, functions: Mutex::default(), module, cuda, device })
    }

    /// Makes the GPU's context current in the calling thread, which may be new or may have used another GPU. Most calls to the driver and its
    /// libraries use the current context.
    fn bind(&self) -> Result<()> {
        let bound = self.cuda.cuda_stream().context().bind_to_thread();
        bound.map_err(|error| to_error(&error, format!("cannot use GPU {}: {error}", self.cuda.cuda_stream().context().ordinal())))
    }

    /// Looks up a kernel by name, and lets it use `shared_bytes` bytes of dynamic shared memory.
    fn function(&self, name: &str, shared_bytes: usize) -> Result<CudaFunction> {
        let Ok(mut functions) = self.functions.lock() else { bail!("another launch panicked") };
        if !functions.contains_key(name) {
            let function =
                self.module.load_function(name).map_err(|error| Error::Msg(format!("there is no kernel named {name}: {error}")))?;
            functions.insert(name.to_owned(), (function, DEFAULT_SHARED_BYTES));
        }
        let Some((function, allowed)) = functions.get_mut(name) else { bail!("there is no kernel named {name}") };
        if shared_bytes > *allowed {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, shared_bytes as i32).w()?;
            *allowed = shared_bytes;
        }
        Ok(function.clone())
    }

    /// Launches a kernel in a stream.
    fn launch_in(&self, stream: &CudaStream, kernel: &str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        self.bind()?;
        let function = self.function(kernel, grid.shared_bytes)?;
        let value = |argument: &Argument| {
            Ok(match argument {
                Argument::Tensor(tensor) => Value::Address(address(tensor, stream)?),
                Argument::Int(value) => Value::Int(to_c_int(*value)?),
                Argument::Long(value) => Value::Long(*value as i64),
                Argument::Unsigned(value) => Value::Unsigned(*value),
                Argument::Float(value) => Value::Float(*value),
                Argument::Floats(values) => {
                    let mut floats = [0.0; MAX_FLOATS];
                    floats[..values.len()].copy_from_slice(values);
                    Value::Floats(Floats(floats))
                }
            })
        };
        let values: Vec<Value> = arguments.iter().map(value).collect::<Result<_>>()?;
        let mut launch = stream.launch_builder(&function);
        for value in &values {
            match value {
                Value::Address(value) => launch.arg(value),
                Value::Int(value) => launch.arg(value),
                Value::Long(value) => launch.arg(value),
                Value::Unsigned(value) => launch.arg(value),
                Value::Float(value) => launch.arg(value),
                Value::Floats(value) => launch.arg(value),
            };
        }
        let blocks = grid.blocks.map(|blocks| blocks as u32);
        let config = LaunchConfig {
            grid_dim: (blocks[0], blocks[1], blocks[2]),
            block_dim: (grid.threads as u32, 1, 1),
            shared_mem_bytes: grid.shared_bytes as u32,
        };
        // SAFETY: the arguments match the kernel's declaration; the emulator's tests launch it with the same host code. Tensors are freed
        // in stream order, after the kernel. A recorded launch is replayed only while its tensors exist (see `repeated`).
        #[allow(unsafe_code)]
        unsafe { launch.launch(config) }.map_err(|error| to_error(&error, format!("cannot launch {kernel}: {error}")))?;
        Ok(())
    }

    /// Fills memory with bytes that are NaN in every float dtype, so that tests detect elements that a kernel does not write.
    #[cfg(test)]
    fn poison(&self, tensor: &Tensor) -> Result<()> {
        use candle_core::cuda_backend::cudarc::driver::result::memset_d8_async;
        let (stream, bytes) = (self.cuda.cuda_stream(), tensor.elem_count() * tensor.dtype().size_in_bytes());
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the tensor has this many bytes, and nothing has been written to it yet.
        #[allow(unsafe_code)]
        unsafe { memset_d8_async(address(tensor, &stream)?, 0xff, bytes, stream.cu_stream()) }.w()
    }

    /// Returns the pool's unused memory to the driver, because after an update it may be fragmented into pieces too small for a cache.
    fn trim_pool(&self) -> Result<()> {
        let stream = self.cuda.cuda_stream();
        // The pool can release memory only after the stream has executed the frees.
        stream.synchronize().w()?;
        // SAFETY: the pool belongs to the device.
        #[allow(unsafe_code)]
        unsafe { mem_pool::trim_to(pool(stream.context())?, 0) }.w()
    }
}

/// Describes the memory of a contiguous tensor and its stream, in which memory is also freed.
///
/// # Errors
/// If the tensor is not contiguous, not on a GPU, or of a dtype that no kernel accepts.
pub fn device_slice(tensor: &Tensor) -> Result<DeviceSlice> {
    let Device::Cuda(cuda) = tensor.device() else { bail!("the tensor must be on a GPU") };
    let (stream, bytes) = (cuda.cuda_stream(), tensor.elem_count() * tensor.dtype().size_in_bytes());
    // SAFETY: the tensor has this many bytes. They are freed in the order of the stream, which candle keeps as long as the device.
    #[allow(unsafe_code)]
    Ok(unsafe { DeviceSlice::new(address(tensor, &stream)?, bytes, stream.cu_stream() as u64) })
}

/// Returns the address of a contiguous tensor's first element on the GPU.
fn address(tensor: &Tensor, stream: &CudaStream) -> Result<u64> {
    fn at<T>(slice: &CudaSlice<T>, start: usize, stream: &CudaStream) -> u64 {
        // All work is in one stream, in order, so dropping the guard has nothing to wait for.
        slice.device_ptr(stream).0 + (start * size_of::<T>()) as u64
    }
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("a kernel's argument must be contiguous, but has the layout {layout:?}")
    };
    let Storage::Cuda(storage) = &*storage else { bail!("a kernel's argument must be on the GPU") };
    Ok(match &storage.slice {
        CudaStorageSlice::U8(slice) => at(slice, start, stream),
        CudaStorageSlice::U32(slice) => at(slice, start, stream),
        CudaStorageSlice::BF16(slice) => at(slice, start, stream),
        CudaStorageSlice::F32(slice) => at(slice, start, stream),
        CudaStorageSlice::F64(slice) => at(slice, start, stream),
        _ => bail!("no kernel accepts a tensor of {:?}", tensor.dtype()),
    })
}

fn to_c_int(value: usize) -> Result<i32> {
    i32::try_from(value).map_err(Error::wrap)
}

impl Launch for Gpu {
    fn device(&self) -> &Device {
        &self.device
    }

    fn launch(&self, kernel: &str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        self.launch_in(&self.cuda.cuda_stream(), kernel, grid, arguments)
    }

    fn is_batch_invariant(&self) -> bool {
        self.products.is_batch_invariant()
    }

    fn product(&self, product: &Product) -> Result<()> {
        self.products.multiply(&self.cuda.cuda_stream(), product)
    }

    fn put(&self, numbers: &[u32]) -> Result<Tensor> {
        self.bind()?;
        let tensor = self.empty(numbers.len().into(), DType::U32)?;
        self.transfers.upload(numbers, address(&tensor, &self.cuda.cuda_stream())?)?;
        Ok(tensor)
    }

    fn put_floats(&self, values: &[f32]) -> Result<Tensor> {
        self.bind()?;
        let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
        let tensor = self.empty(values.len().into(), DType::F32)?;
        self.transfers.upload(&bits, address(&tensor, &self.cuda.cuda_stream())?)?;
        Ok(tensor)
    }

    fn write(&self, target: &Tensor, numbers: &[u32]) -> Result<()> {
        if target.dtype() != DType::U32 || target.elem_count() < numbers.len() {
            bail!("cannot write {} numbers to a tensor of shape {:?} in {:?}", numbers.len(), target.shape(), target.dtype());
        }
        self.bind()?;
        self.transfers.upload(numbers, address(target, &self.cuda.cuda_stream())?)
    }

    fn copy(&self, target: &Tensor, source: &Tensor) -> Result<()> {
        if (target.shape(), target.dtype()) != (source.shape(), source.dtype()) {
            bail!("cannot copy {:?} in {:?} to {:?} in {:?}", source.shape(), source.dtype(), target.shape(), target.dtype());
        }
        self.bind()?;
        let stream = self.cuda.cuda_stream();
        let bytes = source.elem_count() * source.dtype().size_in_bytes();
        // SAFETY: both tensors have this many bytes, and the copy runs in stream order.
        #[allow(unsafe_code)]
        unsafe { memcpy_dtod_async(address(target, &stream)?, address(source, &stream)?, bytes, stream.cu_stream()) }.w()
    }

    fn fetch(&self, numbers: &Tensor) -> Result<PendingRead> {
        self.bind()?;
        let source = address(numbers, &self.cuda.cuda_stream())?;
        let words = match numbers.dtype() {
            DType::U32 | DType::F32 => numbers.elem_count(),
            DType::F64 => 2 * numbers.elem_count(),
            dtype => bail!("cannot read a tensor of {dtype:?} as words of 4 bytes: expected U32, F32 or F64"),
        };
        Ok(Box::new(self.transfers.fetch(source, words)?))
    }

    fn memory(&self) -> Option<DeviceMemory> {
        memory(&self.cuda).ok()
    }

    fn recorder(self: Arc<Self>) -> Result<Option<Arc<dyn Recorder>>> {
        Ok(Some(Arc::new(graph::StreamRecorder::new(self)?)))
    }

    fn empty(&self, shape: Shape, dtype: DType) -> Result<Tensor> {
        self.bind()?;
        // SAFETY: every kernel writes its whole output; tests poison the memory to verify this.
        #[allow(unsafe_code)]
        let allocate = || unsafe { Tensor::empty(&shape, dtype, &self.device) };
        let tensor = match allocate() {
            Err(error) if candle_is_out_of_memory(&error) => self.trim_pool().and_then(|()| allocate()),
            tensor => tensor,
        }?;
        #[cfg(test)]
        self.poison(&tensor)?;
        Ok(tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file has a part for each GPU generation, after a header of 16 bytes. Each part starts with its kind (1 for PTX, 2 for machine code),
    /// the sizes of its header and body, and its compute capability.
    #[test]
    fn kernels_contain_code_for_every_gpu_since_ampere() {
        let number = |at: usize| u32::from_le_bytes(KERNELS[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(number(0), 0xba55_ed50);
        let (mut at, mut parts) = (16, Vec::new());
        while at < KERNELS.len() {
            parts.push((number(at) & 0xffff, number(at + 28)));
            at += (number(at + 4) + number(at + 8)) as usize;
        }
        let newest = parts.iter().map(|(_, generation)| *generation).max().expect("a part");
        for wanted in [(2, 80), (2, 90), (1, newest)] {
            assert!(parts.contains(&wanted), "{wanted:?} is missing from {parts:?}");
        }
    }
}
