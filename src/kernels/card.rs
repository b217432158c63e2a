//! What GPUs there are, and whether this program can use them.

use anyhow::{Result, bail};
use candle_core::{Device, DeviceLocation};

use super::confirmation::Card;

/// The oldest compute capability that has products in bf16.
#[cfg(feature = "cuda")]
const LEAST_CAPABILITY: (i32, i32) = (8, 0);
/// The oldest CUDA version that a driver must support, as it gives it, and the driver's release that does.
#[cfg(feature = "cuda")]
const LEAST_DRIVER: (i32, &str) = (13_000, "580");

/// Refuses a GPU that this program cannot use, in one sentence that says why.
///
/// # Errors
/// When it is not there, too old, or its driver is.
#[cfg(not(feature = "cuda"))]
pub fn usable(_: usize) -> Result<()> {
    bail!("this build has no CUDA support: build it with cargo build --release --features cuda, or compute with --device cpu")
}

/// Refuses a GPU that this program cannot use, in one sentence that says why.
///
/// # Errors
/// When it is not there, too old, or its driver is.
#[cfg(feature = "cuda")]
pub fn usable(number: usize) -> Result<()> {
    use super::fused::cuda;
    let (version, release) = LEAST_DRIVER;
    let found = cuda::driver_version()?;
    if found < version {
        let words = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
        bail!(
            "the NVIDIA driver supports CUDA {}, this program needs {}: install driver {release} or newer, or use --device cpu",
            words(found),
            words(version)
        );
    }
    let gpu = cuda::describe(number)?;
    if gpu.capability < LEAST_CAPABILITY {
        let ((major, minor), (least, _)) = (gpu.capability, LEAST_CAPABILITY);
        bail!("the {} has compute capability {major}.{minor}, the kernels need {least}.0 (Ampere) or newer: use --device cpu", gpu.name);
    }
    Ok(())
}

/// The GPU of that number, where there is one.
#[cfg(not(feature = "cuda"))]
pub fn card(_: usize) -> Option<Card> {
    None
}

/// The GPU of that number, where there is one.
#[cfg(feature = "cuda")]
pub fn card(number: usize) -> Option<Card> {
    super::fused::cuda::describe(number).ok()
}

/// Its name.
pub fn name(number: usize) -> Option<String> {
    card(number).map(|card| card.name)
}

/// What computes, as scores name it: cpu, or the GPU's own name.
pub fn device_name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cuda { gpu_id } => name(gpu_id).unwrap_or_else(|| format!("cuda:{gpu_id}")),
        _ => "cpu".to_owned(),
    }
}

/// The GPU that a device is.
pub fn card_of(device: &Device) -> Option<Card> {
    match device.location() {
        DeviceLocation::Cuda { gpu_id } => card(gpu_id),
        _ => None,
    }
}
