//! Pictures and pages for people, made from what a run has recorded. Nothing here computes a score or touches a model.

pub mod curve;
mod frame;
mod labels;
mod series;
mod svg;
mod text;
mod words;
