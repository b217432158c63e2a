//! Processes ("ranks") that compute one run together. Owns who they are and how bytes travel between them; knows nothing about tensors.
//!
//! A [`Communicator`] moves bytes. [`Solo`] is a single process, [`threads`] connects threads of one process in tests, [`mpi`] uses the MPI
//! library that is installed, and [`nccl`] NVIDIA's library, which also moves bytes between GPUs. [`launch`] finds out who started the
//! process and joins the others. The [`World`] offers what the rest of the program needs on top: dealing items over ranks, collecting values,
//! and agreeing on a decision.

pub mod agreement;
pub mod device;
pub mod launch;
pub mod members;
#[allow(unsafe_code)] // calls a C library
pub mod mpi;
pub mod nccl;
pub mod solo;
pub mod threads;
pub mod world;

use anyhow::Result;

pub use device::{DeviceCommunicator, DeviceSlice};
pub use solo::Solo;
pub use world::World;

/// A call to other ranks failed, usually because one of them has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLost {
    /// The call and what the library says.
    pub what: String,
}

impl std::fmt::Display for ConnectionLost {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.write_str(&self.what)
    }
}

impl std::error::Error for ConnectionLost {}

/// Moves bytes between the ranks of a run. All ranks call the same methods in the same order, with lengths that match.
///
/// Methods return when the bytes have arrived. If a rank ends, the launcher ends the others; until then they may wait.
pub trait Communicator: Send + Sync {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn world(&self) -> usize;

    /// Sends `send` to the rank `peer` and receives as many bytes as `receive` has from it. Either may be empty; the peer's call has the
    /// lengths exchanged.
    ///
    /// # Errors
    /// If the connection fails.
    fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<()>;

    /// Copies `buffer` of the rank `root` to the buffers of all ranks, which have the same length.
    ///
    /// # Errors
    /// If the connection fails.
    fn broadcast(&self, root: usize, buffer: &mut [u8]) -> Result<()>;

    /// Returns the bytes of every rank, in rank order. Their lengths may differ.
    ///
    /// # Errors
    /// If the connection fails.
    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Ends all ranks with this exit code. Any thread may call it at any time.
    fn abort(&self, code: i32) -> !;

    /// Leaves the group after all ranks have succeeded. No other method may be called after it.
    ///
    /// # Errors
    /// If the connection fails.
    fn finish(&self) -> Result<()>;

    /// Moves bytes between GPUs without the host, if this communicator can.
    fn device(&self) -> Option<&dyn DeviceCommunicator> {
        None
    }
}
