//! Draws a run's records as pictures, and provides the paper's published figures for comparison. Computes no scores and uses no model.

pub mod curve;
mod frame;
mod labels;
pub mod published;
mod series;
mod svg;
mod text;
