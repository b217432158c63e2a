//! Samples responses to prompts, with continuous batching over a paged key/value cache.
//!
//! `scheduler` decides on plain data which sequences run, `engine` computes and samples, `limits` sizes batches and memory, and `request`
//! defines the engine's input and events. A response depends only on the weights, its prompt, the sampling settings and the address of its
//! random numbers (seed, purpose, step, prompt, sample), not on the rest of the batch.

pub mod block_pool;
pub mod engine;
pub mod limits;
pub mod request;
pub mod scheduler;

pub use engine::{Engine, NonFiniteLogits};
pub use request::{Event, Request, SamplingSettings};
