//! Typed errors for failures of the device itself: it is out of memory, so that callers retry with less work, or it has stopped working.
//! Also the figures of a device's memory.

use std::fmt;

use candle_core::Error;

/// A device's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Memory that this program can still allocate.
    pub free: u64,
    /// Total memory.
    pub total: u64,
    /// Peak memory of this program's tensors.
    pub peak: u64,
    /// Memory used by other processes and by the driver.
    pub others: u64,
}

/// Upper bound on the memory that the driver itself uses for one program.
const DRIVER_BYTES: u64 = 1 << 30;

impl DeviceMemory {
    /// Describes how much memory other processes use and how to free it; `None` if it is at most 1 GiB, because the driver itself may use
    /// that much.
    pub fn held_by_others(&self) -> Option<String> {
        let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
        (self.others > DRIVER_BYTES).then(|| {
            format!(
                "other processes hold {} of the GPU's {}: run nvidia-smi to list them, then stop them or select another GPU with --device cuda:N",
                gigabytes(self.others),
                gigabytes(self.total)
            )
        })
    }
}

/// The device is out of memory. Callers can retry with less work at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfMemory(String);

impl OutOfMemory {
    /// Creates the error with this message, which says what was requested.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OutOfMemory {}

impl From<OutOfMemory> for Error {
    /// `Error::Cuda` is the only variant that preserves the typed error; others only preserve its text.
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

/// Returns true if an error means that a device stopped working: a [`DeviceLost`], or candle's error from the driver.
pub fn is_lost(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<DeviceLost>() || cause.downcast_ref().is_some_and(candle_is_lost))
}

fn candle_is_lost(error: &Error) -> bool {
    match error {
        Error::Cuda(cause) => cause.is::<DeviceLost>() || is_driver_lost(&**cause),
        Error::Context { inner, .. } | Error::WithPath { inner, .. } | Error::WithBacktrace { inner, .. } => candle_is_lost(inner),
        _ => false,
    }
}

/// Returns true if an error means that a device is out of memory: an [`OutOfMemory`], or candle's error from the driver or cuBLAS.
pub fn is_out_of_memory(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<OutOfMemory>() || cause.downcast_ref().is_some_and(candle_is_out_of_memory))
}

/// Returns true if a candle error means that a device is out of memory.
pub(super) fn candle_is_out_of_memory(error: &Error) -> bool {
    match error {
        Error::Cuda(cause) => cause.is::<OutOfMemory>() || is_driver_out_of_memory(&**cause),
        Error::Context { inner, .. } | Error::WithPath { inner, .. } | Error::WithBacktrace { inner, .. } => candle_is_out_of_memory(inner),
        _ => false,
    }
}

#[cfg(not(feature = "cuda"))]
fn is_driver_out_of_memory(_: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    false
}

#[cfg(not(feature = "cuda"))]
fn is_driver_lost(_: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    false
}

#[cfg(feature = "cuda")]
use driver::{is_lost as is_driver_lost, is_out_of_memory as is_driver_out_of_memory};

/// Recognizes the two kinds of driver and library errors that callers react to.
#[cfg(feature = "cuda")]
pub mod driver {
    use std::error::Error as StdError;

    use candle_core::Error;
    use candle_core::cuda_backend::CudaError;
    use candle_core::cuda_backend::cudarc::cublas::{result::CublasError, sys::cublasStatus_t};
    use candle_core::cuda_backend::cudarc::cublaslt::{result::CublasError as CublasLtError, sys::cublasStatus_t as cublasLtStatus_t};
    use candle_core::cuda_backend::cudarc::driver::{DriverError, sys::CUresult};

    use super::{DeviceLost, OutOfMemory};

    /// An error from the driver or from a library that uses it.
    pub trait Fault {
        /// Returns true if the device is out of memory.
        fn is_out_of_memory(&self) -> bool;

        /// Returns true if the device stopped working. Libraries do not report this; the next call to the driver does.
        fn is_lost(&self) -> bool {
            false
        }
    }

    impl Fault for DriverError {
        fn is_out_of_memory(&self) -> bool {
            self.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY
        }

        /// Recognizes the faults of the GPU, its connection or a kernel after which the driver refuses every call of this process.
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

    /// Converts a fault to an error with this message: a typed one if callers can react to it.
    pub fn to_error(fault: &impl Fault, message: String) -> Error {
        match (fault.is_out_of_memory(), fault.is_lost()) {
            (true, _) => OutOfMemory::new(message).into(),
            (_, true) => DeviceLost(message).into(),
            _ => Error::Msg(message),
        }
    }

    /// Returns true if candle's inner error means that a device stopped working.
    pub fn is_lost(error: &(dyn StdError + Send + Sync + 'static)) -> bool {
        match error.downcast_ref() {
            Some(CudaError::Cuda(fault) | CudaError::Load { cuda: fault, .. }) => fault.is_lost(),
            _ => false,
        }
    }

    /// Returns true if candle's inner error means that a device is out of memory.
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
        fn is_lost_recognizes_gpu_driver_codes() {
            let check = |error: Error, expected| assert_eq!(super::super::is_lost(&error.into()), expected);
            let (lost, other) = (DriverError(CUresult::CUDA_ERROR_LAUNCH_FAILED), DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY));
            check(Err::<(), _>(lost).w().unwrap_err(), true);
            check(to_error(&lost, "cannot launch a kernel".to_owned()), true);
            check(Err::<(), _>(other).w().unwrap_err(), false);
            check(to_error(&other, "cannot launch a kernel".to_owned()), false);
        }

        #[test]
        fn is_out_of_memory_recognizes_gpu_driver_and_library_codes() {
            let check = |error: Error, expected| assert_eq!(super::super::is_out_of_memory(&error.into()), expected);
            let (full, other) = (DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY), DriverError(CUresult::CUDA_ERROR_INVALID_VALUE));
            check(Err::<(), _>(full).w().unwrap_err(), true);
            check(Err::<(), _>(other).w().unwrap_err(), false);
            check(to_error(&full, "cannot launch a kernel".to_owned()), true);
            check(to_error(&other, "cannot launch CUDA_ERROR_OUT_OF_MEMORY".to_owned()), false);
            check(Err::<(), _>(CublasError(cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED)).w().unwrap_err(), true);
            check(to_error(&CublasLtError(cublasLtStatus_t::CUBLAS_STATUS_ALLOC_FAILED), "cannot multiply".to_owned()), true);
            check(to_error(&CublasLtError(cublasLtStatus_t::CUBLAS_STATUS_INVALID_VALUE), "cannot multiply".to_owned()), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_by_others_reports_only_memory_beyond_the_drivers() {
        let memory = |others: u64| DeviceMemory { free: 0, total: 24 << 30, peak: 0, others };
        assert_eq!(memory(600 << 20).held_by_others(), None);
        assert!(memory(20 << 30).held_by_others().unwrap().contains("other processes hold 21.5 GB of the GPU's 25.8 GB: run nvidia-smi"));
    }

    #[test]
    fn is_out_of_memory_checks_types_and_not_messages() {
        let error = || Error::from(OutOfMemory::new("no memory for 12 bytes"));
        let check = |error: anyhow::Error, expected| assert_eq!(is_out_of_memory(&error), expected, "{error:?}");
        check(error().into(), true);
        check(anyhow::Error::new(error()).context("update failed"), true);
        check(error().context("a cache of 7 blocks").into(), true);
        check(OutOfMemory::new("no memory for 12 bytes").into(), true);
        check(anyhow::Error::msg("a server replied CUDA_ERROR_OUT_OF_MEMORY: out of memory"), false);
        check(Error::Msg("CUDA_ERROR_OUT_OF_MEMORY".to_owned()).into(), false);
        check(Error::Cuda("another fault".into()).into(), false);
        // Candle may append a backtrace.
        assert!(error().to_string().starts_with("no memory for 12 bytes"));
    }
}
