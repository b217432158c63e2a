//! Reinforcement learning with verifiable rewards from one training example.
pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod data;
pub mod draw;
pub mod eval;
pub mod flow;
pub mod kernels;
pub mod lanes;
pub mod metrics;
pub mod model;
pub mod objective;
pub mod optim;
pub mod report;
pub mod reward;
pub mod rollout;
pub mod text;
pub mod tiny;
pub mod train;
pub mod verify;

#[cfg(test)]
pub(crate) mod testing;
