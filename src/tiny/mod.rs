//! The embedded base model: a tiny decoder, pre-trained from scratch on a synthetic corpus. Owns the corpus, the tokenizer, pre-training
//! and the model's files. The problems are in `crate::data::tiny`.

pub mod answer_style;
pub mod corpus;
pub mod embedded;
pub mod mixture;
pub mod pretrain;
mod ranges;
pub mod tokenizer;
