//! The embedded base model: a tiny decoder that is pre-trained from nothing on a synthetic corpus. Its problems are data (`crate::data::tiny`);
//! here is how the corpus answers them, and the tokenizer.

pub mod corpus;
pub mod embedded;
pub mod mixture;
pub mod pretrain;
mod ranges;
pub mod tokenizer;
pub mod ways;
