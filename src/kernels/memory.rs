//! A device's own memory: how much there is, and the error of having used it up, by which callers know to go on with less.

use std::fmt;

use candle_core::Error;

/// A device's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// What this program may still take.
    pub free: u64,
    /// All of it.
    pub total: u64,
    /// The most that tensors of this program have taken together.
    pub peak: u64,
}

/// A device had no memory for what an operation asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfMemory(String);

impl OutOfMemory {
    /// The error, in words that say what was asked.
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OutOfMemory {}

impl From<OutOfMemory> for Error {
    /// `Error::Cuda` is the one variant that keeps an error as it is; others keep words.
    fn from(error: OutOfMemory) -> Self {
        Self::Cuda(Box::new(error)).bt()
    }
}

/// Whether an error is a device's memory being used up: one of ours, or one that candle has from the driver or from cuBLAS.
pub fn is_out_of_memory(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<OutOfMemory>() || cause.downcast_ref().is_some_and(candle_is_out_of_memory))
}

/// The same of an error of candle's.
pub(super) fn candle_is_out_of_memory(error: &Error) -> bool {
    match error {
        Error::Cuda(cause) => cause.is::<OutOfMemory>() || is_drivers(&**cause),
        Error::Context { inner, .. } | Error::WithPath { inner, .. } | Error::WithBacktrace { inner, .. } => candle_is_out_of_memory(inner),
        _ => false,
    }
}

#[cfg(not(feature = "cuda"))]
fn is_drivers(_: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    false
}

#[cfg(feature = "cuda")]
use driver::is_out_of_memory as is_drivers;

/// Errors of the driver and its libraries, of which this one thing is kept.
#[cfg(feature = "cuda")]
pub mod driver {
    use std::error::Error as StdError;

    use candle_core::Error;
    use candle_core::cuda_backend::CudaError;
    use candle_core::cuda_backend::cudarc::cublas::{result::CublasError, sys::cublasStatus_t};
    use candle_core::cuda_backend::cudarc::cublaslt::{result::CublasError as CublasLtError, sys::cublasStatus_t as cublasLtStatus_t};
    use candle_core::cuda_backend::cudarc::driver::{DriverError, sys::CUresult};

    use super::OutOfMemory;

    /// An error of the driver, or of a library on it.
    pub trait Fault {
        /// Whether it is the device's memory being used up.
        fn is_out_of_memory(&self) -> bool;
    }

    impl Fault for DriverError {
        fn is_out_of_memory(&self) -> bool {
            self.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY
        }
    }

    impl Fault for CublasError {
        fn is_out_of_memory(&self) -> bool {
            self.0 == cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED
        }
    }

    impl Fault for CublasLtError {
        fn is_out_of_memory(&self) -> bool {
            self.0 == cublasLtStatus_t::CUBLAS_STATUS_ALLOC_FAILED
        }
    }

    /// The error in words of ours.
    pub fn told(fault: &impl Fault, words: String) -> Error {
        if fault.is_out_of_memory() { OutOfMemory::new(words).into() } else { Error::Msg(words) }
    }

    /// Whether an error that candle holds is the device's memory being used up.
    pub fn is_out_of_memory(error: &(dyn StdError + Send + Sync + 'static)) -> bool {
        match error.downcast_ref() {
            Some(CudaError::Cuda(fault) | CudaError::Load { cuda: fault, .. }) => fault.is_out_of_memory(),
            Some(CudaError::Cublas(fault)) => fault.is_out_of_memory(),
            _ => false,
        }
    }

    #[cfg(test)]
    mod tests {
        use candle_core::cuda_backend::WrapErr;

        use super::*;

        #[test]
        fn a_gpus_used_up_memory_is_known_by_the_codes_of_driver_and_libraries() {
            let check = |error: Error, expected| assert_eq!(super::super::is_out_of_memory(&error.into()), expected);
            let (full, other) = (DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY), DriverError(CUresult::CUDA_ERROR_INVALID_VALUE));
            check(Err::<(), _>(full).w().unwrap_err(), true);
            check(Err::<(), _>(other).w().unwrap_err(), false);
            check(told(&full, "cannot launch a kernel".to_owned()), true);
            check(told(&other, "cannot launch CUDA_ERROR_OUT_OF_MEMORY".to_owned()), false);
            check(Err::<(), _>(CublasError(cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED)).w().unwrap_err(), true);
            check(told(&CublasLtError(cublasLtStatus_t::CUBLAS_STATUS_ALLOC_FAILED), "cannot multiply".to_owned()), true);
            check(told(&CublasLtError(cublasLtStatus_t::CUBLAS_STATUS_INVALID_VALUE), "cannot multiply".to_owned()), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_used_up_is_recognised_by_its_type() {
        let error = || Error::from(OutOfMemory::new("no memory for 12 bytes"));
        let check = |error: anyhow::Error, expected| assert_eq!(is_out_of_memory(&error), expected, "{error:?}");
        check(error().into(), true);
        check(anyhow::Error::new(error()).context("update failed"), true);
        check(error().context("a cache of 7 blocks").into(), true);
        check(OutOfMemory::new("no memory for 12 bytes").into(), true);
        check(anyhow::Error::msg("a server said CUDA_ERROR_OUT_OF_MEMORY: out of memory"), false);
        check(Error::Msg("CUDA_ERROR_OUT_OF_MEMORY".to_owned()).into(), false);
        check(Error::Cuda("another fault".into()).into(), false);
        // Candle may append a backtrace.
        assert!(error().to_string().starts_with("no memory for 12 bytes"));
    }
}
