//! Loads problems: the paper's examples, the benchmarks, the embedded model's arithmetic, and the user's own files.
//!
//! Owns where each file comes from, its checksum, and how its rows become a [`Problem`](crate::flow::Problem). Independent of how answers
//! are graded, how models work and how prompts are rendered.

pub mod benchmark;
mod choices;
mod conversation;
pub mod example;
mod fetch;
mod gold;
pub mod hub;
mod parquet;
pub mod pinned;
mod ranking;
pub mod registry;
mod rows;
mod store;
pub mod tiny;
mod value;
mod verl;

pub use fetch::{DownloadProgress, OnProgress, sha256_of};
pub use gold::answers;
pub use ranking::{Ranked, rank_by_std, read_history};
pub use store::{DataStore, FileStatus};
