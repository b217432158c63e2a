//! Describes the memory of tensors, for libraries that move it between GPUs.

use candle_core::{Result, Tensor};

use crate::dist::DeviceSlice;

/// Describes the memory of a contiguous tensor on a GPU, to send it to other ranks. `None` for a tensor on the host.
///
/// # Errors
/// If the tensor is not contiguous.
pub fn device_slice(tensor: &Tensor) -> Result<Option<DeviceSlice>> {
    #[cfg(feature = "cuda")]
    if tensor.device().is_cuda() {
        return super::fused::cuda::device_slice(tensor).map(Some);
    }
    let _ = tensor;
    Ok(None)
}
