//! Pictures for people, made from what a run has recorded, and the published figures that stand beside it. Nothing here computes a score or
//! touches a model.

pub mod curve;
mod frame;
mod labels;
pub mod published;
mod series;
mod svg;
mod text;
