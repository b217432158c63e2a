//! The sections of the page about one run. Each file but `headline` writes one section from the run's records.

pub mod benchmarks;
pub mod configuration;
pub mod gain;
mod headline;
pub mod pass_at_k;
pub mod start;
pub mod subjects;
pub mod training;
pub mod words;
