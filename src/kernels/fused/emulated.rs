//! Runs the kernels on the CPU, thread by thread, with `src/kernels/cuda/emulator.h`, so that tests of the fused backend need no GPU. The
//! system's C++ compiler compiles the kernels when the first test needs them.

mod recording;

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::{CpuStorage, DType, Device, Result, Shape, Storage, Tensor, bail};
use libloading::{Library, Symbol};

use super::launch::{Argument, Grid, Launch, Product, Recorder};
use crate::kernels::shape::Factor;
use crate::kernels::{Cpu, Kernels};
use crate::testing::available;

type Emulate = unsafe extern "C" fn(*const c_char, *const c_uint, *const c_uint, usize, *const *mut c_void) -> c_int;

/// The kernels, compiled to a shared library for this machine's CPU.
#[derive(Debug)]
pub struct Emulator {
    library: &'static Library,
    launched: Mutex<BTreeSet<String>>,
}

impl Emulator {
    /// Compiles and loads the kernels; `None` without a C++ compiler, which fails the test if `RLVR_REQUIRE_CXX=1`.
    pub fn new() -> Option<Self> {
        static LIBRARY: OnceLock<std::result::Result<Library, String>> = OnceLock::new();
        let library = LIBRARY.get_or_init(compile).as_ref().map_err(String::clone);
        available(library, "RLVR_REQUIRE_CXX").map(|library| Self { library, launched: Mutex::default() })
    }

    /// The names of all kernels.
    pub fn kernels(&self) -> BTreeSet<String> {
        type Name = unsafe extern "C" fn(usize) -> *const c_char;
        // SAFETY: the emulator returns the names one by one, and null after the last.
        #[allow(unsafe_code)]
        let name = |number: usize| unsafe {
            let name: Symbol<Name> = self.library.get(b"emulated_kernel\0").expect("the emulator lists its kernels");
            let name = name(number);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
        };
        (0..).map_while(name).collect()
    }

    /// The names of the kernels that were launched.
    pub fn launched(&self) -> BTreeSet<String> {
        self.launched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Compiles and loads the library. The error says that there is no compiler.
fn compile() -> std::result::Result<Library, String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernels/cuda");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let library = folder.path().join("kernels.so");
    let mut command = Command::new("c++");
    command.args(["-O2", "-std=c++17", "-shared", "-fPIC", "-w", "-x", "c++", "-include", "emulator.h"]);
    let done = command.arg("-I").arg(&sources).arg(sources.join("kernels.cu")).arg("-o").arg(&library).output();
    let done = done.map_err(|error| format!("cannot run c++, the C++ compiler that the emulated kernels need ({error})"))?;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    // SAFETY: the library was compiled a moment ago from this folder's sources; its initializers fill a table of names.
    #[allow(unsafe_code)]
    let library = unsafe { Library::new(&library) };
    Ok(library.expect("the library that was just compiled loads"))
}

fn address(tensor: &Tensor) -> Result<*mut c_void> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("a kernel's argument must be contiguous, but has the layout {layout:?}")
    };
    let Storage::Cpu(storage) = &*storage else { bail!("an argument of an emulated kernel must be on the CPU") };
    let first: *const c_void = match storage {
        CpuStorage::U8(values) => values[start..].as_ptr().cast(),
        CpuStorage::U32(values) => values[start..].as_ptr().cast(),
        CpuStorage::BF16(values) => values[start..].as_ptr().cast(),
        CpuStorage::F32(values) => values[start..].as_ptr().cast(),
        CpuStorage::F64(values) => values[start..].as_ptr().cast(),
        _ => bail!("no kernel accepts a tensor of {:?}", tensor.dtype()),
    };
    Ok(first.cast_mut())
}

impl Launch for Emulator {
    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn launch(&self, kernel: &str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        self.launched.lock().unwrap_or_else(PoisonError::into_inner).insert(kernel.to_owned());
        // The bytes of each argument. The kernel receives their addresses.
        let bytes = arguments.iter().map(|argument| match argument {
            Argument::Tensor(tensor) => Ok((address(tensor)? as usize).to_ne_bytes().to_vec()),
            Argument::Int(value) => Ok(i32::try_from(*value).map_err(candle_core::Error::wrap)?.to_ne_bytes().to_vec()),
            Argument::Long(value) => Ok((*value as i64).to_ne_bytes().to_vec()),
            Argument::Unsigned(value) => Ok(value.to_ne_bytes().to_vec()),
            Argument::Float(value) => Ok(value.to_ne_bytes().to_vec()),
            Argument::Floats(values) => Ok(values.iter().flat_map(|value| value.to_ne_bytes()).collect()),
        });
        let mut bytes = bytes.collect::<Result<Vec<Vec<u8>>>>()?;
        let pointers: Vec<*mut c_void> = bytes.iter_mut().map(|bytes| bytes.as_mut_ptr().cast()).collect();
        let name = CString::new(kernel).map_err(candle_core::Error::wrap)?;
        let blocks = grid.blocks.map(|blocks| blocks as c_uint);
        // SAFETY: the emulator reads the declared number of arguments, and callers pass arguments that match the declaration. Tensors
        // outlive the call, and allocations are aligned for every argument type.
        #[allow(unsafe_code)]
        let found = unsafe {
            let emulate: Symbol<Emulate> = self.library.get(b"emulate\0").map_err(candle_core::Error::wrap)?;
            emulate(name.as_ptr(), blocks.as_ptr(), [grid.threads as c_uint, 1, 1].as_ptr(), grid.shared_bytes, pointers.as_ptr())
        };
        if found != 0 {
            bail!("there is no kernel named {kernel}");
        }
        Ok(())
    }

    fn product(&self, product: &Product) -> Result<()> {
        product.sizes()?;
        let factor = |factor: &Factor| {
            let wide = factor.stored.to_dtype(DType::F32)?;
            if factor.is_transposed { wide.t()?.contiguous() } else { Ok(wide) }
        };
        // A row of a plain product does not depend on the number of rows, as with batch-invariant products on a GPU.
        let result = Cpu.product(&factor(&product.a)?, &factor(&product.b)?, None)?;
        let wide = |tensor: &Tensor| tensor.to_dtype(DType::F32);
        let result = product.addend.map_or(Ok(result.clone()), |addend| result + wide(addend)?)?;
        let result = product.bias.map_or(Ok(result.clone()), |bias| result.broadcast_add(&wide(bias)?))?;
        product.out.slice_set(&result.to_dtype(product.out.dtype())?, 0, 0)
    }

    fn recorder(self: Arc<Self>) -> Result<Option<Arc<dyn Recorder>>> {
        Ok(Some(Arc::new(recording::EmulatedRecorder::new(self))))
    }

    fn empty(&self, shape: Shape, dtype: DType) -> Result<Tensor> {
        // Filled with NaN or 1, so that tests detect elements that a kernel does not write.
        match dtype {
            DType::U32 | DType::U8 => Tensor::ones(shape, dtype, &Device::Cpu),
            _ => Tensor::full(f32::NAN, shape, &Device::Cpu)?.to_dtype(dtype)?.contiguous(),
        }
    }
}
