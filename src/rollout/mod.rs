//! Responses from prompts: continuous batching over a paged cache.
//!
//! `scheduler` decides on plain data who runs, `engine` computes and samples, `limits` says what it may hold, `request` what is asked and what
//! happens to it. A response is a function of the weights and of its address (seed, step, prompt, sample), never of what else is in the batch.

pub mod engine;
pub mod limits;
pub mod pages;
pub mod request;
pub mod scheduler;

pub use engine::{BrokenModel, Engine};
pub use request::{Event, Request, SamplingSettings};
