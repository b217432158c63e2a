//! Copies, conversions and scaling with candle's stock operations, shared by [`Cpu`](super::Cpu) and [`Stock`](super::Stock). Also the safe
//! ways to copy a tensor to the host and to wait for a device.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

/// Copies a tensor to the host. Waits for the device, which may still be writing the data when candle's own copy returns.
///
/// # Errors
/// If the device fails.
pub fn on_host(tensor: &Tensor) -> Result<Tensor> {
    let host = tensor.to_device(&Device::Cpu)?;
    wait_for(tensor.device())?;
    Ok(host)
}

/// Waits until a device has finished all work that was started on it. Unlike the error of candle's own function, the error shows whether the
/// device was lost.
///
/// # Errors
/// If the device fails, or an earlier operation on it failed.
pub fn wait_for(device: &Device) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = device {
        return candle_core::cuda_backend::WrapErr::w(cuda.cuda_stream().synchronize());
    }
    device.synchronize()
}

pub(super) fn cast(x: &Tensor, dtype: DType, device: &Device) -> Result<Tensor> {
    x.to_device(device)?.to_dtype(dtype)
}

pub(super) fn set(target: &Tensor, source: &Tensor) -> Result<()> {
    target.slice_set(&cast(source, target.dtype(), target.device())?, 0, 0)
}

pub(super) fn columns(matrix: &Tensor, columns: Range<usize>) -> Result<Tensor> {
    matrix.narrow(1, columns.start, columns.len())?.force_contiguous()?.to_dtype(DType::F32)
}

pub(super) fn set_columns(target: &Tensor, first: usize, source: &Tensor) -> Result<()> {
    target.slice_set(&source.to_dtype(target.dtype())?, 1, first)
}

pub(super) fn stack(parts: &[&Tensor]) -> Result<Tensor> {
    match parts {
        [only] => only.force_contiguous(),
        several => Tensor::cat(several, 0),
    }
}

pub(super) fn scaled(x: &Tensor, factor: f64) -> Result<Tensor> {
    x.contiguous()? * factor
}

pub(super) fn mix_in_place(average: &Tensor, x: &Tensor, decay: f64) -> Result<()> {
    let x = cast(x, DType::F32, average.device())?;
    let mixed = (average.affine(decay, 0.0)? + x.affine(1.0 - decay, 0.0)?)?;
    average.slice_set(&mixed, 0, 0)
}
