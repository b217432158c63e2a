//! Queries the NVIDIA driver for its version and its GPUs.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result::device;
use candle_core::cuda_backend::cudarc::driver::sys::{CUdevice_attribute, cuDriverGetVersion};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError};
use candle_core::{Error, Result};

use crate::kernels::confirmation::GpuInfo;

/// Returns the CUDA version that the driver supports, as 1000 times the major version plus 10 times the minor version.
///
/// # Errors
/// If the driver does not report it.
pub fn driver_version() -> Result<i32> {
    let mut version = 0;
    // SAFETY: the driver writes one number.
    #[allow(unsafe_code)]
    unsafe { cuDriverGetVersion(&raw mut version) }.result().w()?;
    Ok(version)
}

/// Returns the release that the driver's kernel module reports, such as 580.95.05; `None` if it reports none.
fn driver_release() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let is_release =
        |word: &&str| word.contains('.') && word.split('.').all(|part| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit()));
    text.lines().next()?.split_whitespace().find(is_release).map(str::to_owned)
}

/// Returns the number of GPUs.
///
/// # Errors
/// If the driver finds none or does not answer.
pub fn count() -> std::result::Result<usize, DriverError> {
    CudaContext::device_count().map(|count| count as usize)
}

/// Describes the GPU with this number.
///
/// # Errors
/// If there is no such GPU, or the driver cannot query it.
pub fn describe(ordinal: usize) -> Result<GpuInfo> {
    let text = |error: DriverError| error.error_string().map_or_else(|_| error.to_string(), |text| text.to_string_lossy().into_owned());
    let none = |error| Error::Msg(format!("the NVIDIA driver finds no GPU ({}): use --device cpu", text(error)));
    let count = count().map_err(none)?;
    if ordinal >= count {
        return Err(Error::Msg(format!(
            "there is no GPU {ordinal}: the driver finds only {count}; use --device cuda:N with N below {count}, or --device cpu"
        )));
    }
    let unusable = |error| Error::Msg(format!("GPU {ordinal} cannot be used ({}): use --device cpu", text(error)));
    // Queries need no context, whose creation would take a noticeable fraction of a second.
    let device = device::get(ordinal as i32).map_err(unusable)?;
    // SAFETY: the driver returned this device.
    #[allow(unsafe_code)]
    let attribute = |attribute| unsafe { device::get_attribute(device, attribute) }.map_err(unusable);
    use CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let (name, capability) = (device::get_name(device).map_err(unusable)?, (attribute(MAJOR)?, attribute(MINOR)?));
    let version = driver_version()?;
    let driver = driver_release().unwrap_or_else(|| format!("CUDA {}.{}", version / 1000, version % 1000 / 10));
    Ok(GpuInfo { name, capability, driver })
}
