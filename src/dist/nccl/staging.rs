//! A buffer on the device through which bytes of the host travel, in a stream of its own.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr};

use super::abi::Buffer;

/// The size of the buffer, which sends and receives halve. Larger pieces are not faster.
pub const ROOM: usize = 32 << 20;

/// The buffer.
pub struct Staging {
    memory: CudaSlice<u8>,
    address: u64,
    stream: Arc<CudaStream>,
}

impl Staging {
    /// Allocates the buffer.
    ///
    /// # Errors
    /// If the GPU has too little memory.
    pub fn new(context: &Arc<CudaContext>) -> Result<Self> {
        let stream = context.new_stream()?;
        let memory = stream.alloc_zeros::<u8>(ROOM).with_context(|| format!("the GPU has no {} MiB for NCCL", ROOM >> 20))?;
        let address = memory.device_ptr(&stream).0;
        Ok(Self { memory, address, stream })
    }

    /// Describes a range of the buffer.
    pub fn part(&self, range: Range<usize>) -> Buffer {
        Buffer { address: self.address + range.start as u64, bytes: range.len(), stream: self.stream.cu_stream() as u64 }
    }

    /// Copies bytes from the host to a place in the buffer.
    ///
    /// # Errors
    /// If the device fails.
    pub fn upload(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        if !bytes.is_empty() {
            self.stream.memcpy_htod(bytes, &mut self.memory.slice_mut(at..at + bytes.len()))?;
        }
        Ok(())
    }

    /// Copies bytes from a place in the buffer to the host, and waits until all work has ended.
    ///
    /// # Errors
    /// If the device fails.
    pub fn download(&self, at: usize, bytes: &mut [u8]) -> Result<()> {
        let copied = match bytes.len() {
            0 => Ok(()),
            length => self.stream.memcpy_dtoh(&self.memory.slice(at..at + length), bytes),
        };
        // Waits after an error, too: a copy that was started must not write to `bytes` later.
        self.stream.synchronize()?;
        Ok(copied?)
    }
}
