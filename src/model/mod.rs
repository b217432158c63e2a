//! One decoder for all model families, on packed tokens, with explicit backward passes.
//!
//! Owns a transformer's weights and arithmetic. Knows nothing about rewards, training steps or problems. Families differ in data (`config`,
//! `parameters`), not in code.
//!
//! Axis legend: t = token, w = hidden width, f = feed-forward width, v = vocabulary, q = query heads, kv = key/value heads, d = head
//! dimension, r = LoRA rank.

pub mod block;
pub mod checkpoint_tensors;
pub mod config;
pub mod decoder;
pub mod export;
pub mod gradients;
pub mod head;
pub mod import;
pub mod init;
pub mod known_models;
pub mod layout;
pub mod lora;
mod offload;
pub mod packed;
pub mod parameters;
pub mod rotary;
pub mod tensor_file;
pub mod value;
pub mod weights;

pub use config::ModelConfig;
pub use decoder::Decoder;
pub use gradients::Gradients;
pub use lora::Lora;
pub use packed::Packed;
pub use value::ValueModel;
pub use weights::Weights;

#[cfg(test)]
mod tests;
