//! Draws numbers as SVG pictures. Computes no scores, reads no files and knows no model.

pub mod curve;
mod frame;
mod labels;
mod series;
mod svg;
mod text;
