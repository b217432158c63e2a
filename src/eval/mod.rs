//! Evaluation: what a model can do, measured on problems that it was not trained on, and how sure one may be of the measurement.
//! Nothing in this room changes a model.

pub mod statistics;
