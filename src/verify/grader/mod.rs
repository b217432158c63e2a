//! Notions of equality of published graders, written anew from what they do, for scores that must be comparable.

pub mod deepscaler;
mod deepscaler_text;
pub mod qwen;
pub mod strict;
