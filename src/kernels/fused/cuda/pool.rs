//! The memory of a GPU, and the driver's memory pool, from which tensors are allocated.

use candle_core::Result;
use candle_core::cuda_backend::cudarc::driver::CudaContext;
use candle_core::cuda_backend::cudarc::driver::result::{device, mem_pool};
use candle_core::cuda_backend::cudarc::driver::sys::{CUmemPool_attribute, CUmemoryPool};
use candle_core::cuda_backend::{CudaDevice, WrapErr};

use crate::kernels::DeviceMemory;

/// Returns the memory pool of the context's device.
///
/// # Errors
/// If the driver does not return it.
pub fn pool(context: &CudaContext) -> Result<CUmemoryPool> {
    // SAFETY: the context has a device.
    #[allow(unsafe_code)]
    unsafe { device::get_default_mem_pool(context.cu_device()) }.w()
}

/// Makes the pool keep freed memory. By default, it returns freed memory to the driver whenever the host waits for the device.
///
/// # Errors
/// If the driver refuses the setting.
pub fn keep_memory(context: &CudaContext) -> Result<()> {
    let mut threshold = u64::MAX;
    // SAFETY: the attribute is a number of 8 bytes.
    #[allow(unsafe_code)]
    unsafe { mem_pool::set_attribute(pool(context)?, CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (&raw mut threshold).cast()) }
        .w()
}

/// Measures the memory of a GPU. Waits for started work first, because memory that it frees counts as free only afterwards.
///
/// # Errors
/// If the device or the driver reports an error.
pub fn memory(cuda: &CudaDevice) -> Result<DeviceMemory> {
    let stream = cuda.cuda_stream();
    let context = stream.context();
    let pool = pool(context)?;
    let attribute = |attribute| {
        let mut value = 0u64;
        // SAFETY: the attribute is a number of 8 bytes.
        #[allow(unsafe_code)]
        unsafe { mem_pool::get_attribute(pool, attribute, (&raw mut value).cast()) }.w().map(|()| value)
    };
    context.synchronize().w()?;
    let (free, total) = context.mem_get_info().w()?;
    let (reserved, used) = (
        attribute(CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?,
        attribute(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
    );
    let peak = attribute(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?;
    let (free, total) = (free as u64, total as u64);
    Ok(DeviceMemory { free: free + reserved.saturating_sub(used), total, peak, others: total.saturating_sub(free + reserved) })
}
