//! Transfers numbers between host and GPU asynchronously, through page-locked host memory.

use std::sync::{Arc, Mutex};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result::{memcpy_dtoh_async, memcpy_htod_async};
use candle_core::cuda_backend::cudarc::driver::sys::CUdeviceptr;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, PinnedHostSlice};
use candle_core::{Result, bail};

/// Numbers in each half of the upload buffer.
const HALF: usize = 2 << 20;

/// Transfers in one stream. The stream must outlive the host memory that it reads and writes, so the memory is dropped first (field order).
pub struct Transfers {
    uploads: Mutex<Uploads>,
    /// Host memory of finished reads, for reuse.
    returned: Arc<Mutex<Vec<PinnedHostSlice<u32>>>>,
    stream: Arc<CudaStream>,
}

/// Numbers on their way to host memory. The memory is reused or freed only after they have arrived. May outlive the `Gpu`.
struct Arrival {
    place: Option<PinnedHostSlice<u32>>,
    count: usize,
    arrived: CudaEvent,
    returned: Arc<Mutex<Vec<PinnedHostSlice<u32>>>>,
    _stream: Arc<CudaStream>,
}

/// An upload buffer in two halves, filled in turn. Before a half is reused, its earlier uploads must have arrived.
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
    /// Creates the upload buffer for transfers in this stream.
    ///
    /// # Errors
    /// If the host has no page-locked memory left.
    pub fn new(stream: Arc<CudaStream>) -> Result<Self> {
        let half = || pinned(&stream, HALF).map(|numbers| Half { numbers, used: 0, arrived: None });
        let uploads = Mutex::new(Uploads { halves: [half()?, half()?], current: 0 });
        Ok(Self { uploads, returned: Arc::default(), stream })
    }

    /// Starts copying numbers to device memory. `target` must have room for them.
    ///
    /// # Errors
    /// If the copy cannot be started, or the device reports an error while this waits for a half of the buffer.
    pub fn upload(&self, numbers: &[u32], target: CUdeviceptr) -> Result<()> {
        let Ok(mut uploads) = self.uploads.lock() else { bail!("another upload panicked") };
        let staged = match numbers.len() {
            0 => return Ok(()),
            // Too many for the buffer: the driver copies them before it returns.
            length if length > HALF => numbers,
            length => {
                if uploads.halves[uploads.current].used + length > HALF {
                    uploads.turn(&self.stream)?;
                }
                let current = uploads.current;
                let half = &mut uploads.halves[current];
                let place = half.used..half.used + length;
                half.used = place.end;
                let place = &mut half.numbers.as_mut_slice().w()?[place];
                place.copy_from_slice(numbers);
                place
            }
        };
        // SAFETY: the target has room by contract, and the staged numbers do not change until they have arrived.
        #[allow(unsafe_code)]
        unsafe { memcpy_htod_async(target, staged, self.stream.cu_stream()) }.w()
    }

    /// Starts copying `count` numbers from device memory. The returned closure waits until they have arrived.
    ///
    /// # Errors
    /// If there is no page-locked memory, or the copy cannot be started.
    pub fn fetch(&self, source: CUdeviceptr, count: usize) -> Result<impl FnOnce() -> Result<Vec<u32>> + Send + use<>> {
        let Ok(mut returned) = self.returned.lock() else { bail!("another transfer panicked") };
        let reused = returned.iter().position(|place| place.len() >= count).map(|place| returned.swap_remove(place));
        drop(returned);
        let mut place = match reused {
            Some(place) => place,
            None => pinned(&self.stream, count.next_power_of_two())?,
        };
        let target = &mut place.as_mut_slice().w()?[..count];
        // SAFETY: the tensor at this address has `count` numbers, and the memory is not read before the event.
        #[allow(unsafe_code)]
        unsafe { memcpy_dtoh_async(target, source, self.stream.cu_stream()) }.w()?;
        let arrived = self.stream.record_event(None).w()?;
        let arrival = Arrival { place: Some(place), count, arrived, returned: self.returned.clone(), _stream: self.stream.clone() };
        Ok(move || arrival.read())
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        // Uploads may still be in progress. An error cannot be returned here.
        let _ = self.stream.synchronize();
    }
}

impl Arrival {
    fn read(&self) -> Result<Vec<u32>> {
        self.arrived.synchronize().w()?;
        let Some(place) = &self.place else { bail!("the transfer has no host memory") };
        Ok(place.as_slice().w()?[..self.count].to_vec())
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        // Waits even if nobody has read the numbers. An error cannot be returned here; the next operation reports it.
        let arrived = self.arrived.synchronize().is_ok();
        if let (true, Some(place), Ok(mut returned)) = (arrived, self.place.take(), self.returned.lock()) {
            returned.push(place);
        }
    }
}

impl Uploads {
    fn turn(&mut self, stream: &CudaStream) -> Result<()> {
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
