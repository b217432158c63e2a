//! Kernels launched on an NVIDIA GPU, in the stream that candle's own operations use, so that both run in the order of the program.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::fmt;
use std::sync::{Arc, Mutex};

use candle_core::cuda_backend::cudarc::cublas::{result::gemm_ex, sys as cublas};
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaDevice, CudaStorageSlice};
use candle_core::{DType, Device, Error, Result, Shape, Storage, Tensor, bail};

use super::launch::{Argument, Factor, Grid, Launch, Product};

/// All kernels, compiled by `build.rs`.
static KERNELS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin"));
/// Shared memory that a block may use without having asked for more.
const USUAL_SHARED_BYTES: usize = 48 << 10;
/// Most floats of a struct that is an argument.
const MAX_FLOATS: usize = 16;

/// An NVIDIA GPU.
pub struct Gpu {
    device: Device,
    cuda: CudaDevice,
    module: Arc<CudaModule>,
    /// Kernels by name, with the shared memory that each may use.
    functions: Mutex<HashMap<String, (CudaFunction, usize)>>,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({:?})", self.cuda)
    }
}

/// A struct of floats by value; a kernel reads as many as it declares.
#[derive(Clone, Copy)]
#[repr(C)]
struct Floats([f32; MAX_FLOATS]);

// SAFETY: an array of floats in C's layout is what a kernel expects of a struct of floats.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Floats {}

/// An argument's value, held until the launch.
enum Value {
    Address(u64),
    Int(i32),
    Long(i64),
    Unsigned(u32),
    Float(f32),
    Floats(Floats),
}

impl Gpu {
    /// The GPU with that number.
    ///
    /// # Errors
    /// When there is none, or the kernels were not compiled for it.
    pub fn new(ordinal: usize) -> Result<Self> {
        let device = Device::new_cuda_with_stream(ordinal)?;
        let Device::Cuda(cuda) = &device else { bail!("GPU {ordinal} is not a CUDA device") };
        let cuda = cuda.clone();
        let module = cuda.cuda_stream().context().load_module(Ptx::from_binary(KERNELS.to_vec())).map_err(Error::wrap)?;
        Ok(Self { device, cuda, module, functions: Mutex::default() })
    }

    /// A kernel by name, allowed the shared memory that it is launched with.
    fn function(&self, name: &str, shared_bytes: usize) -> Result<CudaFunction> {
        let Ok(mut functions) = self.functions.lock() else { bail!("another launch panicked") };
        if !functions.contains_key(name) {
            let function = self.module.load_function(name).map_err(|error| Error::Msg(format!("no kernel is called {name}: {error}")))?;
            functions.insert(name.to_owned(), (function, USUAL_SHARED_BYTES));
        }
        let Some((function, allowed)) = functions.get_mut(name) else { bail!("no kernel is called {name}") };
        if shared_bytes > *allowed {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, shared_bytes as i32).map_err(Error::wrap)?;
            *allowed = shared_bytes;
        }
        Ok(function.clone())
    }
}

/// The address of a contiguous tensor's first element on the GPU.
fn address(tensor: &Tensor, stream: &CudaStream) -> Result<u64> {
    fn at<T>(slice: &CudaSlice<T>, start: usize, stream: &CudaStream) -> u64 {
        // All work is in one stream, in order: nothing has to be waited for when the guard goes.
        slice.device_ptr(stream).0 + (start * size_of::<T>()) as u64
    }
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, _)) = layout.contiguous_offsets() else { bail!("a kernel's argument is not contiguous: {layout:?}") };
    let Storage::Cuda(storage) = &*storage else { bail!("a kernel's argument is not on the GPU") };
    Ok(match &storage.slice {
        CudaStorageSlice::U8(slice) => at(slice, start, stream),
        CudaStorageSlice::U32(slice) => at(slice, start, stream),
        CudaStorageSlice::BF16(slice) => at(slice, start, stream),
        CudaStorageSlice::F32(slice) => at(slice, start, stream),
        CudaStorageSlice::F64(slice) => at(slice, start, stream),
        _ => bail!("no kernel takes {:?}", tensor.dtype()),
    })
}

fn number(value: usize) -> Result<i32> {
    i32::try_from(value).map_err(Error::wrap)
}

fn cuda_type(dtype: DType) -> Result<cublas::cudaDataType> {
    Ok(match dtype {
        DType::F32 => cublas::cudaDataType::CUDA_R_32F,
        DType::BF16 => cublas::cudaDataType::CUDA_R_16BF,
        other => bail!("there are no products in {other:?}"),
    })
}

impl Launch for Gpu {
    fn device(&self) -> &Device {
        &self.device
    }

    fn launch(&self, kernel: &str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        let stream = self.cuda.cuda_stream();
        let function = self.function(kernel, grid.shared_bytes)?;
        let value = |argument: &Argument| {
            Ok(match argument {
                Argument::Tensor(tensor) => Value::Address(address(tensor, &stream)?),
                Argument::Int(value) => Value::Int(number(*value)?),
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
        // SAFETY: the arguments are those of the kernel's declaration, which the emulator's tests launch with the same host code; tensors
        // are freed in the stream, after the kernel.
        #[allow(unsafe_code)]
        unsafe { launch.launch(config) }.map_err(|error| Error::Msg(format!("cannot launch {kernel}: {error}")))?;
        Ok(())
    }

    /// cuBLAS has matrices by columns: a row-major matrix is the transpose of its column-major reading, so that `c^T = b^T a^T` is asked for.
    fn product(&self, product: &Product) -> Result<()> {
        let (m, k, n) = product.sizes()?;
        if m * n == 0 {
            return Ok(());
        }
        let stream = self.cuda.cuda_stream();
        let operation = |factor: &Factor| match factor.transposed {
            true => cublas::cublasOperation_t::CUBLAS_OP_T,
            false => cublas::cublasOperation_t::CUBLAS_OP_N,
        };
        let row = |factor: &Factor| number(factor.tensor.dim(1)?);
        let (alpha, beta) = (1.0f32, if product.accumulate { 1.0f32 } else { 0.0 });
        let (a, b, c) = (address(product.a.tensor, &stream)?, address(product.b.tensor, &stream)?, address(product.c, &stream)?);
        let blas = self.cuda.cublas_handle();
        // SAFETY: `sizes` holds the shapes together, rows are contiguous, and the three tensors live in the stream's memory.
        #[allow(unsafe_code)]
        unsafe {
            gemm_ex(
                *blas.handle(),
                operation(&product.b),
                operation(&product.a),
                number(n)? as c_int,
                number(m)? as c_int,
                number(k)? as c_int,
                std::ptr::from_ref(&alpha).cast(),
                b as *const c_void,
                cuda_type(product.b.tensor.dtype())?,
                row(&product.b)?,
                a as *const c_void,
                cuda_type(product.a.tensor.dtype())?,
                row(&product.a)?,
                std::ptr::from_ref(&beta).cast(),
                c as *mut c_void,
                cuda_type(product.c.dtype())?,
                number(n)?,
                cublas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(|error| Error::Msg(format!("cannot multiply {m} x {k} with {k} x {n}: {error:?}")))
    }

    fn empty(&self, shape: Shape, dtype: DType) -> Result<Tensor> {
        // SAFETY: every kernel writes the whole of what it is given to write; the emulator's tests poison it and see.
        #[allow(unsafe_code)]
        unsafe {
            Tensor::empty(shape, dtype, &self.device)
        }
    }
}
