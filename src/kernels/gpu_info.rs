//! Finds GPUs and decides whether this program can use them.

use anyhow::{Result, bail};
use candle_core::{Device, DeviceLocation};

use super::confirmation::GpuInfo;

/// The lowest compute capability that supports bf16 products.
#[cfg(feature = "cuda")]
const MIN_CAPABILITY: (i32, i32) = (8, 0);
/// The CUDA version that the driver must support, in the driver's format, and the first driver release that supports it.
#[cfg(feature = "cuda")]
const MIN_DRIVER: (i32, &str) = (13_000, "580");

/// Checks that this program can use GPU number `number`.
///
/// # Errors
/// Always, because this build has no CUDA support.
#[cfg(not(feature = "cuda"))]
pub fn check_usable(_: usize) -> Result<()> {
    bail!("this build has no CUDA support: build it with cargo build --release --features cuda, or use --device cpu")
}

/// Checks that this program can use GPU number `number`.
///
/// # Errors
/// If the GPU does not exist, or if it or its driver is too old. The message is one sentence.
#[cfg(feature = "cuda")]
pub fn check_usable(number: usize) -> Result<()> {
    use super::fused::cuda;
    let (version, release) = MIN_DRIVER;
    let found = cuda::driver_version()?;
    if found < version {
        let format_version = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
        bail!(
            "the NVIDIA driver supports CUDA {}, but this program needs {}: install driver {release} or newer, or use --device cpu",
            format_version(found),
            format_version(version)
        );
    }
    let gpu = cuda::describe(number)?;
    if gpu.capability < MIN_CAPABILITY {
        let ((major, minor), (required, _)) = (gpu.capability, MIN_CAPABILITY);
        bail!(
            "the {} has compute capability {major}.{minor}, but the kernels need {required}.0 (Ampere) or newer: use --device cpu",
            gpu.name
        );
    }
    Ok(())
}

/// Returns 0, because this build has no CUDA support.
#[cfg(not(feature = "cuda"))]
pub fn count() -> usize {
    0
}

/// Returns the number of GPUs that this process sees; 0 if the driver cannot count them.
#[cfg(feature = "cuda")]
pub fn count() -> usize {
    super::fused::cuda::count().unwrap_or(0)
}

/// Returns `None`, because this build has no CUDA support.
#[cfg(not(feature = "cuda"))]
pub fn info(_: usize) -> Option<GpuInfo> {
    None
}

/// Describes the GPU with this number; `None` if there is no such GPU or the driver cannot query it.
#[cfg(feature = "cuda")]
pub fn info(number: usize) -> Option<GpuInfo> {
    super::fused::cuda::describe(number).ok()
}

/// Returns the name of the GPU with this number; `None` if there is no such GPU or the driver cannot query it.
pub fn name(number: usize) -> Option<String> {
    info(number).map(|gpu| gpu.name)
}

/// Returns the device's name as written to score files: `cpu` or the name of the GPU.
pub fn device_name(device: &Device) -> String {
    gpu_number(device).map_or_else(|| "cpu".to_owned(), |number| name(number).unwrap_or_else(|| format!("cuda:{number}")))
}

/// Returns the number of the GPU of a device; `None` for the CPU.
pub fn gpu_number(device: &Device) -> Option<usize> {
    match device.location() {
        DeviceLocation::Cuda { gpu_id } => Some(gpu_id),
        _ => None,
    }
}

/// Describes the GPU of a device; `None` for the CPU, and if the driver cannot query the GPU.
pub fn info_of(device: &Device) -> Option<GpuInfo> {
    gpu_number(device).and_then(info)
}
