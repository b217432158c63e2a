//! Bytes in the memory of a GPU, and how they move between ranks without passing through the host.

use anyhow::Result;

/// A range of a GPU's memory and the stream whose work uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceSlice {
    address: u64,
    bytes: usize,
    stream: u64,
}

impl DeviceSlice {
    /// Describes `bytes` bytes of device memory at `address`, used in order by the work in a CUDA stream (a `CUstream` as a number; 0 is the
    /// default stream).
    ///
    /// # Safety
    /// The memory must belong to the GPU on which the ranks joined and stay allocated until the work started in the stream has ended. The
    /// stream must exist until then, too.
    #[allow(unsafe_code)]
    pub unsafe fn new(address: u64, bytes: usize, stream: u64) -> Self {
        Self { address, bytes, stream }
    }

    /// The address of the first byte.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The number of bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// An empty range at the same address.
    #[must_use]
    pub fn empty(self) -> Self {
        Self { bytes: 0, ..self }
    }

    /// The stream whose work uses the memory.
    pub fn stream(&self) -> u64 {
        self.stream
    }
}

/// Moves bytes between the GPUs of the ranks. Methods return when the work is in the stream of the buffers: later work in that stream finds
/// the bytes, and the host must wait for the stream before it reads them. All ranks call the methods in the same order, also in relation to
/// those of [`Communicator`](super::Communicator), with lengths that match.
pub trait DeviceCommunicator: Send + Sync {
    /// Sends `send` to the rank `peer` and receives as many bytes as `receive` has from it. Either may be empty; the two must not overlap.
    ///
    /// # Errors
    /// If the connection fails or the buffers belong to two streams.
    fn exchange_device(&self, peer: usize, send: DeviceSlice, receive: DeviceSlice) -> Result<()>;

    /// Copies `buffer` of the rank `root` to the buffers of all ranks, which have the same length.
    ///
    /// # Errors
    /// If the connection fails.
    fn broadcast_device(&self, root: usize, buffer: DeviceSlice) -> Result<()>;
}
