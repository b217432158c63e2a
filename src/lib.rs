//! Reinforcement learning with verifiable rewards from one training example.
pub mod flow;
pub mod kernels;
