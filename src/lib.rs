//! Reinforcement learning with verifiable rewards from one training example.
#![warn(missing_docs)]
pub mod data;
pub mod flow;
pub mod text;

#[cfg(test)]
pub(crate) mod testing;
