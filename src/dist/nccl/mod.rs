//! NCCL, which moves bytes between the memories of NVIDIA GPUs. Owns the library, the way in which ranks find each other, and a watchdog,
//! since NCCL waits for lost ranks without a time limit. It never adds numbers: NCCL chooses the order of a sum by the number of ranks.
//!
//! The library is loaded when ranks join, so the program starts without it. Only `communicator` and `staging` need the feature `cuda`.

pub mod abi;
#[cfg(feature = "cuda")]
mod communicator;
pub mod environment;
pub mod library;
pub mod pieces;
#[cfg(feature = "cuda")]
mod staging;
#[cfg(all(test, feature = "cuda"))]
mod trial;
pub mod unique_id;
pub mod watchdog;

#[cfg(feature = "cuda")]
pub use communicator::join;
pub use library::Library;
pub use unique_id::Meeting;
