//! Problems: the paper's examples, the benchmarks, and files of the user's own, wherever they lie. This room owns where data comes from, what
//! it must hash to and how each set's rows become a [`Problem`](crate::flow::Problem); it must never know how answers are graded, what a model
//! is, or how prompts are written.

pub mod benchmark;
pub mod catalogue;
mod choices;
pub mod example;
mod fetch;
mod gold;
pub mod hub;
mod library;
mod parquet;
pub mod pinned;
mod ranking;
mod rows;
pub mod tiny;
mod turns;
mod value;
mod verl;

pub use fetch::{OnTransfer, Transfer, sha256_of};
pub use gold::answers;
pub use library::{Library, Presence};
pub use ranking::{Ranked, by_deviation, read_history};
