//! The sections of the page about one run. Each file writes one section from the run's records.

pub mod benchmarks;
pub mod configuration;
pub mod gain;
pub mod pass_at_k;
pub mod start;
pub mod subjects;
pub mod training;
pub mod words;
