//! Failures of the device itself, as typed errors: it ran out of memory, after which callers retry with less, or it stopped working. Also the
//! amounts of memory.

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
    /// Memory that is otherwise taken: by other processes, and by the driver.
    pub others: u64,
}

/// More than a driver takes for itself beside one program.
const DRIVERS_BYTES: u64 = 1 << 30;

impl DeviceMemory {
    /// A sentence about the memory that other processes hold, if it is more than the driver's share.
    pub fn held_by_others(&self) -> Option<String> {
        let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
        (self.others > DRIVERS_BYTES).then(|| {
            format!(
                "other processes hold {} of the GPU's {}: run nvidia-smi to list them, then end them or choose another GPU with --device cuda:N",
                gigabytes(self.others),
                gigabytes(self.total)
            )
        })
    }
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

/// The device stopped working. Everything in its memory is lost, and this process can no longer use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceLost(String);

impl fmt::Display for DeviceLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DeviceLost {}

impl From<DeviceLost> for Error {
    fn from(error: DeviceLost) -> Self {
        Self::Cuda(Box::new(error)).bt()
    }
}

/// Whether an error means that a device stopped working: our own error, or the driver's as held by candle.
pub fn is_lost(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<DeviceLost>() || cause.downcast_ref().is_some_and(candle_is_lost))
}

fn candle_is_lost(error: &Error) -> bool {
    match error {
        Error::Cuda(cause) => cause.is::<DeviceLost>() || is_drivers_loss(&**cause),
        Error::Context { inner, .. } | Error::WithPath { inner, .. } | Error::WithBacktrace { inner, .. } => candle_is_lost(inner),
        _ => false,
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

#[cfg(not(feature = "cuda"))]
fn is_drivers_loss(_: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    false
}

#[cfg(feature = "cuda")]
use driver::{is_lost as is_drivers_loss, is_out_of_memory as is_drivers};

/// The two driver and library errors that callers react to.
#[cfg(feature = "cuda")]
pub mod driver {
    use std::error::Error as StdError;

    use candle_core::Error;
    use candle_core::cuda_backend::CudaError;
    use candle_core::cuda_backend::cudarc::cublas::{result::CublasError, sys::cublasStatus_t};
    use candle_core::cuda_backend::cudarc::cublaslt::{result::CublasError as CublasLtError, sys::cublasStatus_t as cublasLtStatus_t};
    use candle_core::cuda_backend::cudarc::driver::{DriverError, sys::CUresult};

    use super::{DeviceLost, OutOfMemory};

    /// An error of the driver, or of a library on it.
    pub trait Fault {
        /// Whether it is the device's memory being used up.
        fn is_out_of_memory(&self) -> bool;

        /// Whether the device stopped working. The libraries do not report it; the next call of the driver does.
        fn is_lost(&self) -> bool {
            false
        }
    }

    impl Fault for DriverError {
        fn is_out_of_memory(&self) -> bool {
            self.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY
        }

        /// Faults after which the driver refuses every call of this process: faults of the card, of its connection, or of a kernel.
        fn is_lost(&self) -> bool {
            matches!(
                self.0,
                CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE
                    | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
                    | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
                    | CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
                    | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
                    | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
                    | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
                    | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
                    | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
                    | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
                    | CUresult::CUDA_ERROR_INVALID_PC
                    | CUresult::CUDA_ERROR_LAUNCH_FAILED
                    | CUresult::CUDA_ERROR_UNKNOWN
            )
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
        match (fault.is_out_of_memory(), fault.is_lost()) {
            (true, _) => OutOfMemory::new(words).into(),
            (_, true) => DeviceLost(words).into(),
            _ => Error::Msg(words),
        }
    }

    /// Whether an error held by candle means that a device stopped working.
    pub fn is_lost(error: &(dyn StdError + Send + Sync + 'static)) -> bool {
        match error.downcast_ref() {
            Some(CudaError::Cuda(fault) | CudaError::Load { cuda: fault, .. }) => fault.is_lost(),
            _ => false,
        }
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
        fn a_gpu_that_stopped_working_is_known_by_the_codes_of_the_driver() {
            let check = |error: Error, expected| assert_eq!(super::super::is_lost(&error.into()), expected);
            let (lost, other) = (DriverError(CUresult::CUDA_ERROR_LAUNCH_FAILED), DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY));
            check(Err::<(), _>(lost).w().unwrap_err(), true);
            check(told(&lost, "cannot launch a kernel".to_owned()), true);
            check(Err::<(), _>(other).w().unwrap_err(), false);
            check(told(&other, "cannot launch a kernel".to_owned()), false);
        }

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
    fn what_other_processes_hold_is_said_where_it_matters() {
        let memory = |others: u64| DeviceMemory { free: 0, total: 24 << 30, peak: 0, others };
        assert_eq!(memory(600 << 20).held_by_others(), None);
        assert!(memory(20 << 30).held_by_others().unwrap().contains("other processes hold 21.5 GB of the GPU's 25.8 GB: run nvidia-smi"));
    }

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
