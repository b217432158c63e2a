//! Samples responses to prompts, with continuous batching over a paged key/value cache.
//!
//! `scheduler` decides on plain data which sequences run, `engine` computes and samples, `limits` bounds its memory, and `request` defines
//! its input and events. A response is a function of the weights and its address (seed, step, prompt, sample), and does not depend on the
//! rest of the batch.

pub mod block_pool;
pub mod engine;
pub mod limits;
pub mod request;
pub mod scheduler;

pub use engine::{Engine, NonFiniteLogits};
pub use request::{Event, Request, SamplingSettings};
