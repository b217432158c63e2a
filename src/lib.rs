//! Reinforcement learning with verifiable rewards from one training example.
pub mod draw;
pub mod flow;
pub mod kernels;
pub mod model;
