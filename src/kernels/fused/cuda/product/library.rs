//! cuBLASLt: the algorithms that it offers for a product, whether an algorithm supports a product, and the product itself.

use std::ffi::c_void;

use candle_core::Result;
use candle_core::cuda_backend::cudarc::cublaslt::{result as lt, result::CublasError, sys};

use super::algorithm::{Algorithm, Candidate};
use super::description::{Description, Limits, Preference, wrong};
use crate::kernels::memory::driver::told;

/// Largest number of algorithms to ask for.
const MOST_ALGORITHMS: usize = 8;

/// Addresses of a product's operands. `addend` is `out` if nothing is added; it is then not read.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    pub a: u64,
    pub b: u64,
    pub bias: Option<u64>,
    pub addend: u64,
    pub out: u64,
}

/// Memory for partial sums.
#[derive(Clone, Copy, Debug)]
pub struct Workspace {
    pub address: u64,
    pub bytes: usize,
}

/// cuBLASLt on the GPU whose context is current.
pub struct Library {
    handle: sys::cublasLtHandle_t,
}

// SAFETY: cuBLASLt's handles may be used from several threads.
#[allow(unsafe_code)]
unsafe impl Send for Library {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Library {}

/// Whether an error means that an algorithm does not support a product, rather than that something is broken.
fn is_refusal(error: CublasError) -> bool {
    use sys::cublasStatus_t::{CUBLAS_STATUS_ARCH_MISMATCH, CUBLAS_STATUS_INVALID_VALUE, CUBLAS_STATUS_NOT_SUPPORTED};
    matches!(error.0, CUBLAS_STATUS_NOT_SUPPORTED | CUBLAS_STATUS_INVALID_VALUE | CUBLAS_STATUS_ARCH_MISMATCH)
}

/// The version of the library, such as 130100.
pub fn version() -> usize {
    // SAFETY: the call only returns a number.
    #[allow(unsafe_code)]
    unsafe {
        sys::cublasLtGetVersion()
    }
}

impl Library {
    /// The library on the current GPU.
    ///
    /// # Errors
    /// If it cannot be set up.
    pub fn new() -> Result<Self> {
        Ok(Self { handle: lt::create_handle().map_err(wrong)? })
    }

    /// Algorithms within the limits, in the library's order, which puts the one it expects to be fastest first. Empty if there are none.
    ///
    /// # Errors
    /// If the search fails.
    pub fn candidates(&self, description: &Description, limits: Limits) -> Result<Vec<Candidate>> {
        let preference = Preference::new(&description.shape, limits)?;
        let [b, a, out] = description.layouts;
        let nothing = sys::cublasLtMatmulHeuristicResult_t {
            algo: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
            workspaceSize: 0,
            state: sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED,
            wavesCount: 0.0,
            reserved: [0; 4],
        };
        let (mut found, mut count) = ([nothing; MOST_ALGORITHMS], 0);
        // SAFETY: everything described outlives the call, and there is room for as many results as are requested.
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
                MOST_ALGORITHMS as i32,
                found.as_mut_ptr(),
                &raw mut count,
            )
        };
        match status.result() {
            Ok(()) => {}
            Err(error) if is_refusal(error) => return Ok(Vec::new()),
            Err(error) => return Err(wrong(error)),
        }
        let usable =
            found.into_iter().take(count as usize).filter(|found| found.state.result().is_ok() && found.workspaceSize <= limits.workspace);
        let mut usable: Vec<Candidate> =
            usable.map(|found| Candidate { algorithm: Algorithm(found.algo.data), workspace: found.workspaceSize }).collect();
        if !limits.split {
            usable.retain(|candidate| candidate.algorithm.is_whole());
        }
        // Algorithms that declare the ability come first. If none declares it, whether they support the product shows when it runs.
        if description.shape.addend {
            usable.sort_by_key(|candidate| !candidate.algorithm.writes_elsewhere());
        }
        Ok(usable)
    }

    /// The workspace that the algorithm needs for this product; none if it does not support it.
    ///
    /// # Errors
    /// If the check fails.
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
        // SAFETY: everything described outlives the call.
        #[allow(unsafe_code)]
        let status = unsafe {
            sys::cublasLtMatmulAlgoCheck(self.handle, description.product, b, a, out, out, &raw const algorithm, &raw mut result)
        };
        match status.result().and_then(|()| result.state.result()) {
            Ok(()) => Ok(Some(result.workspaceSize)),
            Err(error) if is_refusal(error) => Ok(None),
            Err(error) => Err(wrong(error)),
        }
    }

    /// Starts the product in a stream.
    ///
    /// # Errors
    /// If it cannot be started.
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
        // SAFETY: `Product::sizes` checks that the shapes match, rows are contiguous, the workspace has its bytes, and tensors are in the
        // stream's memory, where they are freed after the product.
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
        .map_err(|error| told(&error, format!("cannot multiply {}: {error:?}", description.shape)))
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: created by `new`, with no other user. An error cannot be returned here.
        #[allow(unsafe_code)]
        unsafe {
            let _ = lt::destroy_handle(self.handle);
        }
    }
}
