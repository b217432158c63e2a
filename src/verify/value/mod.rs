//! The values of expressions: one walk, several arithmetics, and the ladder that compares what they find.

pub mod approx;
mod approx_function;
pub mod ball;
mod ball_arithmetic;
pub mod decimal;
pub mod evaluate;
pub mod exact;
pub mod field;
mod series;
