//! Calls cuBLASLt: searches for algorithms, checks whether an algorithm supports a product, and computes products.

use std::ffi::c_void;

use candle_core::Result;
use candle_core::cuda_backend::cudarc::cublaslt::{result as lt, result::CublasError, sys};

use super::algorithm::{Algorithm, Candidate};
use super::description::{Description, Limits, Preference, library_error};
use crate::kernels::memory::driver::to_error;

/// Largest number of algorithms per search.
const MAX_ALGORITHMS: usize = 8;

/// The addresses of a product's operands.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// First factor.
    pub a: u64,
    /// Second factor.
    pub b: u64,
    /// Bias, if any.
    pub bias: Option<u64>,
    /// Addend; if nothing is added, `out`, which is then not read.
    pub addend: u64,
    /// Result.
    pub out: u64,
}

/// Memory for the partial sums of an algorithm.
#[derive(Clone, Copy, Debug)]
pub struct Workspace {
    /// First address; 0 if the workspace is empty.
    pub address: u64,
    /// Size in bytes.
    pub bytes: usize,
}

/// A handle to cuBLASLt on the GPU whose context was current when the handle was created.
pub struct Library {
    handle: sys::cublasLtHandle_t,
}

// SAFETY: NVIDIA documents that several threads may use a cuBLASLt handle.
#[allow(unsafe_code)]
unsafe impl Send for Library {}
// SAFETY: as for `Send`.
#[allow(unsafe_code)]
unsafe impl Sync for Library {}

/// Returns true if an error only means that an algorithm does not support a product. Other errors are faults.
fn is_refusal(error: CublasError) -> bool {
    use sys::cublasStatus_t::{CUBLAS_STATUS_ARCH_MISMATCH, CUBLAS_STATUS_INVALID_VALUE, CUBLAS_STATUS_NOT_SUPPORTED};
    matches!(error.0, CUBLAS_STATUS_NOT_SUPPORTED | CUBLAS_STATUS_INVALID_VALUE | CUBLAS_STATUS_ARCH_MISMATCH)
}

/// Returns the version of the library, such as 130100.
pub fn version() -> usize {
    // SAFETY: the call only returns a number.
    #[allow(unsafe_code)]
    unsafe {
        sys::cublasLtGetVersion()
    }
}

impl Library {
    /// Opens the library on the current GPU.
    ///
    /// # Errors
    /// If cuBLASLt cannot be initialized.
    pub fn new() -> Result<Self> {
        Ok(Self { handle: lt::create_handle().map_err(library_error)? })
    }

    /// Returns the algorithms within the limits, fastest first by the library's estimate; empty if there are none. If the product has an
    /// addend, algorithms that declare out-of-place support precede all others.
    ///
    /// # Errors
    /// If the search fails, other than because no algorithm supports the product.
    pub fn candidates(&self, description: &Description, limits: Limits) -> Result<Vec<Candidate>> {
        let preference = Preference::new(&description.shape, limits)?;
        let [b, a, out] = description.layouts;
        let empty = sys::cublasLtMatmulHeuristicResult_t {
            algo: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
            workspaceSize: 0,
            state: sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED,
            wavesCount: 0.0,
            reserved: [0; 4],
        };
        let (mut found, mut count) = ([empty; MAX_ALGORITHMS], 0);
        // SAFETY: all arguments outlive the call, and there is room for the requested number of results.
        #[allow(unsafe_code)]
        let status = unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                description.product,
                b,
                a,
                out,
                out,
                preference.0,
                MAX_ALGORITHMS as i32,
                found.as_mut_ptr(),
                &raw mut count,
            )
        };
        match status.result() {
            Ok(()) => {}
            Err(error) if is_refusal(error) => return Ok(Vec::new()),
            Err(error) => return Err(library_error(error)),
        }
        let usable =
            found.into_iter().take(count as usize).filter(|found| found.state.result().is_ok() && found.workspaceSize <= limits.workspace);
        let mut usable: Vec<Candidate> =
            usable.map(|found| Candidate { algorithm: Algorithm(found.algo.data), workspace: found.workspaceSize }).collect();
        if !limits.split {
            usable.retain(|candidate| candidate.algorithm.is_unsplit());
        }
        // Algorithms that declare this capability come first. The others stay, because running one shows whether it supports the
        // product.
        if description.shape.addend {
            usable.sort_by_key(|candidate| !candidate.algorithm.supports_out_of_place());
        }
        Ok(usable)
    }

    /// Returns the bytes of workspace that the algorithm needs for this product; `None` if it does not support the product.
    ///
    /// # Errors
    /// If the check fails, other than because the algorithm does not support the product.
    pub fn check(&self, description: &Description, algorithm: &Algorithm) -> Result<Option<usize>> {
        let [b, a, out] = description.layouts;
        let algorithm = sys::cublasLtMatmulAlgo_t { data: algorithm.0 };
        let mut result = sys::cublasLtMatmulHeuristicResult_t {
            algo: algorithm,
            workspaceSize: 0,
            state: sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS,
            wavesCount: 0.0,
            reserved: [0; 4],
        };
        // SAFETY: all arguments outlive the call.
        #[allow(unsafe_code)]
        let status = unsafe {
            sys::cublasLtMatmulAlgoCheck(self.handle, description.product, b, a, out, out, &raw const algorithm, &raw mut result)
        };
        match status.result().and_then(|()| result.state.result()) {
            Ok(()) => Ok(Some(result.workspaceSize)),
            Err(error) if is_refusal(error) => Ok(None),
            Err(error) => Err(library_error(error)),
        }
    }

    /// Starts the product in a stream.
    ///
    /// # Errors
    /// If cuBLASLt or the device reports an error.
    pub fn run(
        &self,
        description: &mut Description,
        algorithm: &Algorithm,
        operands: &Operands,
        workspace: Workspace,
        stream: sys::cudaStream_t,
    ) -> Result<()> {
        if let Some(bias) = operands.bias {
            description.set_bias(bias)?;
        }
        let [b, a, out] = description.layouts;
        let (alpha, beta) = (1.0f32, if description.shape.addend { 1.0f32 } else { 0.0 });
        let algorithm = sys::cublasLtMatmulAlgo_t { data: algorithm.0 };
        // SAFETY: `Product::sizes` checks that the shapes match. Rows are contiguous, the workspace has the given size, and all tensors are
        // freed in stream order, after the product.
        #[allow(unsafe_code)]
        unsafe {
            lt::matmul(
                self.handle,
                description.product,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                operands.b as *const c_void,
                b,
                operands.a as *const c_void,
                a,
                operands.addend as *const c_void,
                out,
                operands.out as *mut c_void,
                out,
                &raw const algorithm,
                workspace.address as *mut c_void,
                workspace.bytes,
                stream,
            )
        }
        .map_err(|error| to_error(&error, format!("cannot multiply {}: {error:?}", description.shape)))
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: `new` created it, and nothing else uses it. An error cannot be returned here.
        #[allow(unsafe_code)]
        unsafe {
            let _ = lt::destroy_handle(self.handle);
        }
    }
}
