//! cuBLASLt's algorithms and their properties.

use candle_core::cuda_backend::cudarc::cublaslt::sys;
use serde::{Deserialize, Serialize};

/// An algorithm for matrix products, opaque to this program. It may be stored, and reused with the same version of cuBLASLt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Algorithm(pub [u64; 8]);

/// An algorithm for one shape.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Bytes of workspace that it needs for the shape.
    pub workspace: usize,
}

impl Algorithm {
    /// Returns the value of a setting; `None` if the algorithm does not have it.
    pub fn setting(&self, setting: sys::cublasLtMatmulAlgoConfigAttributes_t) -> Option<i32> {
        let algorithm = sys::cublasLtMatmulAlgo_t { data: self.0 };
        let (mut value, mut written) = (0i32, 0);
        // SAFETY: every setting that callers request is a number of 4 bytes, and the library checks the size.
        #[allow(unsafe_code)]
        let status = unsafe {
            sys::cublasLtMatmulAlgoConfigGetAttribute(
                &raw const algorithm,
                setting,
                (&raw mut value).cast(),
                size_of::<i32>(),
                &raw mut written,
            )
        };
        status.result().ok().map(|()| value)
    }

    /// Returns true if the algorithm computes each sum in one sequence, without split-K. Also true if the library does not report the settings:
    /// the search has already excluded split sums.
    pub fn is_unsplit(&self) -> bool {
        use sys::cublasLtMatmulAlgoConfigAttributes_t::{CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, CUBLASLT_ALGO_CONFIG_SPLITK_NUM};
        self.setting(CUBLASLT_ALGO_CONFIG_SPLITK_NUM).is_none_or(|parts| parts <= 1)
            && self.setting(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME).is_none_or(|scheme| scheme == 0)
    }

    /// Returns true if the algorithm declares that the result may be in other memory than the addend.
    pub fn supports_out_of_place(&self) -> bool {
        let algorithm = sys::cublasLtMatmulAlgo_t { data: self.0 };
        let (mut value, mut written) = (0i32, 0);
        let capability = sys::cublasLtMatmulAlgoCapAttributes_t::CUBLASLT_ALGO_CAP_OUT_OF_PLACE_RESULT_SUPPORT;
        // SAFETY: the capability is a number of 4 bytes, and the library checks the size.
        #[allow(unsafe_code)]
        let status = unsafe {
            sys::cublasLtMatmulAlgoCapGetAttribute(
                &raw const algorithm,
                capability,
                (&raw mut value).cast(),
                size_of::<i32>(),
                &raw mut written,
            )
        };
        status.result().is_ok() && value != 0
    }
}
