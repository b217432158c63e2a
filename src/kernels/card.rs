//! Finds GPUs, and decides whether this program can use them.

use anyhow::{Result, bail};
use candle_core::{Device, DeviceLocation};

use super::confirmation::Card;

/// The oldest compute capability that supports bf16 products.
#[cfg(feature = "cuda")]
const LEAST_CAPABILITY: (i32, i32) = (8, 0);
/// The oldest CUDA version that a driver must support, as the driver reports it, and the driver release that supports it.
#[cfg(feature = "cuda")]
const LEAST_DRIVER: (i32, &str) = (13_000, "580");

/// Checks that this program can use a GPU.
///
/// # Errors
/// One sentence, if the GPU does not exist, or it or its driver is too old.
#[cfg(not(feature = "cuda"))]
pub fn usable(_: usize) -> Result<()> {
    bail!("this build has no CUDA support: build it with cargo build --release --features cuda, or use --device cpu")
}

/// Checks that this program can use a GPU.
///
/// # Errors
/// One sentence, if the GPU does not exist, or it or its driver is too old.
#[cfg(feature = "cuda")]
pub fn usable(number: usize) -> Result<()> {
    use super::fused::cuda;
    let (version, release) = LEAST_DRIVER;
    let found = cuda::driver_version()?;
    if found < version {
        let words = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
        bail!(
            "the NVIDIA driver supports CUDA {}, but this program needs {}: install driver {release} or newer, or use --device cpu",
            words(found),
            words(version)
        );
    }
    let gpu = cuda::describe(number)?;
    if gpu.capability < LEAST_CAPABILITY {
        let ((major, minor), (least, _)) = (gpu.capability, LEAST_CAPABILITY);
        bail!(
            "the {} has compute capability {major}.{minor}, but the kernels need {least}.0 (Ampere) or newer: use --device cpu",
            gpu.name
        );
    }
    Ok(())
}

/// The GPU with this number; none if there is no such GPU.
#[cfg(not(feature = "cuda"))]
pub fn card(_: usize) -> Option<Card> {
    None
}

/// The GPU with this number; none if there is no such GPU.
#[cfg(feature = "cuda")]
pub fn card(number: usize) -> Option<Card> {
    super::fused::cuda::describe(number).ok()
}

/// The GPU's name.
pub fn name(number: usize) -> Option<String> {
    card(number).map(|card| card.name)
}

/// The device's name in scores: cpu, or the name of the GPU.
pub fn device_name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cuda { gpu_id } => name(gpu_id).unwrap_or_else(|| format!("cuda:{gpu_id}")),
        _ => "cpu".to_owned(),
    }
}

/// The GPU behind a device; none for the CPU.
pub fn card_of(device: &Device) -> Option<Card> {
    match device.location() {
        DeviceLocation::Cuda { gpu_id } => card(gpu_id),
        _ => None,
    }
}
