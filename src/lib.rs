//! Reinforcement learning with verifiable rewards from one training example.
#![warn(missing_docs)]
pub mod data;
pub mod draw;
pub mod flow;
pub mod tiny;
