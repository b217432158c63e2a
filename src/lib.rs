//! Reinforcement learning with verifiable rewards from one training example.
#![warn(missing_docs)]
pub mod eval;
pub mod flow;
pub mod metrics;
pub mod report;
