//! Copies u32 numbers between host and GPU asynchronously, through page-locked host memory.

use std::sync::{Arc, Mutex};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result::{memcpy_dtoh_async, memcpy_htod_async};
use candle_core::cuda_backend::cudarc::driver::sys::CUdeviceptr;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, PinnedHostSlice};
use candle_core::{Result, bail};

/// The number of u32 in each half of the upload buffer.
const HALF: usize = 2 << 20;

/// Transfers in one stream. Fields are dropped in order: the stream must outlive the host memory that it reads and writes.
pub struct Transfers {
    uploads: Mutex<Uploads>,
    /// Host memory of finished reads, for reuse.
    returned: Arc<Mutex<Vec<PinnedHostSlice<u32>>>>,
    stream: Arc<CudaStream>,
}

/// A copy to host memory that is in progress. The memory is reused or freed only after the data has arrived. May outlive the `Gpu`.
struct PendingFetch {
    memory: Option<PinnedHostSlice<u32>>,
    count: usize,
    arrived: CudaEvent,
    returned: Arc<Mutex<Vec<PinnedHostSlice<u32>>>>,
    _stream: Arc<CudaStream>,
}

/// An upload buffer with two halves, filled in turn. Before a half is reused, its earlier uploads must have arrived.
struct Uploads {
    halves: [Half; 2],
    current: usize,
}

struct Half {
    numbers: PinnedHostSlice<u32>,
    used: usize,
    /// Recorded when the half was full.
    arrived: Option<CudaEvent>,
}

impl Transfers {
    /// Creates transfers in this stream, and allocates their upload buffer.
    ///
    /// # Errors
    /// If the host has no page-locked memory left.
    pub fn new(stream: Arc<CudaStream>) -> Result<Self> {
        let half = || pinned(&stream, HALF).map(|numbers| Half { numbers, used: 0, arrived: None });
        let uploads = Mutex::new(Uploads { halves: [half()?, half()?], current: 0 });
        Ok(Self { uploads, returned: Arc::default(), stream })
    }

    /// Starts copying numbers to device memory at `target`, which must have room for them.
    ///
    /// # Errors
    /// If the copy cannot be started, or the device reports an error while this call waits for a half of the buffer.
    pub fn upload(&self, numbers: &[u32], target: CUdeviceptr) -> Result<()> {
        let Ok(mut uploads) = self.uploads.lock() else { bail!("another upload panicked") };
        let staged = match numbers.len() {
            0 => return Ok(()),
            // Too many for the buffer. The memory is not page-locked, so the driver copies the numbers before it returns.
            length if length > HALF => numbers,
            length => {
                if uploads.halves[uploads.current].used + length > HALF {
                    uploads.switch_half(&self.stream)?;
                }
                let current = uploads.current;
                let half = &mut uploads.halves[current];
                let range = half.used..half.used + length;
                half.used = range.end;
                let staged = &mut half.numbers.as_mut_slice().w()?[range];
                staged.copy_from_slice(numbers);
                staged
            }
        };
        // SAFETY: the target has room by contract, and the staged numbers do not change until they have arrived.
        #[allow(unsafe_code)]
        unsafe { memcpy_htod_async(target, staged, self.stream.cu_stream()) }.w()
    }

    /// Starts copying `count` numbers from device memory. The returned closure waits for them and returns them.
    ///
    /// # Errors
    /// If there is no page-locked memory, or the copy cannot be started.
    pub fn fetch(&self, source: CUdeviceptr, count: usize) -> Result<impl FnOnce() -> Result<Vec<u32>> + Send + use<>> {
        let Ok(mut returned) = self.returned.lock() else { bail!("another transfer panicked") };
        let reused = returned.iter().position(|memory| memory.len() >= count).map(|index| returned.swap_remove(index));
        drop(returned);
        let mut memory = match reused {
            Some(memory) => memory,
            None => pinned(&self.stream, count.next_power_of_two())?,
        };
        let target = &mut memory.as_mut_slice().w()?[..count];
        // SAFETY: the tensor at this address has `count` numbers, and the memory is not read before the event.
        #[allow(unsafe_code)]
        unsafe { memcpy_dtoh_async(target, source, self.stream.cu_stream()) }.w()?;
        let arrived = self.stream.record_event(None).w()?;
        let pending = PendingFetch { memory: Some(memory), count, arrived, returned: self.returned.clone(), _stream: self.stream.clone() };
        Ok(move || pending.read())
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        // Uploads may still be in progress. An error cannot be returned here.
        let _ = self.stream.synchronize();
    }
}

impl PendingFetch {
    fn read(&self) -> Result<Vec<u32>> {
        self.arrived.synchronize().w()?;
        let Some(memory) = &self.memory else { bail!("the transfer has no host memory") };
        Ok(memory.as_slice().w()?[..self.count].to_vec())
    }
}

impl Drop for PendingFetch {
    fn drop(&mut self) {
        // Waits even if the numbers were not read. An error cannot be returned here; the next operation reports it.
        let arrived = self.arrived.synchronize().is_ok();
        if let (true, Some(memory), Ok(mut returned)) = (arrived, self.memory.take(), self.returned.lock()) {
            returned.push(memory);
        }
    }
}

impl Uploads {
    fn switch_half(&mut self, stream: &CudaStream) -> Result<()> {
        self.halves[self.current].arrived = Some(stream.record_event(None).w()?);
        self.current = 1 - self.current;
        let half = &mut self.halves[self.current];
        if let Some(arrived) = half.arrived.take() {
            arrived.synchronize().w()?;
        }
        half.used = 0;
        Ok(())
    }
}

/// Allocates page-locked host memory and fills it with zeros.
fn pinned(stream: &CudaStream, numbers: usize) -> Result<PinnedHostSlice<u32>> {
    // SAFETY: every number is written before it is read.
    #[allow(unsafe_code)]
    let mut memory = unsafe { stream.context().alloc_pinned_with_flags(numbers, 0) }.w()?;
    memory.as_mut_slice().w()?.fill(0);
    Ok(memory)
}
