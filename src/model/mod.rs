//! One decoder for all families, on packed tokens, with explicit backward passes.
//!
//! Owns the arithmetic of a transformer and its weights; must never know what a reward, a step or a file of problems is. Families differ by
//! data (`config::ModelConfig`, `parameters`), not by code. Axis legend: t = token, w = hidden width, f = feed-forward width, v = vocabulary.

pub mod block;
pub mod config;
pub mod decoder;
pub mod export;
pub mod gradients;
pub mod head;
pub mod import;
pub mod initial;
pub mod layout;
pub mod lora;
pub mod packed;
pub mod parameters;
pub mod parts;
pub mod rotary;
pub mod shapes;
mod streamed;
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
