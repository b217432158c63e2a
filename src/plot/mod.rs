//! Draws numbers as SVG pictures. Computes no scores, reads no files and knows no model.
//!
//! Does not use plotters, because its backends round to whole pixels, which turns smooth curves into stairs even in vector pictures. It
//! also lacks dark mode, end-of-line labels that avoid each other, gaps at NaN values, and captions.

mod axis;
pub mod chart;
pub mod curve;
mod frame;
pub mod inline;
mod labels;
mod legend;
mod note;
mod number;
mod path;
mod reduce;
mod svg;
mod text;
mod theme;
